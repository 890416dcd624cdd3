//! The head of an HTTP/1.1 request that may become a websocket, and the answers to it.

use std::borrow::Cow;
use std::time::SystemTime;

use httparse::{EMPTY_HEADER, Header, Request, Status};
use tungstenite::handshake::derive_accept_key;

/// Headers of one request at most.
pub const HEADERS: usize = 96;

/// The head of an HTTP request: its first line and its headers.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// `GET` and the like.
    pub method: &'a str,
    target: &'a str,
    minor_version: u8,
    headers: [Header<'a>; HEADERS],
    header_count: usize,
}

/// Why bytes are no head that is answered otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// More than [`HEADERS`]: 431.
    #[error("more than {HEADERS} headers")]
    TooManyHeaders,
    /// Not HTTP: 400.
    #[error("not an HTTP request")]
    Malformed,
}

/// Why a request does not become a websocket: what released servers say to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoUpgrade {
    /// The status with its reason.
    pub status: &'static str,
    /// What the request lacks, as the text of the answer.
    pub text: &'static str,
}

/// Whether the bytes from `scanned` on complete a head; what is before is known not to.
pub fn has_head_end(bytes: &[u8], scanned: usize) -> bool {
    let from = scanned.saturating_sub(3);
    bytes[from..].windows(2).any(|pair| pair == b"\n\n")
        || bytes[from..].windows(4).any(|four| four == b"\r\n\r\n")
}

impl<'a> RequestHead<'a> {
    /// Reads a head and its length in bytes; `None` when it has not arrived in full.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn read(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut headers = [EMPTY_HEADER; HEADERS];
        let mut request = Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
            Err(_) => return Err(HeadError::Malformed),
        };
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let (minor_version, header_count) = (request.version.unwrap_or_default(), request.headers.len());
        Ok(Some((Self { method, target, minor_version, headers, header_count }, length)))
    }

    /// The values of a header, in order.
    pub fn values<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'a [u8]> + use<'r, 'a> {
        let headers = &self.headers[..self.header_count];
        headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii())
    }

    /// Whether a header lists this word, in any case.
    fn lists(&self, name: &str, word: &[u8]) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(word))
    }

    /// The path of the request's target, without scheme, authority and query.
    pub fn path(&self) -> &'a str {
        path(self.target)
    }

    /// The client's key, when this is a websocket's upgrade.
    ///
    /// # Errors
    /// See [`NoUpgrade`].
    pub fn websocket_key(&self) -> Result<&'a [u8], NoUpgrade> {
        let bad = |text| NoUpgrade { status: "400 Bad Request", text };
        if self.method != "GET" {
            let text = "Request method must be `GET`";
            return Err(NoUpgrade { status: "405 Method Not Allowed", text });
        }
        if !self.lists("connection", b"upgrade") {
            return Err(bad("Connection header did not include 'upgrade'"));
        }
        if !self.lists("upgrade", b"websocket") {
            return Err(bad("`Upgrade` header did not include 'websocket'"));
        }
        if self.values("sec-websocket-version").next() != Some(b"13") {
            return Err(bad("`Sec-WebSocket-Version` header did not include '13'"));
        }
        let Some(key) = self.values("sec-websocket-key").next() else {
            return Err(bad("`Sec-WebSocket-Key` header missing"));
        };
        if self.minor_version != 1 {
            return Err(bad("A websocket upgrade needs HTTP/1.1"));
        }
        Ok(key)
    }
}

fn path(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    }
}

/// The answer after which the connection is a websocket.
pub fn switching(key: &[u8], now: SystemTime) -> Vec<u8> {
    let (accept, date) = (derive_accept_key(key), date(now));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\ndate: {date}\r\n\r\n"
    )
    .into_bytes()
}

/// The time as HTTP writes it. A clock that stands before 1970 is no reason to fail.
fn date(now: SystemTime) -> String {
    httpdate::fmt_http_date(now.max(SystemTime::UNIX_EPOCH))
}

/// An answer that ends the connection.
#[derive(Debug, Default)]
pub struct HttpAnswer {
    /// The status with its reason.
    pub status: &'static str,
    /// The methods that `Allow` lists.
    pub allow: Option<&'static str>,
    /// The body of the answer, if it has one.
    pub text: Option<Cow<'static, str>>,
    /// What the body is, where it is not plain text.
    pub content_type: Option<&'static str>,
    /// Whether the request was `HEAD`.
    pub head_only: bool,
}

impl HttpAnswer {
    /// The whole answer as bytes, with a `date` header for `now`.
    pub fn encode(self, now: SystemTime) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {}\r\n", self.status);
        if let Some(methods) = self.allow {
            out += &format!("allow: {methods}\r\n");
        }
        if self.text.is_some() {
            let kind = self.content_type.unwrap_or("text/plain; charset=utf-8");
            out += &format!("content-type: {kind}\r\n");
        }
        let text = self.text.unwrap_or_default();
        // As the released program: a 404 to HEAD says nothing of a length.
        if !(self.head_only && self.status.starts_with("404")) {
            out += &format!("content-length: {}\r\n", text.len());
        }
        out += &format!("connection: close\r\ndate: {}\r\n\r\n", date(now));
        if !self.head_only {
            out += &text;
        }
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_found_in_every_form_of_target() {
        for (target, expected) in [
            ("/", "/"),
            ("/?a=b", "/"),
            ("http://h:1/readyz?x", "/readyz"),
            ("http://h", "/"),
            ("/a://b", "/a://b"),
            ("*", "*"),
        ] {
            assert_eq!(path(target), expected, "{target}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_across_reads() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for scanned in 0..head.len() {
            assert!(has_head_end(head, scanned), "{scanned}");
        }
        assert!(!has_head_end(&head[..head.len() - 1], 0));
    }

    #[test]
    fn a_key_is_accepted_as_the_rfc_shows() {
        let answer = switching(b"dGhlIHNhbXBsZSBub25jZQ==", SystemTime::UNIX_EPOCH);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.ends_with("\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"), "{answer}");
    }

    #[test]
    fn a_head_is_read_whole_or_not_at_all() {
        let bytes = b"GET /a HTTP/1.1\r\nA: 1\r\na:  2 \r\n\r\nmore";
        for cut in 0..bytes.len() - 4 {
            assert!(RequestHead::read(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        let (head, length) = RequestHead::read(bytes).unwrap().unwrap();
        assert_eq!((head.method, head.path(), length), ("GET", "/a", bytes.len() - 4));
        assert_eq!(head.values("A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(RequestHead::read(b"\x16\x03\x01").unwrap_err(), HeadError::Malformed);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(RequestHead::read(many.as_bytes()).unwrap_err(), HeadError::TooManyHeaders);
    }
}
