//! The bytes of a record's value: JSON behind a one-byte version, so that a reader can refuse what it
//! does not know instead of guessing.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version 1: JSON in UTF-8.
pub const VERSION: u8 = 1;
/// Largest value that is decoded, in bytes: no honest batch comes near, a hostile one is refused unread.
pub const MAX_VALUE: usize = 16 * 1024 * 1024;

/// Why a record's value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all.
    #[error("the record is empty")]
    Empty,
    /// Written by another version of this program, or not by this program.
    #[error("the record has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// Larger than [`MAX_VALUE`].
    #[error("the record has {0} bytes; at most {MAX_VALUE} are read")]
    TooLarge(usize),
    /// The version is right, the content is not.
    #[error("the record's content is malformed: {0}")]
    Malformed(String),
}

/// The bytes of `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, value).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if bytes.len() > MAX_VALUE {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// The value in `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes {
        [] => Err(CodecError::Empty),
        _ if bytes.len() > MAX_VALUE => Err(CodecError::TooLarge(bytes.len())),
        [VERSION, json @ ..] => serde_json::from_slice(json).map_err(|e| CodecError::Malformed(e.to_string())),
        [version, ..] => Err(CodecError::Version(*version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_record_is_refused_by_name() {
        assert_eq!(decode::<u32>(b""), Err(CodecError::Empty));
        assert_eq!(decode::<u32>(b"{}"), Err(CodecError::Version(b'{')));
        assert!(matches!(decode::<u32>(b"\x01x"), Err(CodecError::Malformed(_))));
        assert_eq!(decode::<u32>(&encode(&5u32).expect("encodes")), Ok(5));
    }
}
