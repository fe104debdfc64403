//! The description of a network in fewer bytes.
//!
//! A file of coded weights is there to be small, and its description would be a third of it: there the
//! JSON is compressed (zlib) and written in base64.

use std::io::{Read, Write};

use base64ct::{Base64, Encoding};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::weights::HEADER_LIMIT;

/// A description, packed.
pub(crate) fn pack(json: &str) -> std::io::Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(json.as_bytes())?;
    Ok(Base64::encode_string(&encoder.finish()?))
}

/// The JSON of a description, which may be packed; the reason where it cannot be unpacked.
pub(crate) fn unpack(text: &str) -> Result<String, String> {
    if text.trim_start().starts_with('{') {
        return Ok(text.to_owned());
    }
    let bytes = Base64::decode_vec(text).map_err(|_| "it is neither JSON nor base64".to_owned())?;
    let mut json = String::new();
    let mut decoder = ZlibDecoder::new(&bytes[..]).take(HEADER_LIMIT + 1);
    decoder
        .read_to_string(&mut json)
        .map_err(|error| format!("it cannot be decompressed: {error}"))?;
    match json.len() as u64 > HEADER_LIMIT {
        true => Err(format!("it is longer than {HEADER_LIMIT} bytes")),
        false => Ok(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_comes_back_and_takes_less() {
        let json = format!("{{\"nodes\":[{}]}}", "{\"op\":\"conv\"},".repeat(500));
        let packed = pack(&json).unwrap();
        assert!(packed.len() * 20 < json.len(), "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), json);
        assert_eq!(unpack(&json).unwrap(), json);
    }

    #[test]
    fn what_is_no_description_is_told() {
        for (text, reason) in [
            ("no description", "neither JSON nor base64"),
            ("AAAA", "cannot be decompressed"),
            (
                &pack(&"x".repeat(1 << 20)).unwrap()[..40],
                "cannot be decompressed",
            ),
        ] {
            let told = unpack(text).unwrap_err();
            assert!(told.contains(reason), "{told}");
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = pack(&" ".repeat(HEADER_LIMIT as usize + 1)).unwrap();
        assert!(bomb.len() < 200_000);
        assert!(unpack(&bomb).unwrap_err().contains("longer than"));
    }
}
