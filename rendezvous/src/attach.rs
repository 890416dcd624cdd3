//! Lets sockets in: checks what they may do, gives them a place in the switch, and serves them to their end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::accounts::Account;
use crate::app::App;
use crate::audit::{self, SocketEvent};
use crate::clock::now;
use crate::limits::{NOISE_MESSAGE_BYTES, PLAIN_MESSAGE_BYTES};
use crate::metrics::Direction;
use crate::outlet::{Closing, Outlet};
use crate::quota::Share;
use crate::registry::{Record, Registry};
use crate::socket::Socket;
use crate::switch::{HarnessSocket, Port};
use crate::threads::Seat;
use crate::ticket::ExecutorTicket;
use crate::tokens::{Role, TokenHash};

/// An open socket and the account that it counts for.
pub(crate) struct OpenSocket {
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) token: TokenHash,
    pub(crate) role: Role,
    pub(crate) environment: String,
}

/// A place in the switch for a socket that is being upgraded.
pub(crate) struct Attachment {
    outlet: Arc<Outlet>,
    port: Box<dyn Port>,
    direction: Direction,
    environment: String,
    registration: String,
    message_bytes: usize,
    account: Account,
    seat: Seat,
    _share: Option<Share>,
}

/// Why a socket is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AttachFailure {
    Forgotten,
    WrongSecret,
    Revoked,
    Expired,
    Superseded,
    NotPlain,
    Away,
    TooManyRequests,
    TooManySockets,
    Leaving,
    OtherNode,
}

impl App {
    /// The registration that harnesses of a plain relay are joined to.
    pub(crate) fn plain_registration(&self, environment: &str) -> Result<String, AttachFailure> {
        let registry = self.registry.lock();
        let record = registry.current(environment).ok_or(AttachFailure::Forgotten)?;
        if record.key.is_some() {
            return Err(AttachFailure::NotPlain);
        }
        Ok(record.registration.clone())
    }

    /// Gives an executor its place before the upgrade is answered, so that a harness finds it from then on.
    pub(crate) fn attach_executor(
        &self,
        environment: &str,
        registration: &str,
        secret: &str,
    ) -> Result<Attachment, AttachFailure> {
        if self.is_leaving() {
            return Err(AttachFailure::Leaving);
        }
        let mut registry = self.registry.lock();
        let record = registry
            .current(environment)
            .filter(|record| record.registration == registration)
            .ok_or(AttachFailure::Forgotten)?
            .clone();
        if !registry.is_ticket(environment, registration, secret) {
            return Err(AttachFailure::WrongSecret);
        }
        self.take_place(&mut registry, &record)
    }

    /// As [`Self::attach_executor`], for a registration that any node may have made; its ticket was verified.
    pub(crate) fn attach_signed(&self, ticket: ExecutorTicket) -> Result<Attachment, AttachFailure> {
        if self.is_leaving() {
            return Err(AttachFailure::Leaving);
        }
        if ticket.expires <= now() {
            return Err(AttachFailure::Expired);
        }
        let ExecutorTicket { environment, registration, key, account, generation, .. } = ticket;
        let record = Record::of_ticket(environment, registration, Some(key), account, generation);
        let mut registry = self.registry.lock();
        if !self.directory.is_newest(&record.environment, generation) {
            return Err(AttachFailure::Forgotten);
        }
        let (replaced, forgotten) = registry.adopt(record.clone(), now()).ok_or(AttachFailure::Forgotten)?;
        if let Some(forgotten) = forgotten {
            self.forget(forgotten);
        }
        if let Some(replaced) = replaced {
            self.switch.close(&replaced, Closing::Superseded);
        }
        // Whether it is on the disk is of no matter: the ticket holds all of it.
        drop(self.keep(&record));
        self.take_place(&mut registry, &record)
    }

    fn take_place(&self, registry: &mut Registry, record: &Record) -> Result<Attachment, AttachFailure> {
        let (environment, registration) = (record.environment.as_str(), record.registration.as_str());
        let account = self
            .accounts
            .by_short(&record.owner)
            .filter(|account| account.grant.allows(Role::Executor, environment))
            .ok_or(AttachFailure::Revoked)?;
        account.usage.request().map_err(|_| AttachFailure::TooManyRequests)?;
        let outlet = Outlet::new(&self.limits, Arc::clone(&account.usage.budget));
        let port = self.switch.attach_executor(registration, Arc::clone(&outlet));
        registry.set_attached(environment, registration, true, now());
        self.directory.gained(environment, registration, record.generation);
        Ok(self.attachment(outlet, port, Direction::ToHarness, record, account, None))
    }

