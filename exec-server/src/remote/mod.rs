//! Attaches this machine to a registry and a rendezvous, and serves what comes from there (`remote.md`).
//!
//! [`Remote::run_until`] registers, connects out, serves every session that comes over the websocket, and does so again
//! when the websocket is lost. Sessions and their programs live on meanwhile.

mod attach;
mod direct;
mod forward;
mod lent;
mod outcome;
mod relay;
mod shutdown;
mod socket;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_outgoing::Outgoing;
use codex_relay::{ExecutorStreams, Identity, RelayLimits};

pub use crate::backoff::Jitter;
pub use crate::registry::{
    AwsKeySource, AwsKeys, AwsSigner, BEARER_VARIABLE, Cause, Contract, Credential, CredentialOrigin,
    CredentialSource, Fixed, NoCredential, Recovery, Registration, RemoteError, Target, UnknownContract,
};
pub use forward::Forward;
pub use lent::Lent;
pub use status::Status;

use crate::Limits;
use crate::observe::{Attempt, Reconnect};
use crate::registry::{DirectRegistry, ExecutorRegistry, Socket};
use attach::{Policy, Steps};
use outcome::{Ended, Unattached};
use relay::Relay;
use shutdown::Shutdown;
use socket::Way;

/// How long an executor that is stopped may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(300);

/// The name of an executor that was given none (1.1).
pub const DEFAULT_NAME: &str = "codex-exec-server";

/// What an executor is attached with.
pub struct RemoteConfig {
    /// Where, as what.
    pub target: Target,
    /// What it proves itself with.
    pub proof: Proof,
    /// What people see in contract A.
    pub name: String,
    /// Whom TLS trusts, and through which proxies registry and rendezvous are reached.
    pub outgoing: Outgoing,
    /// Whether the first registration is tried until it succeeds.
    pub wait_for_registry: bool,
    /// Randomness of the delays.
    pub jitter: Jitter,
    /// Told what happens, in order.
    pub tell: Box<dyn FnMut(Status) + Send>,
}

/// What an executor proves itself with.
pub enum Proof {
    /// A bearer: every contract but F.
    Bearer(Arc<dyn CredentialSource>),
    /// Signatures: contract F.
    Aws(AwsSigner),
}

/// The registry, by what is proved to it.
enum Registrar {
    Bearer(Arc<ExecutorRegistry>),
    Aws(DirectRegistry),
}

/// An executor that is attached, or about to be.
pub struct Remote {
    policy: Policy,
    jitter: Jitter,
    attachment: Attachment,
}

struct Attachment {
    contract: Contract,
    secure: bool,
    outgoing: Outgoing,
    lent: Lent,
    registrar: Registrar,
    identity: Option<Arc<Identity>>,
    shutdown: Arc<Shutdown>,
    tell: Box<dyn FnMut(Status) + Send>,
}

impl Remote {
    /// Makes the executor's identity, once for its life; sends nothing.
    ///
    /// # Errors
    /// When the system yields no randomness.
    pub fn new(lent: Lent, config: RemoteConfig) -> Result<Self, RemoteError> {
        let RemoteConfig { target, proof, name, outgoing, wait_for_registry, jitter, tell } = config;
        let contract = target.contract();
        let identity = match contract {
            Contract::Noise => {
                let identity = Identity::generate()
                    .map_err(|error| RemoteError::Configuration { contract, problem: error.to_string() })?;
                Some(Arc::new(identity))
            }
            _ => None,
        };
        let secure = target.is_secure();
        let registrar = match proof {
            Proof::Bearer(credentials) => {
                let identity = identity.clone();
                let registry = ExecutorRegistry::new(target, credentials, name, identity, outgoing.clone());
                Registrar::Bearer(Arc::new(registry))
            }
            Proof::Aws(signer) => Registrar::Aws(DirectRegistry::new(target, signer, outgoing.clone())),
        };
        let shutdown = Arc::default();
        let attachment = Attachment { contract, secure, outgoing, lent, registrar, identity, shutdown, tell };
        Ok(Self { policy: Policy { contract, wait_for_registry }, jitter, attachment })
    }

