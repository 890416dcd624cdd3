//! `initialize` and `initialized` on a fresh connection.

use std::time::Duration;

use bytes::Bytes;

use super::dial::{Again, Link, LinkWriter};
use super::error::ClientError;
use super::shared::Shared;
use crate::protocol::encode::Empty;
use crate::protocol::session::{Initialize, InitializeParams, InitializeResult, Initialized};
use crate::protocol::{Incoming, Method, RequestId, RpcError, SessionId, envelope};

/// `initialize` and `initialized` (section 5), within this time.
pub(super) async fn handshake(
    shared: &Shared,
    link: &mut Link,
    again: &Again,
    resume_session_id: Option<SessionId>,
    time: Duration,
) -> Result<InitializeResult, ClientError> {
    let target = again.target();
    let failed = |reason: String| ClientError::Connect { target: target.clone(), reason };
    let shaking = async {
        let id = RequestId::Number(shared.calls.lock().next_id());
        let detached = shared.options.detached_time;
        let detached_ms = detached.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let params = InitializeParams {
            client_name: shared.options.client_name.clone(),
            resume_session_id,
            detached_ms,
        };
        let mut message = Vec::new();
        envelope::request::<Initialize>(&id, &params, &mut message);
        send(&mut link.writer, message.into()).await.map_err(&failed)?;
        // An error that answers nothing: why the server is about to end the connection.
        let mut said: Option<RpcError> = None;
        let session = loop {
            let message = link.reader.next().await.map_err(|error| failed(error.to_string()))?;
            let Some(message) = message else {
                return Err(match said {
                    Some(said) if said.is_token_wanted() => again.unauthorized(),
                    Some(said) => failed(format!("it ended the connection: {}", said.message)),
                    None => failed("it ended the connection in the handshake".into()),
                });
            };
            match Incoming::parse(message.as_bytes()) {
                Ok(Incoming::Answer { id: answered, result }) if answered == id => {
                    break serde_json::from_str::<InitializeResult>(result).map_err(|error| {
                        ClientError::Answer { method: Initialize::NAME, reason: error.to_string() }
                    })?;
                }
                Ok(Incoming::Failure { id: answered, error }) if answered == id => {
                    return Err(ClientError::Rpc(error));
                }
                Ok(Incoming::Failure { error, .. }) => said = Some(error),
                Ok(_) => {}
                Err(RpcError { message, .. }) => {
                    return Err(failed(format!("it is no exec-server: {message}")));
                }
            }
        };
        let mut message = Vec::new();
        envelope::notification::<Initialized>(&Empty {}, &mut message);
        send(&mut link.writer, message.into()).await.map_err(&failed)?;
        Ok(session)
    };
    let timed_out = |_| ClientError::TimedOut { target: target.clone(), what: "the handshake", after: time };
    tokio::time::timeout(time, shaking).await.map_err(timed_out)?
}

async fn send(writer: &mut LinkWriter, message: Bytes) -> Result<(), String> {
    writer.feed(message).await.map_err(|error| error.to_string())?;
    writer.flush().await.map_err(|error| error.to_string())
}
