//! Writes results and notifications into a frame; by hand where bytes are hot, by serde elsewhere.

use serde::Serialize;

use crate::bytes;

/// Something that can write itself as compact JSON.
pub trait WireEncode {
    /// Appends the JSON to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// About how many bytes that will be; never too few for results that carry bytes, so that a frame never moves.
    fn expected_len(&self) -> usize {
        256
    }
}

/// The length of `bytes` bytes as padded base64.
pub const fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Appends any serde value as compact JSON.
pub fn json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let start = out.len();
    // Our types have string keys and no failing impls, and a Vec takes every write.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Appends `"<base64>"`.
pub fn base64_string(data: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    bytes::append(data, out);
    out.push(b'"');
}

/// Appends a decimal number.
pub fn number(value: u64, out: &mut Vec<u8>) {
    json(&value, out);
}

/// Implements [`WireEncode`] through serde for results that are never large.
macro_rules! encode_with_serde {
    ($($ty:ty),* $(,)?) => {
        $(impl $crate::WireEncode for $ty {
            fn encode(&self, out: &mut Vec<u8>) {
                $crate::encode::json(self, out);
            }
        })*
    };
}
pub(crate) use encode_with_serde;

/// The empty object, `{}`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Empty {}

/// The params of a method that has none: missing, null or `{}` (section 4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoParams;

impl Serialize for NoParams {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> serde::Deserialize<'de> for NoParams {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = NoParams;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("no params, null or an empty object")
            }
            fn visit_unit<E>(self) -> Result<NoParams, E> {
                Ok(NoParams)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<NoParams, A::Error> {
                <Nothing as serde::Deserialize>::deserialize(serde::de::value::MapAccessDeserializer::new(
                    map,
                ))
                .map(|Nothing {}| NoParams)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

encode_with_serde!(Empty, serde_json::Value);
