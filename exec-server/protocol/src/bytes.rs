//! Byte strings on the wire: standard base64, padded, no white space (section 4).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{WireEncode, encode};

/// Bytes that travel as base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64Bytes(pub Vec<u8>);

impl std::fmt::Debug for Base64Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Base64Bytes({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Base64Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// Decodes standard, padded base64.
///
/// # Errors
/// A text with other characters, missing padding or white space.
pub fn decode(text: &str) -> Result<Vec<u8>, InvalidBase64> {
    base64_simd::STANDARD.decode_to_vec(text).map_err(|_| InvalidBase64)
}

/// Appends the standard, padded base64 of `bytes` to `out`.
pub fn append(bytes: &[u8], out: &mut Vec<u8>) {
    base64_simd::STANDARD.encode_append(bytes, out);
}

/// A text that is not standard, padded base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid base64: expected the standard alphabet with padding and no white space")]
pub struct InvalidBase64;

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_simd::STANDARD.encode_to_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Base64Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a base64 string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                decode(text).map(Base64Bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// The next bytes of an open file or of a stream.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The bytes. Of a file, fewer than were asked for only at its end; of a stream, none only at its end.
    pub chunk: Base64Bytes,
    /// Whether the end was reached.
    pub eof: bool,
}

impl WireEncode for Block {
    fn expected_len(&self) -> usize {
        encode::base64_len(self.chunk.0.len()) + 64
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"chunk\":");
        encode::base64_string(&self.chunk.0, out);
        out.extend_from_slice(b",\"eof\":");
        encode::json(&self.eof, out);
        out.push(b'}');
    }
}
