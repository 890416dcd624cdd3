//! The websocket to a rendezvous: its upgrade, and what a refusal means (3, 8, 8.1).

use std::time::Duration;

use codex_exec_protocol::registry::SUPERSEDED;
use codex_outgoing::{Outgoing, is_loopback};
use codex_secret::Secret;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use rand::RngCore;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};
use url::Url;

use super::outcome::{Ended, Unattached};
use crate::registry::{self, Contract, DirectRegistry, Socket, UpgradeError, in_brackets};

/// From the first packet to the answer of the upgrade (8.1). Fixed by the wire.
const UPGRADE_TIME: Duration = Duration::from_secs(10);
/// From the other side's close frame to the end of the connection. Our own pace: nothing outside depends on it.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// What is told of a websocket that ended without a fault.
pub(super) const CLOSED: &str = "the connection was closed";

/// How the websocket of a registration is reached.
pub(super) struct Way<'a> {
    pub(super) contract: Contract,
    /// The registry was asked over TLS.
    pub(super) secure_base: bool,
    pub(super) outgoing: &'a Outgoing,
    /// Signs the upgrade, in contract F.
    pub(super) signing: Option<&'a DirectRegistry>,
}

/// A URL's scheme, host and port: all of it that is no secret.
pub(super) fn address(url: &Secret) -> String {
    match Url::parse(url.expose()) {
        Ok(url) => {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
        }
        Err(_) => "the rendezvous".to_owned(),
    }
}

impl Way<'_> {
    /// Connects to `url` as it stands.
    pub(super) async fn connect(&self, url: &Secret) -> Result<Socket, Unattached> {
        match tokio::time::timeout(UPGRADE_TIME, self.open(url.expose())).await {
            Ok(result) => result,
            Err(_) => Err(failed(format!("no answer within {} s", UPGRADE_TIME.as_secs()))),
        }
    }

    async fn open(&self, url: &str) -> Result<Socket, Unattached> {
        let contract = self.contract;
        let parsed = Url::parse(url)
            .map_err(|error| failed(format!("the registry's rendezvous address is no URL: {error}")))?;
        match parsed.scheme() {
            "wss" => {}
            // A plain relay shows everything, so what began with TLS must not go on without.
            "ws" if self.secure_base && contract != Contract::Noise && !is_loopback(&parsed) => {
                return Err(failed(
                    "the registry's rendezvous address is ws:// although it speaks https itself".into(),
                ));
            }
            "ws" if contract == Contract::Direct && !is_loopback(&parsed) => {
                return Err(failed(
                    "the registry's address for JSON-RPC is neither wss:// nor this machine".into(),
                ));
            }
            "ws" => {}
            other => {
                return Err(failed(format!(
                    "the registry's rendezvous address has the scheme {other:?}, not ws or wss"
                )));
            }
        }
        let request = registry::request(url, self.headers(&parsed).await?)
            .map_err(|_| failed("the registry's rendezvous address can't be requested".into()))?;
        let upgraded = registry::upgrade(&parsed, request, contract.message_bytes(), self.outgoing).await;
        upgraded.map(|(socket, _)| socket).map_err(|error| match error {
            UpgradeError::Status(status, why) => Unattached {
                reason: format!("the rendezvous refused the upgrade with {status}{}", in_brackets(why)),
                forgotten: status.is_client_error(),
            },
            UpgradeError::Socket(error) => failed(sentence(&error)),
            error => failed(error.to_string()),
        })
    }

    async fn headers(&self, url: &Url) -> Result<HeaderMap, Unattached> {
        if let Some(signing) = self.signing {
            return signing.upgrade_headers(url).await.map_err(failed);
        }
        let mut headers = HeaderMap::new();
        if self.contract == Contract::Noise {
            let id = HeaderValue::try_from(request_id());
            headers.extend(id.ok().map(|id| (HeaderName::from_static("x-request-id"), id)));
        }
        Ok(headers)
    }
}

fn request_id() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    format!("req_{}", hex::encode(bytes))
}

fn failed(reason: String) -> Unattached {
    Unattached { reason, forgotten: false }
}

/// Answers a close frame; what it says, in words that no terminal obeys.
pub(super) async fn farewell(source: &mut SplitStream<Socket>, frame: Option<&CloseFrame>) -> Ended {
    // Reading on sends the answer. The other side should end the connection then; it is not waited for long.
    let _ = tokio::time::timeout(CLOSING_TIME, source.next()).await;
    let Some(frame) = frame else { return CLOSED.to_owned().into() };
    let superseded = frame.reason.as_str() == SUPERSEDED;
    let code = u16::from(frame.code);
    let reason: String = frame.reason.chars().filter(|c| !c.is_control()).collect();
    let reason = match reason.trim() {
        "" => format!("{CLOSED} ({code})"),
        reason => format!("{CLOSED} ({code}: {reason})"),
    };
    Ended { reason, superseded }
}

/// What ended a websocket, in words that hold nothing of its URL.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            CLOSED.to_owned()
        }
        Error::Url(_) => "the rendezvous address can't be used".to_owned(),
        other => other.to_string(),
    }
}
