//! The HTTP surface of the listener: the upgrade, `/readyz`, and every refusal (section 2.2, as 0.169).

use std::time::{SystemTime, UNIX_EPOCH};

use httparse::{EMPTY_HEADER, Header, Request, Status};
use sha1::{Digest, Sha1};

use super::auth::Auth;

/// Headers of one request; more are answered with 431.
const HEADERS: usize = 96;
/// What RFC 6455, 1.3, appends to a client's key.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request head comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The head has not arrived in full.
    Partial,
    /// The connection becomes a websocket once `answer` is sent; `head` bytes were the request.
    Upgrade { answer: Vec<u8>, head: usize },
    /// The connection ends once `answer` is sent; `head` bytes were the request, 0 when it is none.
    Answer { answer: Vec<u8>, head: usize },
}

/// An answer that ends the connection.
#[derive(Debug, Default)]
struct Answer {
    status: &'static str,
    allow: Option<&'static str>,
    text: Option<&'static str>,
    head_only: bool,
}

/// Whether the bytes from `scanned` on complete a request head.
pub(super) fn has_head_end(bytes: &[u8], scanned: usize) -> bool {
    let from = scanned.saturating_sub(3);
    bytes[from..].windows(2).any(|pair| pair == b"\n\n")
        || bytes[from..].windows(4).any(|four| four == b"\r\n\r\n")
}

/// Reads a request head and decides on it.
pub(super) fn respond(bytes: &[u8], auth: &Auth, now: SystemTime) -> Outcome {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Partial) => Outcome::Partial,
        Ok(Status::Complete(head)) => match decide(&request, auth, now) {
            Ok(key) => Outcome::Upgrade { answer: switching(key, now), head },
            Err(answer) => Outcome::Answer { answer: answer.encode(now), head },
        },
        Err(httparse::Error::TooManyHeaders) => Outcome::Answer { answer: head_too_large(now), head: 0 },
        Err(_) => {
            let answer = Answer { status: "400 Bad Request", ..Answer::default() };
            Outcome::Answer { answer: answer.encode(now), head: 0 }
        }
    }
}

/// The answer to a head over its bound.
pub(super) fn head_too_large(now: SystemTime) -> Vec<u8> {
    let status = "431 Request Header Fields Too Large";
    Answer { status, ..Answer::default() }.encode(now)
}

/// The answer to a connection too many.
pub(super) fn full(now: SystemTime) -> Vec<u8> {
    let text = Some("this exec-server has as many connections as it may; try again later");
    Answer { status: "503 Service Unavailable", text, ..Answer::default() }.encode(now)
}

/// Gives the client's key when the request is an upgrade that is let in.
fn decide<'a>(request: &Request<'_, 'a>, auth: &Auth, now: SystemTime) -> Result<&'a [u8], Answer> {
    let method = request.method.unwrap_or_default();
    let head_only = method == "HEAD";
    let empty = |status| Answer { status, head_only, ..Answer::default() };
    if values(request, "origin").next().is_some() {
        return Err(empty("403 Forbidden"));
    }
    match path(request.path.unwrap_or_default()) {
        "/" => {
            upgrade(request, auth, now).map_err(|(status, text)| Answer { text: Some(text), ..empty(status) })
        }
        "/readyz" if method == "GET" || head_only => Err(empty("200 OK")),
        "/readyz" => Err(Answer { allow: Some("GET,HEAD"), ..empty("405 Method Not Allowed") }),
        _ => Err(empty("404 Not Found")),
    }
}

type Refusal = (&'static str, &'static str);

fn upgrade<'a>(request: &Request<'_, 'a>, auth: &Auth, now: SystemTime) -> Result<&'a [u8], Refusal> {
    let bad = |text| ("400 Bad Request", text);
    if request.method != Some("GET") {
        return Err(("405 Method Not Allowed", "Request method must be `GET`"));
    }
    if !lists(request, "connection", b"upgrade") {
        return Err(bad("Connection header did not include 'upgrade'"));
    }
    if !lists(request, "upgrade", b"websocket") {
        return Err(bad("`Upgrade` header did not include 'websocket'"));
    }
    if values(request, "sec-websocket-version").next() != Some(b"13") {
        return Err(bad("`Sec-WebSocket-Version` header did not include '13'"));
    }
    let Some(key) = values(request, "sec-websocket-key").next() else {
        return Err(bad("`Sec-WebSocket-Key` header missing"));
    };
    if request.version != Some(1) {
        return Err(bad("A websocket upgrade needs HTTP/1.1"));
    }
    let token = values(request, "authorization").next();
    auth.check(token, now).map_err(|text| ("401 Unauthorized", text))?;
    Ok(key)
}

/// The values of a header, in order.
fn values<'r, 'a>(request: &'r Request<'_, 'a>, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'r, 'a> {
    let name = name.to_owned();
    let headers: &'r [Header<'a>] = &*request.headers;
    headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(&name)).map(|h| h.value.trim_ascii())
}

/// Whether a header lists this word, in any case.
fn lists(request: &Request<'_, '_>, name: &str, word: &[u8]) -> bool {
    values(request, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(word))
}

/// The path of a request target, without scheme, authority and query.
fn path(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    }
}

fn switching(key: &[u8], now: SystemTime) -> Vec<u8> {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize();
    let accept = base64_simd::STANDARD.encode_to_string(digest);
    let date = date(now);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\ndate: {date}\r\n\r\n"
    )
    .into_bytes()
}

impl Answer {
    fn encode(self, now: SystemTime) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {}\r\n", self.status);
        if let Some(methods) = self.allow {
            out += &format!("allow: {methods}\r\n");
        }
        if self.text.is_some() {
            out += "content-type: text/plain; charset=utf-8\r\n";
        }
        let text = self.text.unwrap_or_default();
        // As the released program: a 404 to HEAD says nothing of a length.
        if !(self.head_only && self.status.starts_with("404")) {
            out += &format!("content-length: {}\r\n", text.len());
        }
        out += &format!("connection: close\r\ndate: {}\r\n\r\n", date(now));
        if !self.head_only {
            out += text;
        }
        out.into_bytes()
    }
}

/// The time as RFC 9110 (5.6.7) writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(now: SystemTime) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let (weekday, month) = (WEEKDAYS[(days % 7) as usize], MONTHS[month]);
    format!("{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_written_as_http_wants_them() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

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
}