    /// Stays attached until `stop`, or until a registration fails for good, which is told. At `stop` every harness hears
    /// that this executor ends: end the server then. Dropping this detaches; sessions are the server's to end.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Option<RemoteError> {
        let shutdown = Arc::clone(&self.attachment.shutdown);
        let stopped = async {
            stop.await;
            // Whoever does not hear it in time finds out by trying to come back.
            let _ = tokio::time::timeout(GOODBYE, shutdown.say()).await;
        };
        tokio::select! {
            error = attach::run(self.policy, &mut self.attachment, &mut self.jitter) => Some(error),
            () = stopped => None,
        }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Steps for Attachment {
    type Socket = Socket;

    async fn register(&mut self) -> Result<Registration, RemoteError> {
        let since = Instant::now();
        let registered = match &self.registrar {
            Registrar::Bearer(registry) => registry.register().await,
            Registrar::Aws(registry) => registry.register().await,
        };
        self.count(Attempt::Registration, &registered, since);
        registered
    }

    async fn connect(&mut self, registration: &Registration) -> Result<Socket, Unattached> {
        let signing = match &self.registrar {
            Registrar::Bearer(_) => None,
            Registrar::Aws(registry) => Some(registry),
        };
        let way =
            Way { contract: self.contract, secure_base: self.secure, outgoing: &self.outgoing, signing };
        let since = Instant::now();
        let connected = way.connect(&registration.url).await;
        self.count(Attempt::Rendezvous, &connected, since);
        let socket = connected.inspect_err(|unattached| {
            if unattached.forgotten {
                self.again(Reconnect::RegistrationRejected);
            }
        })?;
        self.tell(Status::Attached { rendezvous: socket::address(&registration.url) });
        Ok(socket)
    }

    async fn serve(&mut self, registration: &Registration, socket: Socket) -> Ended {
        // One message of each stream waits inside the state machine; the rest in the stream's own queue.
        let limits = RelayLimits { queued_bytes: 1, ..relay_limits(self.lent.limits()) };
        let longest_message = match self.contract {
            Contract::Noise => limits.message_bytes,
            _ => limits.plain_message_bytes,
        };
        let registration_id = registration.registration_id.as_deref();
        let registry = match &self.registrar {
            Registrar::Bearer(registry) if !self.contract.is_direct() => registry,
            _ => return direct::serve(&self.lent, socket).await,
        };
        let relay =
            Relay { lent: &self.lent, registry, registration_id, longest_message, shutdown: &self.shutdown };
        match (&self.identity, registration_id) {
            (Some(identity), Some(id)) => {
                let identity = Arc::clone(identity);
                let streams = ExecutorStreams::noise(identity, &registration.id, id, limits);
                relay.serve(streams, socket).await
            }
            _ => relay.serve(ExecutorStreams::plain(limits), socket).await,
        }
    }

    fn tell(&mut self, status: Status) {
        if let Status::Lost { .. } | Status::Superseded { .. } = status {
            self.again(Reconnect::Disconnected);
        }
        (self.tell)(status);
    }
}

impl Attachment {
    fn count<T, E>(&self, attempt: Attempt, result: &Result<T, E>, since: Instant) {
        if let Some(figures) = self.lent.figures() {
            figures.tried(attempt, result.is_ok(), since.elapsed());
        }
    }

    fn again(&self, why: Reconnect) {
        if let Some(figures) = self.lent.figures() {
            figures.reconnect(why);
        }
    }
}

/// What the server's bounds say; the rest is the wire's.
fn relay_limits(limits: &Limits) -> RelayLimits {
    let wire = RelayLimits::default();
    RelayLimits {
        streams: limits.relay.relay_streams,
        handshakes: limits.relay.relay_handshakes,
        failures: limits.relay.relay_failures,
        failure_pause: limits.relay.relay_failure_pause,
        message_bytes: limits.relay.stream_message_bytes.min(wire.message_bytes),
        assembled_bytes: limits.relay.relay_assembled_bytes,
        plain_message_bytes: limits.relay.stream_message_bytes.min(wire.plain_message_bytes),
        ..wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_default_bounds_are_those_of_the_relay() {
        assert_eq!(relay_limits(&Limits::default()), RelayLimits::default());
    }
}
