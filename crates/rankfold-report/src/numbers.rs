//! Numbers as they are read.

/// A number in groups of three digits.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent.
pub fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1}", 100.0 * part as f64 / whole as f64),
    }
}

/// A number of bytes in a unit that fits.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 || unit == "GB" {
            let digits = if unit == "B" { 0 } else { 2 };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{n} B")
}

/// A number of so many digits, with a letter for thousands and beyond: 270k, 40.8M.
pub(crate) fn compact(value: f64, digits: usize) -> String {
    let magnitude = value.abs();
    for (unit, letter) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if magnitude >= 0.9995 * unit {
            return format!("{}{letter}", significant(value / unit, digits));
        }
    }
    significant(value, digits)
}

/// A number of bytes on an axis: 0, 500 kB, 1.5 MB.
pub(crate) fn compact_bytes(value: f64, digits: usize) -> String {
    let text = compact(value, digits);
    match text.strip_suffix(['T', 'G', 'M', 'k']) {
        Some(number) => format!("{number} {}B", &text[number.len()..]),
        None => format!("{text} B"),
    }
}

/// A number of so many digits, without the zeros at its end; in powers of ten where it is very small.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0" } else { "–" }.to_owned();
    }
    let places = digits as i32 - 1 - value.abs().log10().floor() as i32;
    if places > 8 {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let text = format!("{value:.*}", places.max(0) as usize);
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A signed number with a true minus sign.
pub fn signed(value: f64, places: usize) -> String {
    format!("{value:+.places$}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.50 MB");
        assert_eq!(percent(1, 8), "12.5");
        assert_eq!(percent(1, 0), "–");
        assert_eq!(compact(269_722.0, 3), "270k");
        assert_eq!(compact(40_814_464.0, 3), "40.8M");
        assert_eq!(compact(999_999.0, 3), "1M");
        assert_eq!(compact(12.0, 3), "12");
        assert_eq!(compact_bytes(1_250_000.0, 3), "1.25 MB");
        assert_eq!(compact_bytes(0.0, 3), "0 B");
        assert_eq!(significant(0.21349, 3), "0.213");
        assert_eq!(significant(0.25, 3), "0.25");
        assert_eq!(significant(1234.6, 3), "1235");
        assert_eq!(significant(0.0, 3), "0");
        assert_eq!(significant(1.5e-12, 3), "1.50e-12");
        assert_eq!(significant(f64::NAN, 3), "–");
        assert_eq!(signed(-0.444, 2), "−0.44");
        assert_eq!(signed(0.1, 1), "+0.1");
    }
}
