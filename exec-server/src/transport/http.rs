//! The HTTP surface of the listener: the upgrade, `/readyz`, and every refusal (section 2.2, as 0.169).

use std::sync::Arc;
use std::time::SystemTime;

use codex_observe::figures;
pub(super) use codex_websocket::upgrade::has_head_end;
use codex_websocket::upgrade::{HeadError, HttpAnswer, NoUpgrade, RequestHead, switching};

use super::auth::Auth;
use super::carrier::Owner;
use crate::observe::Observer;

/// A request whose token is missing or wrong.
const UNAUTHORIZED: &str = "401 Unauthorized";

/// What a request head comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The head has not arrived in full.
    Partial,
    /// The connection becomes a websocket once `answer` is sent; `head` bytes were the request.
    Upgrade { answer: Vec<u8>, head: usize, owner: Owner, token: Option<Arc<str>> },
    /// The connection ends once `answer` is sent; `head` bytes were the request, 0 when it is none. `why` is there if somebody
    /// was not let in.
    Answer { answer: Vec<u8>, head: usize, why: Option<&'static str> },
}

/// Reads a request head and decides on it.
pub(super) fn respond(bytes: &[u8], auth: &Auth, observer: &Observer, now: SystemTime) -> Outcome {
    match RequestHead::read(bytes) {
        Ok(None) => Outcome::Partial,
        Ok(Some((request, head))) => match decide(&request, auth, observer, now) {
            Ok(Upgrade { key, owner, token }) => {
                Outcome::Upgrade { answer: switching(key, now), head, owner, token }
            }
            Err(Answered { answer, why }) => Outcome::Answer { answer: answer.encode(now), head, why },
        },
        Err(HeadError::TooManyHeaders) => Outcome::Answer { answer: head_too_large(now), head: 0, why: None },
        Err(HeadError::Malformed) => {
            let answer = HttpAnswer { status: "400 Bad Request", ..HttpAnswer::default() };
            Outcome::Answer { answer: answer.encode(now), head: 0, why: None }
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
    let text = Some("this exec-server has as many connections as it may; try again later".into());
    HttpAnswer { status: "503 Service Unavailable", text, ..HttpAnswer::default() }.encode(now)
}

/// A request that becomes a websocket.
struct Upgrade<'a> {
    key: &'a [u8],
    owner: Owner,
    token: Option<Arc<str>>,
}

/// Any other request; `why` is there if somebody was not let in.
struct Answered {
    answer: HttpAnswer,
    why: Option<&'static str>,
}

impl From<HttpAnswer> for Answered {
    fn from(answer: HttpAnswer) -> Self {
        Self { answer, why: None }
    }
}

/// Gives the client's key, and whose connection it is, when the request is an upgrade that is let in.
fn decide<'a>(
    request: &RequestHead<'a>,
    auth: &Auth,
    observer: &Observer,
    now: SystemTime,
) -> Result<Upgrade<'a>, Answered> {
    let head_only = request.method == "HEAD";
    let empty = |status| HttpAnswer { status, head_only, ..HttpAnswer::default() };
    if request.values("origin").next().is_some() {
        return Err(empty("403 Forbidden").into());
    }
    let reads = request.method == "GET" || head_only;
    let no_verb = || HttpAnswer { allow: Some("GET,HEAD"), ..empty("405 Method Not Allowed") };
    match (request.path(), &observer.figures) {
        ("/", _) => upgrade(request, auth, now).map_err(|NoUpgrade { status, text }| Answered {
            answer: HttpAnswer { text: Some(text.into()), ..empty(status) },
            why: Some(text).filter(|_| status == UNAUTHORIZED),
        }),
        ("/readyz", _) if reads => Err(empty("200 OK").into()),
        ("/metrics", Some(shown)) if reads => Err(match auth.check(token(request), now) {
            Ok(()) => {
                let text = Some(shown.encode().into());
                HttpAnswer { text, content_type: Some(figures::CONTENT_TYPE), ..empty("200 OK") }.into()
            }
            Err(text) => {
                let answer = HttpAnswer { text: Some(text.into()), ..empty(UNAUTHORIZED) };
                Answered { answer, why: Some(text) }
            }
        }),
        ("/readyz", _) | ("/metrics", Some(_)) => Err(no_verb().into()),
        _ => Err(empty("404 Not Found").into()),
    }
}

fn upgrade<'a>(request: &RequestHead<'a>, auth: &Auth, now: SystemTime) -> Result<Upgrade<'a>, NoUpgrade> {
    let key = request.websocket_key()?;
    let token = token(request);
    auth.check(token, now).map_err(|text| NoUpgrade { status: UNAUTHORIZED, text })?;
    Ok(Upgrade { key, owner: auth.owner(token), token: auth.token_name(token) })
}

fn token<'a>(request: &RequestHead<'a>) -> Option<&'a [u8]> {
    request.values("authorization").next()
}
