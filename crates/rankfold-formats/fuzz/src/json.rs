//! Mutations of inputs whose parts are JSON: what comes out is JSON again.

use libfuzzer_sys::fuzzer_mutate;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

use crate::entry::SEPARATOR;

/// Numbers at which arithmetic tends to break.
const NUMBERS: [i64; 14] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    255,
    65536,
    1 << 31,
    -(1 << 31),
    1 << 62,
    i64::MAX,
    i64::MIN,
];

/// Changes the first `size` bytes of `data`; the new size, at most `max`.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    if rng.random_ratio(1, 8) {
        return fuzzer_mutate(data, size, max);
    }
    let mut parts: Vec<Vec<u8>> = (data[..size].split(|&b| b == SEPARATOR))
        .map(<[u8]>::to_vec)
        .collect();
    let chosen = rng.random_range(0..parts.len());
    let Ok(mut value) = serde_json::from_slice::<Value>(&parts[chosen]) else {
        return fuzzer_mutate(data, size, max);
    };
    for _ in 0..rng.random_range(1..4) {
        change(&mut value, &mut rng);
    }
    parts[chosen] = value.to_string().replace('\0', "").into_bytes();
    let joined = parts.join(&SEPARATOR);
    if joined.len() > max {
        return fuzzer_mutate(data, size, max);
    }
    data[..joined.len()].copy_from_slice(&joined);
    joined.len()
}

fn change(root: &mut Value, rng: &mut ChaCha8Rng) {
    let count = count(root);
    let donor = nth(root, rng.random_range(0..count))
        .cloned()
        .unwrap_or_default();
    let Some(target) = nth(root, rng.random_range(0..count)) else {
        return;
    };
    match (rng.random_range(0..4), &mut *target) {
        (0, _) => *target = donor,
        (_, Value::Number(number)) => {
            let old = number.as_i64().unwrap_or(1);
            *target = match rng.random_range(0..4) {
                0 => old.wrapping_add(1).into(),
                1 => old.wrapping_sub(1).into(),
                2 => (rng.random_range(0..1000) as f64 / 10.0).into(),
                _ => NUMBERS[rng.random_range(0..NUMBERS.len())].into(),
            };
        }
        (_, Value::Array(items)) => in_list(items, donor, rng),
        (_, Value::Object(fields)) => in_object(fields, donor, rng),
        (_, Value::String(text)) => match (donor, rng.random_range(0..4)) {
            (Value::String(other), 0..3) => *text = other,
            (_, 3) => {
                text.pop();
            }
            _ => text.push('_'),
        },
        (_, Value::Bool(flag)) => *flag = !*flag,
        (_, Value::Null) => *target = donor,
    }
}

fn in_list(items: &mut Vec<Value>, donor: Value, rng: &mut ChaCha8Rng) {
    let at = |rng: &mut ChaCha8Rng, items: &[Value]| rng.random_range(0..items.len());
    match rng.random_range(0..5) {
        _ if items.is_empty() => items.push(donor),
        0 => drop(items.remove(at(rng, items))),
        1 => {
            let copy = items[at(rng, items)].clone();
            items.insert(at(rng, items), copy);
        }
        2 => {
            let (a, b) = (at(rng, items), at(rng, items));
            items.swap(a, b);
        }
        3 => items.truncate(at(rng, items)),
        _ => items.push(donor),
    }
}

fn in_object(fields: &mut Map<String, Value>, donor: Value, rng: &mut ChaCha8Rng) {
    let keys: Vec<String> = fields.keys().cloned().collect();
    if keys.is_empty() {
        return;
    }
    let key = &keys[rng.random_range(0..keys.len())];
    match rng.random_range(0..3) {
        0 => drop(fields.remove(key)),
        1 => {
            let value = fields.remove(key).unwrap_or_default();
            let name = match donor {
                Value::String(name) => name,
                _ => format!("{key}_"),
            };
            fields.insert(name, value);
        }
        _ => drop(fields.insert(key.clone(), donor)),
    }
}

/// How many values there are in `value`, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// The value that comes `n`th when all are counted in order.
fn nth(value: &mut Value, n: usize) -> Option<&mut Value> {
    if n == 0 {
        return Some(value);
    }
    let mut left = n - 1;
    let children: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Array(items) => Box::new(items.iter_mut()),
        Value::Object(fields) => Box::new(fields.values_mut()),
        _ => return None,
    };
    for child in children {
        let inside = count(child);
        if left < inside {
            return nth(child, left);
        }
        left -= inside;
    }
    None
}
