//! Memory that this process uses.

use std::io;

/// Memory of this process in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use now.
    pub resident: u64,
    /// The most that was in use, since the start or the last [`reset_peak_memory`].
    pub peak: u64,
}

/// The memory of this process, as the kernel counts it.
pub fn memory_use() -> io::Result<MemoryUse> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    let missing = || {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "no memory figures in /proc/self/status",
        )
    };
    Ok(MemoryUse {
        resident: field("VmRSS:").ok_or_else(missing)?,
        peak: field("VmHWM:").ok_or_else(missing)?,
    })
}

/// Lets the peak start anew at what is in use now.
pub fn reset_peak_memory() -> io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_shows() {
        let before = memory_use().unwrap();
        let buffer = std::hint::black_box(vec![1u8; 64 << 20]);
        let during = memory_use().unwrap();
        assert!(
            during.peak >= before.resident + (60 << 20),
            "{before:?} {during:?}"
        );
        assert!(during.peak >= during.resident);
        drop(buffer);
    }
}