    /// Joins a harness to an executor that is there.
    pub(crate) fn attach_harness(
        &self,
        environment: &str,
        registration: &str,
        account: &Account,
    ) -> Result<Attachment, AttachFailure> {
        if !account.grant.allows(Role::Harness, environment) {
            return Err(AttachFailure::Revoked);
        }
        account.usage.request().map_err(|_| AttachFailure::TooManyRequests)?;
        let registry = self.registry.lock();
        let record = registry.current(environment).ok_or(AttachFailure::Superseded)?;
        if record.registration != registration {
            return Err(AttachFailure::Superseded);
        }
        let share = account.usage.sockets.take().ok_or(AttachFailure::TooManySockets)?;
        let outlet = Outlet::new(&self.limits, Arc::clone(&account.usage.budget));
        let socket = HarnessSocket {
            outlet: Arc::clone(&outlet),
            streams: Arc::clone(&account.usage.streams),
            socket_streams: self.limits.callers.socket_streams,
            stream_id_bytes: self.limits.callers.stream_id_bytes,
        };
        let port = self.switch.attach_harness(registration, socket).ok_or(AttachFailure::Away)?;
        Ok(self.attachment(outlet, port, Direction::ToExecutor, record, account.clone(), Some(share)))
    }

    fn attachment(
        &self,
        outlet: Arc<Outlet>,
        port: Box<dyn Port>,
        direction: Direction,
        record: &Record,
        account: Account,
        share: Option<Share>,
    ) -> Attachment {
        Attachment {
            outlet,
            port,
            direction,
            environment: record.environment.clone(),
            registration: record.registration.clone(),
            message_bytes: if record.key.is_some() { NOISE_MESSAGE_BYTES } else { PLAIN_MESSAGE_BYTES },
            account,
            seat: self.threads.seat(&record.environment),
            _share: share,
        }
    }

    /// Serves a socket once its connection is there.
    pub(crate) fn serve<S>(
        self: &Arc<Self>,
        attachment: Attachment,
        stream: impl Future<Output = Option<S>> + Send + 'static,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let app = Arc::clone(self);
        let thread = attachment.seat.handle().clone();
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(async move { app.serve_socket(attachment, stream).await }, &thread);
    }

    async fn serve_socket<S>(&self, attachment: Attachment, stream: impl Future<Output = Option<S>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Attachment {
            outlet,
            port,
            direction,
            environment,
            registration,
            message_bytes,
            account,
            seat: _seat,
            _share,
        } = attachment;
        let role = if direction == Direction::ToHarness { Role::Executor } else { Role::Harness };
        let id = self.next_socket.fetch_add(1, Ordering::Relaxed);
        let open = OpenSocket {
            outlet: Arc::clone(&outlet),
            token: account.grant.hash,
            role,
            environment: environment.clone(),
        };
        self.sockets.lock().insert(id, open);
        // Tokens may have changed, or the end begun, since the ticket was checked.
        if self.is_draining() {
            outlet.close(Closing::Draining);
        } else if !self.accounts.still_allows(&account.grant.hash, role, &environment) {
            outlet.close(Closing::Revoked);
        }
        let since = Instant::now();
        let closing = match stream.await {
            Some(stream) => {
                self.record(&account, (&environment, &registration), role, SocketEvent::Attached);
                tracing::info!(%environment, %registration, role = role.word(), "attached");
                let (limits, metrics) = (Arc::clone(&self.limits), Arc::clone(&self.metrics));
                Socket { outlet, port, direction, message_bytes, limits, metrics }.serve(stream).await
            }
            None => {
                drop(port);
                Closing::PeerGone
            }
        };
        self.sockets.lock().remove(&id);
        if role == Role::Executor {
            let mut registry = self.registry.lock();
            // A newer socket may have taken the place.
            let attached = self.switch.is_attached(&registration);
            registry.set_attached(&environment, &registration, attached, now());
            if !attached {
                self.directory.lost(&environment, &registration);
            }
        }
        let detached = SocketEvent::Detached(closing.word(), since.elapsed());
        self.record(&account, (&environment, &registration), role, detached);
        tracing::info!(%environment, %registration, role = role.word(), reason = closing.word(), "detached");
    }

    /// Records what became of a socket of this environment and registration.
    fn record(&self, account: &Account, place: (&str, &str), role: Role, event: SocketEvent) {
        if let Some(audit) = &self.audit {
            audit.note(audit::Record::socket(&account.grant, place, role.word(), event));
        }
    }
}
