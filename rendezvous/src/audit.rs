//! What the audit file shows of a rendezvous: its requests, and the sockets that came of them. Not what they carry.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use codex_observe::timestamp;
use serde::{Serialize, Serializer};

use crate::tokens::Grant;

/// One line of the audit file.
#[derive(Debug, Serialize)]
pub struct Record {
    #[serde(serialize_with = "as_text")]
    time: SystemTime,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    method: &'static str,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<f64>,
}

/// A request, as it came.
#[derive(Debug)]
pub(crate) struct Asked {
    time: SystemTime,
    method: &'static str,
    environment: Option<String>,
    peer: Option<SocketAddr>,
}

/// What became of a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SocketEvent {
    /// It was let in.
    Attached,
    /// It ended, for this reason.
    Detached(&'static str, Duration),
}

fn as_text<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The name of a token, if people gave it one, and the first bytes of its hash.
fn names(grant: &Grant) -> (Option<String>, Option<String>) {
    (Some(grant.name.clone()).filter(|name| !name.is_empty()), Some(grant.hash.short()))
}

impl Asked {
    /// What a request asks for; none if it is no act, as a question whether the node is ready.
    pub(crate) fn of(path: &str, peer: Option<SocketAddr>) -> Option<Self> {
        let mut parts = path.trim_start_matches('/').split('/');
        let words = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        let (method, environment) = match words {
            [Some("readyz" | "metrics"), None, ..] => return None,
            [Some("cloud"), Some("executor" | "environment"), Some(id), Some("register"), None] => {
                ("register", Some(id))
            }
            [Some("cloud"), Some("environment"), Some(id), Some("connect"), None] => ("connect", Some(id)),
            [Some("cloud"), Some("environment"), Some(id), Some("validate"), None] => ("validate", Some(id)),
            _ if path == crate::ticket::PATH => ("attach", None),
            _ => ("unknown", None),
        };
        let environment = environment.map(|id| codex_observe::cut(id.into()));
        Some(Self { time: SystemTime::now(), method, environment, peer })
    }
}

impl Record {
    /// A request that was answered.
    pub(crate) fn request(
        asked: Asked,
        grant: Option<&Grant>,
        status: u16,
        refused: Option<&'static str>,
        time: Duration,
    ) -> Self {
        let (token, token_hash) = grant.map_or((None, None), names);
        Self {
            time: asked.time,
            event: "request",
            peer: asked.peer.map(|peer| format!("tcp:{peer}")),
            token,
            token_hash,
            environment: asked.environment,
            registration: None,
            role: None,
            method: asked.method,
            decision: if status < 400 { "allowed" } else { "refused" },
            reason: refused,
            status: Some(status),
            milliseconds: Some(milliseconds(time)),
        }
    }

    /// A socket that was let in, or that ended.
    pub(crate) fn socket(
        grant: &Grant,
        (environment, registration): (&str, &str),
        role: &'static str,
        event: SocketEvent,
    ) -> Self {
        let (token, token_hash) = names(grant);
        let (method, reason, time) = match event {
            SocketEvent::Attached => ("attached", None, None),
            SocketEvent::Detached(reason, time) => ("detached", Some(reason), Some(time)),
        };
        Self {
            time: SystemTime::now(),
            event: "socket",
            peer: None,
            token,
            token_hash,
            environment: Some(environment.to_owned()),
            registration: Some(registration.to_owned()),
            role: Some(role),
            method,
            decision: "allowed",
            reason,
            status: None,
            milliseconds: time.map(milliseconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_what_is_asked_for_and_no_query() {
        let peer = Some("192.0.2.1:5".parse().unwrap());
        for (path, expected) in [
            ("/cloud/environment/m-1/register", Some(("register", Some("m-1")))),
            ("/cloud/executor/m-1/register", Some(("register", Some("m-1")))),
            ("/cloud/environment/m-1/connect", Some(("connect", Some("m-1")))),
            ("/cloud/environment/m-1/validate", Some(("validate", Some("m-1")))),
            (crate::ticket::PATH, Some(("attach", None))),
            ("/cloud/environment/m-1/register/more", Some(("unknown", None))),
            ("/", Some(("unknown", None))),
            ("/readyz", None),
            ("/metrics", None),
        ] {
            let asked = Asked::of(path, peer);
            let told = asked.as_ref().map(|asked| (asked.method, asked.environment.as_deref()));
            assert_eq!(told, expected, "{path}");
        }
    }
}
