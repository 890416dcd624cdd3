//! The HTTP surface of the listener: the upgrade, `/readyz`, and every refusal (section 2.2, as 0.169).

use std::time::SystemTime;

pub(super) use codex_websocket::upgrade::has_head_end;
use codex_websocket::upgrade::{HeadError, HttpAnswer, NoUpgrade, RequestHead, switching};

use super::auth::Auth;
use super::carrier::Owner;

/// What a request head comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The head has not arrived in full.
    Partial,
    /// The connection becomes a websocket once `answer` is sent; `head` bytes were the request.
    Upgrade { answer: Vec<u8>, head: usize, owner: Owner },
    /// The connection ends once `answer` is sent; `head` bytes were the request, 0 when it is none.
    Answer { answer: Vec<u8>, head: usize },
}

/// Reads a request head and decides on it.
pub(super) fn respond(bytes: &[u8], auth: &Auth, now: SystemTime) -> Outcome {
    match RequestHead::read(bytes) {
        Ok(None) => Outcome::Partial,
        Ok(Some((request, head))) => match decide(&request, auth, now) {
            Ok((key, owner)) => Outcome::Upgrade { answer: switching(key, now), head, owner },
            Err(answer) => Outcome::Answer { answer: answer.encode(now), head },
        },
        Err(HeadError::TooManyHeaders) => Outcome::Answer { answer: head_too_large(now), head: 0 },
        Err(HeadError::Malformed) => {
            let answer = HttpAnswer { status: "400 Bad Request", ..HttpAnswer::default() };
            Outcome::Answer { answer: answer.encode(now), head: 0 }
        }
    }
}

/// The answer to a head over its bound.
pub(super) fn head_too_large(now: SystemTime) -> Vec<u8> {
    let status = "431 Request Header Fields Too Large";
    HttpAnswer { status, ..HttpAnswer::default() }.encode(now)
}

/// The answer to a connection too many.
pub(super) fn full(now: SystemTime) -> Vec<u8> {
    let text = Some("this exec-server has as many connections as it may; try again later");
    HttpAnswer { status: "503 Service Unavailable", text, ..HttpAnswer::default() }.encode(now)
}

/// Gives the client's key, and whose connection it is, when the request is an upgrade that is let in.
fn decide<'a>(
    request: &RequestHead<'a>,
    auth: &Auth,
    now: SystemTime,
) -> Result<(&'a [u8], Owner), HttpAnswer> {
    let head_only = request.method == "HEAD";
    let empty = |status| HttpAnswer { status, head_only, ..HttpAnswer::default() };
    if request.values("origin").next().is_some() {
        return Err(empty("403 Forbidden"));
    }
    match request.path() {
        "/" => upgrade(request, auth, now)
            .map_err(|NoUpgrade { status, text }| HttpAnswer { text: Some(text), ..empty(status) }),
        "/readyz" if request.method == "GET" || head_only => Err(empty("200 OK")),
        "/readyz" => Err(HttpAnswer { allow: Some("GET,HEAD"), ..empty("405 Method Not Allowed") }),
        _ => Err(empty("404 Not Found")),
    }
}

fn upgrade<'a>(
    request: &RequestHead<'a>,
    auth: &Auth,
    now: SystemTime,
) -> Result<(&'a [u8], Owner), NoUpgrade> {
    let key = request.websocket_key()?;
    let token = request.values("authorization").next();
    auth.check(token, now).map_err(|text| NoUpgrade { status: "401 Unauthorized", text })?;
    Ok((key, auth.owner(token)))
}
