//! Mutations of protocol buffers: fields change, lengths stay right.

use libfuzzer_sys::fuzzer_mutate;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers at which arithmetic tends to break.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    3,
    7,
    11,
    255,
    1 << 31,
    1 << 32,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// A field of a message.
#[derive(Clone)]
struct Field {
    number: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// Changes the first `size` bytes of `data`; the new size, at most `max`.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.into());
    let message = (!rng.random_ratio(1, 8))
        .then(|| parse(&data[..size], 0))
        .flatten();
    let Some(mut message) = message else {
        return fuzzer_mutate(data, size, max);
    };
    for _ in 0..rng.random_range(1..4) {
        change(&mut message, &mut rng);
    }
    let mut bytes = Vec::new();
    write(&message, &mut bytes);
    if bytes.len() > max {
        return fuzzer_mutate(data, size, max);
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
}

fn change(root: &mut Vec<Field>, rng: &mut ChaCha8Rng) {
    let total = count(root);
    if total == 0 {
        return;
    }
    let donor = nth(root, rng.random_range(0..total)).map(|(fields, i)| fields[i].clone());
    let Some((fields, at)) = nth(root, rng.random_range(0..total)) else {
        return;
    };
    let Some(donor) = donor else { return };
    match rng.random_range(0..8) {
        0 => drop(fields.remove(at)),
        1 => {
            let copy = fields[at].clone();
            fields.insert(rng.random_range(0..fields.len()), copy);
        }
        2 => {
            let other = rng.random_range(0..fields.len());
            fields.swap(at, other);
        }
        3 => fields.insert(at, donor),
        4 => fields[at].content = donor.content,
        _ => inside(&mut fields[at].content, donor.content, rng),
    }
}

fn inside(content: &mut Content, donor: Content, rng: &mut ChaCha8Rng) {
    match content {
        Content::Varint(n) => {
            *n = match rng.random_range(0..3) {
                0 => n.wrapping_add(1),
                1 => n.wrapping_sub(1),
                _ => NUMBERS[rng.random_range(0..NUMBERS.len())],
            }
        }
        Content::Fixed64(bytes) => bytes[rng.random_range(0..8)] = rng.random_range(0..=255),
        Content::Fixed32(bytes) => bytes[rng.random_range(0..4)] = rng.random_range(0..=255),
        Content::Bytes(bytes) => match (donor, rng.random_range(0..4)) {
            (Content::Bytes(other), 0..2) => *bytes = other,
            (_, 2) => bytes.truncate(rng.random_range(0..=bytes.len())),
            _ if bytes.is_empty() => bytes.push(b'a'),
            _ => {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random_range(0..=255);
            }
        },
        Content::Message(fields) => drop(fields.pop()),
    }
}

/// The fields of a message; none where the bytes are none.
fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let content = match key & 7 {
            0 => Content::Varint(varint(&mut bytes)?),
            1 => Content::Fixed64(*bytes.split_off(..8)?.first_chunk()?),
            5 => Content::Fixed32(*bytes.split_off(..4)?.first_chunk()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let part = bytes.split_off(..length)?;
                let text = part.iter().all(|b| b.is_ascii_graphic());
                match parse(part, depth + 1).filter(|f| !f.is_empty() && !text && depth < 8) {
                    Some(message) => Content::Message(message),
                    None => Content::Bytes(part.to_vec()),
                }
            }
            _ => return None,
        };
        let number = key >> 3;
        if number == 0 {
            return None;
        }
        fields.push(Field { number, content });
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for Field { number, content } in fields {
        let kind = match content {
            Content::Varint(_) => 0,
            Content::Fixed64(_) => 1,
            Content::Bytes(_) | Content::Message(_) => 2,
            Content::Fixed32(_) => 5,
        };
        write_varint(number << 3 | kind, out);
        match content {
            Content::Varint(n) => write_varint(*n, out),
            Content::Fixed64(bytes) => out.extend(bytes),
            Content::Fixed32(bytes) => out.extend(bytes),
            Content::Bytes(bytes) => {
                write_varint(bytes.len() as u64, out);
                out.extend(bytes);
            }
            Content::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                write_varint(inner.len() as u64, out);
                out.extend(inner);
            }
        }
    }
}

fn write_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// How many fields there are, those of inner messages included.
fn count(fields: &[Field]) -> usize {
    let inner = |field: &Field| match &field.content {
        Content::Message(fields) => count(fields),
        _ => 0,
    };
    fields.iter().map(|field| 1 + inner(field)).sum()
}

/// The field that comes `n`th when all are counted in order: its message and its place there.
fn nth(fields: &mut Vec<Field>, mut n: usize) -> Option<(&mut Vec<Field>, usize)> {
    for at in 0..fields.len() {
        if n == 0 {
            return Some((fields, at));
        }
        n -= 1;
        let inside = match &fields[at].content {
            Content::Message(inner) => count(inner),
            _ => 0,
        };
        if n < inside {
            return match &mut fields[at].content {
                Content::Message(inner) => nth(inner, n),
                _ => None,
            };
        }
        n -= inside;
    }
    None
}
