//! Paths on the wire, in both dialects: native absolute, or a `file:` URI (section 7.1).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::RpcError;

/// Everything outside the unreserved set and the separator is escaped in answers.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path as it came, checked as far as the text alone can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WirePath {
    /// An absolute path of this machine's kind, from a native path or a URI.
    Local(PathBuf),
    /// A URI of another host or another kind of machine: refused where it is used.
    Foreign(String),
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid path {text:?}: {reason}; expected an absolute path or a file:// URI")]
pub struct InvalidPath {
    text: String,
    reason: &'static str,
}

impl WirePath {
    /// Reads a path in either dialect.
    ///
    /// # Errors
    /// Relative or empty text, `~`, another scheme, a query, a fragment, user info, a port, a NUL.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        let invalid = |reason| InvalidPath { text: text.chars().take(200).collect(), reason };
        if text.contains('\0') {
            return Err(invalid("it holds a NUL"));
        }
        if text.starts_with('/') {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        if !text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) {
            return Err(invalid("it is neither absolute nor a file URI"));
        }
        let url = url::Url::parse(text).map_err(|_| invalid("it is no valid URI"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("a query or fragment has no meaning in a path"));
        }
        if url.host_str().is_some_and(|host| !host.eq_ignore_ascii_case("localhost")) {
            return Ok(Self::Foreign(text.to_owned()));
        }
        let bytes: Vec<u8> = percent_decode_str(url.path()).collect();
        if bytes.contains(&0) {
            return Err(invalid("it holds a NUL"));
        }
        // Before decoding: `/C%3A/x` is how our own answers name a local directory `C:`.
        if let [b'/', drive, b':', rest @ ..] = url.path().as_bytes()
            && drive.is_ascii_alphabetic()
            && matches!(rest, [] | [b'/', ..])
        {
            return Ok(Self::Foreign(text.to_owned()));
        }
        Ok(Self::Local(PathBuf::from(OsString::from_vec(bytes))))
    }

    /// The local path, for `fs/*`.
    ///
    /// # Errors
    /// `-32600` for a foreign path.
    pub fn local(&self) -> Result<&Path, RpcError> {
        match self {
            Self::Local(path) => Ok(path),
            Self::Foreign(text) => Err(RpcError::invalid_request(format!(
                "path {text:?} belongs to another host or another kind of machine"
            ))),
        }
    }

    /// The URI form of a path, as answers have it.
    pub fn uri_of(path: &Path) -> String {
        format!("file://{}", percent_encode(path.as_os_str().as_bytes(), ESCAPED))
    }
}

impl From<PathBuf> for WirePath {
    fn from(path: PathBuf) -> Self {
        Self::Local(path)
    }
}

/// Written as a URI, the form every answer has (section 19).
impl Serialize for WirePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Local(path) => serializer.serialize_str(&Self::uri_of(path)),
            Self::Foreign(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for WirePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// A path that must be local to decode (`cwd`, watch and sandbox paths): foreign is `-32602`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPath(pub PathBuf);

impl Serialize for LocalPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&WirePath::uri_of(&self.0))
    }
}

impl<'de> Deserialize<'de> for LocalPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WirePath::deserialize(deserializer)? {
            WirePath::Local(path) => Ok(Self(path)),
            WirePath::Foreign(text) => Err(de::Error::custom(format!(
                "path {text:?} belongs to another host or another kind of machine"
            ))),
        }
    }
}
