//! The way to an environment through its registry: `/connect`, upgrade, handshake, and rounds of them (remote.md 9.2).

use codex_exec_protocol::registry::Connected;
use codex_outgoing::Outgoing;
use codex_relay::{HarnessError, HarnessStream, Identity, RelayLimits, StreamId, Target};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::link::{LinkReader, LinkWriter};
use super::relayed::{self, RelayError};
use super::websocket::open_socket;
use crate::backoff::Backoff;
use crate::client::error::ClientError;
use crate::client::options::ClientOptions;
use crate::registry::{ConnectRefusal, HarnessRegistry, RegistryEnvironment, UpgradeError};

/// Largest websocket message of a Noise relay (remote.md 8). Fixed by the wire.
const LONGEST_MESSAGE: usize = 256 << 10;

/// A registry's environment, and who we are to it: the identity stays the same for every attempt of a client.
#[derive(Debug)]
pub(in crate::client) struct Route {
    registry: HarnessRegistry,
    identity: Identity,
}

impl Route {
    pub(in crate::client) fn new(
        environment: RegistryEnvironment,
        outgoing: Outgoing,
    ) -> Result<Self, ClientError> {
        let registry = HarnessRegistry::new(environment, outgoing).map_err(ClientError::Usage)?;
        let identity = Identity::generate().map_err(|error| ClientError::Usage(error.to_string()))?;
        Ok(Self { registry, identity })
    }

    /// What messages call it; holds no secret.
    pub(in crate::client) fn target(&self) -> String {
        self.registry.target()
    }

    /// One round: attempts until one works, one is refused for good, or the time is up.
    pub(in crate::client) async fn open(
        &self,
        options: &ClientOptions,
    ) -> Result<(LinkReader, LinkWriter), ClientError> {
        let time = options.connect_time;
        let deadline = Instant::now() + time;
        let target = self.target();
        let mut pauses = Backoff::of_registry_round();
        let mut again_after_401 = true;
        loop {
            let Ok(outcome) = timeout_at(deadline, self.attempt(options, &mut again_after_401)).await else {
                return Err(ClientError::TimedOut { target, what: "the connection", after: time });
            };
            let reason = match outcome {
                Ok(link) => return Ok(link),
                Err(ConnectRefusal::Final(reason)) => {
                    return Err(ClientError::Refused { target, reason, unauthorized: false });
                }
                Err(ConnectRefusal::Unauthorized(reason)) => {
                    return Err(ClientError::Refused { target, reason, unauthorized: true });
                }
                Err(ConnectRefusal::Now(reason)) => return Err(ClientError::Connect { target, reason }),
                Err(ConnectRefusal::Soon(reason)) => reason,
            };
            let pause = pauses.next(&mut rand::random::<f64>);
            if Instant::now() + pause >= deadline {
                return Err(ClientError::Connect { target, reason });
            }
            tracing::debug!(%target, %reason, ?pause, "the environment is away; trying again");
            sleep(pause).await;
        }
    }

    /// A refused ticket (401) is made good once by a fresh one.
    async fn attempt(
        &self,
        options: &ClientOptions,
        again_after_401: &mut bool,
    ) -> Result<(LinkReader, LinkWriter), ConnectRefusal> {
        loop {
            let connected = self.registry.connect(self.identity.public_key()).await?;
            let stream = self.stream(&connected)?;
            let socket = match open_socket(connected.url.expose(), None, LONGEST_MESSAGE, options).await {
                Ok((socket, _)) => socket,
                Err(UpgradeError::Status(StatusCode::UNAUTHORIZED, _)) if *again_after_401 => {
                    *again_after_401 = false;
                    continue;
                }
                Err(error) => return Err(upgrade_refused(&error)),
            };
            let (reader, writer) = relayed::open(socket, stream, options).await.map_err(not_opened)?;
            return Ok((LinkReader::Relay(Box::new(reader)), LinkWriter::Relay(Box::new(writer))));
        }
    }

    fn stream(&self, connected: &Connected) -> Result<HarnessStream, ConnectRefusal> {
        let target = Target {
            environment_id: self.registry.environment_id(),
            registration_id: &connected.executor_registration_id,
            executor_public_key: &connected.executor_public_key,
            authorization: &connected.harness_key_authorization,
        };
        let unusable = |error| ConnectRefusal::Final(format!("the registry's answer can't be used: {error}"));
        HarnessStream::noise(&self.identity, &target, StreamId::random(), RelayLimits::default())
            .map_err(unusable)
    }
}

fn upgrade_refused(error: &UpgradeError) -> ConnectRefusal {
    let reason = format!("the rendezvous: {error}");
    match error {
        // The executor is away for the moment (remote.md 10).
        UpgradeError::Status(status, _) if matches!(status.as_u16(), 500 | 502 | 503 | 504) => {
            ConnectRefusal::Soon(reason)
        }
        _ => ConnectRefusal::Now(reason),
    }
}

fn not_opened(error: RelayError) -> ConnectRefusal {
    match error {
        RelayError::Stream(error @ HarnessError::ExecutorCredential) => {
            ConnectRefusal::Final(error.to_string())
        }
        RelayError::Stream(HarnessError::Reset(reason)) => {
            ConnectRefusal::Now(format!("the executor or its registry refused this harness: {reason:?}"))
        }
        other => ConnectRefusal::Now(other.to_string()),
    }
}
