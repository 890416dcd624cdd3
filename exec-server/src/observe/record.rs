//! The line of an act.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use codex_exec_protocol::{ErrorCode, SessionId};
use codex_observe::timestamp;
use serde::{Serialize, Serializer};

use super::peer::Peer;
use super::words::Words;

/// One line of the audit file.
#[derive(Debug)]
pub struct Record {
    time: SystemTime,
    event: Event,
}

#[derive(Debug)]
enum Event {
    Request(Box<Act>),
    /// A connection that was not let in.
    Refused {
        peer: Peer,
        why: &'static str,
    },
}

/// Who asks, over one connection.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) peer: Peer,
    /// In the order in which connections came.
    pub(super) connection: u64,
    pub(super) environment: Option<Arc<str>>,
    /// As the client calls itself.
    pub(super) client: OnceLock<String>,
    pub(super) session: OnceLock<SessionId>,
}

/// A request and what came of it.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) who: Arc<Who>,
    pub(super) method: String,
    pub(super) words: Words,
    pub(super) outcome: Outcome,
    /// Bytes of the request.
    pub(super) request_bytes: usize,
    /// Bytes of the answer.
    pub(super) answer_bytes: usize,
    pub(super) duration: Duration,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// It was answered with an error.
    Failed(ErrorCode),
    /// Its connection ended before it was answered. It may have been done.
    Unanswered,
}

impl Outcome {
    /// The word of released programs' figures.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "success",
            Self::Failed(_) => "error",
            Self::Unanswered => "disconnected",
        }
    }

    /// Whether the server began to do it.
    fn decision(self) -> &'static str {
        match self {
            Self::Failed(
                ErrorCode::INVALID_REQUEST
                | ErrorCode::METHOD_NOT_FOUND
                | ErrorCode::INVALID_PARAMS
                | ErrorCode::SESSION_ATTACHED,
            ) => "refused",
            _ => "allowed",
        }
    }

    fn code(self) -> Option<i64> {
        match self {
            Self::Failed(code) => Some(code.0),
            _ => None,
        }
    }
}

impl Record {
    pub(super) fn request(time: SystemTime, act: Act) -> Self {
        Self { time, event: Event::Request(Box::new(act)) }
    }

    pub(super) fn refused(peer: Peer, why: &'static str) -> Self {
        Self { time: SystemTime::now(), event: Event::Refused { peer, why } }
    }
}

/// The members of a line, in the order of the reference (`docs/audit.md`).
#[derive(Default, Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of_session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sandboxed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<f64>,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = timestamp(self.time);
        match &self.event {
            Event::Request(act) => act.line(time).serialize(serializer),
            Event::Refused { peer, why } => Line {
                time,
                event: "connection",
                peer: peer.address.to_string(),
                token: peer.token.as_deref(),
                decision: "refused",
                reason: Some(why),
                ..Line::default()
            }
            .serialize(serializer),
        }
    }
}

impl Act {
    fn line(&self, time: String) -> Line<'_> {
        let (who, words) = (&*self.who, &self.words);
        Line {
            time,
            event: "request",
            peer: who.peer.address.to_string(),
            token: who.peer.token.as_deref(),
            client: who.client.get().map(String::as_str).filter(|client| !client.is_empty()),
            environment: who.environment.as_deref(),
            session: who.session.get().map(|session| &**session),
            connection: Some(who.connection),
            method: Some(&self.method),
            process: words.process.as_deref(),
            of_session: words.of_session.as_deref(),
            log: words.log.as_deref(),
            program: words.program.as_deref(),
            args: words.args,
            args_sha256: words.args_sha256.as_deref(),
            directory: words.directory.as_deref(),
            signal: words.signal.as_deref(),
            sandboxed: words.sandboxed,
            path: words.path.as_deref(),
            destination: words.destination.as_deref(),
            target: words.target.as_deref(),
            decision: self.outcome.decision(),
            reason: None,
            result: Some(self.outcome.word()),
            error_code: self.outcome.code(),
            request_bytes: Some(self.request_bytes),
            answer_bytes: Some(self.answer_bytes),
            milliseconds: Some((self.duration.as_secs_f64() * 1e6).round() / 1e3),
        }
    }
}
