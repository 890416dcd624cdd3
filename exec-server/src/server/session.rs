//! Sessions: what outlives a connection, and the table of all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use codex_exec_protocol::{ErrorCode, RpcError, SessionId};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::kept;
use super::session_life::{ConnectionId, Life, ResumeRefusal};
use crate::blocking;
use crate::environment::machine::{Common, Neighbour, Neighbours};
use crate::process::survival::record::SessionRecord;
use crate::process::survival::{self, Held, taking};
use crate::process::{Handed, LeftProgram, ProcessTable, Store};
use crate::transport::Owner;

/// One session: an unguessable id and the processes it owns.
pub(super) struct Session {
    /// Of one that an earlier server had: what stands for its id, which only its client knows.
    id: SessionId,
    /// That id, once its client has named it.
    named: OnceLock<SessionId>,
    owner: Owner,
    /// In the order in which sessions were made.
    number: u64,
    pub(super) processes: Arc<ProcessTable>,
    life: Mutex<Life>,
    /// Sets off a ping on the connection that has the session.
    pub(super) challenge: Notify,
    /// Its entry for the next server.
    kept: Option<Held>,
}

impl Session {
    /// The id that resumes it.
    pub(super) fn id(&self) -> &SessionId {
        self.named.get().unwrap_or(&self.id)
    }

    /// Ends what it owns, beside.
    fn forget(&self) {
        let processes = Arc::clone(&self.processes);
        tokio::spawn(async move { processes.end().await });
    }

    /// Whether its client asked for a time that it may stay away.
    fn is_left(&self) -> bool {
        self.life().was_asked()
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock()
    }
}

/// All sessions of a server.
pub(super) struct Sessions {
    by_id: Mutex<HashMap<SessionId, Arc<Session>>>,
    made: AtomicU64,
    /// What an earlier server has left is still to be taken over.
    waits: AtomicBool,
    common: Arc<Common>,
}

impl Sessions {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self { by_id: Mutex::default(), made: AtomicU64::new(0), waits: AtomicBool::new(false), common }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.by_id.lock()
    }

    /// Makes a session for a connection. At the bound, one that nobody needs any more makes room.
    ///
    /// # Errors
    /// `-32600` when all are in use.
    pub(super) fn create(&self, connection: ConnectionId, owner: Owner) -> Result<Arc<Session>, RpcError> {
        let mut sessions = self.lock();
        if sessions.len() >= self.common.limits.session.sessions && !self.make_room(&mut sessions) {
            return Err(RpcError::invalid_request(format!(
                "this server already has {} sessions in use, the most it may have; try again when one has ended",
                sessions.len()
            )));
        }
        let id: SessionId = uuid::Uuid::new_v4().to_string().into();
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let life = Life::new(connection, self.common.limits.session.detached_time);
        let kept = kept::begin(self.common.survival(), &kept::record(&id, owner, number, &life));
        let session = Arc::new(Session {
            named: OnceLock::new(),
            owner,
            number,
            processes: self.common.processes(),
            life: Mutex::new(life),
            challenge: Notify::new(),
            kept,
            id,
        });
        if session.kept.is_some() {
            session.processes.keep_as(survival::session_hash(&session.id));
        }
        session.processes.attach();
        sessions.insert(session.id.clone(), Arc::clone(&session));
        Ok(session)
    }

    /// Ends the session that was detached first among those in which nothing runs: of those whose client had seen everything,
    /// else of those that nobody came back to in the time for which output is held. False if there is none.
    fn make_room(&self, sessions: &mut HashMap<SessionId, Arc<Session>>) -> bool {
        let since = |session: &Arc<Session>| Some((session.life().detached_since()?, Arc::clone(session)));
        let mut detached: Vec<_> = sessions.values().filter_map(since).collect();
        detached.sort_unstable_by_key(|(since, _)| *since);
        let (hold, now) = (self.common.limits.process.hold_time, Instant::now());
        let seen = |(_, session): &&(_, Arc<Session>)| {
            session.processes.is_over() && !session.processes.has_unseen()
        };
        let given_up =
            |(since, session): &&(Instant, Arc<Session>)| now >= *since + hold && session.processes.is_over();
        let Some((since, session)) = detached.iter().find(seen).or_else(|| detached.iter().find(given_up))
        else {
            return false;
        };
        // Somebody may have come back just now.
        let ends = session.life().end_detached(*since);
        if ends {
            sessions.remove(session.id());
            session.forget();
        }
        ends
    }

    /// The connection's client needs its session no more. Clients of other sessions that have looked at its programs may still
    /// want to read how these ended, and get the usual time for that.
    pub(super) fn close(self: &Arc<Self>, session: &Arc<Session>, connection: ConnectionId) {
        if session.processes.was_visited() && session.processes.is_over() {
            session.life().set_detached_time(self.common.limits.session.detached_time);
            self.detach(session, connection, true);
        } else if session.life().end_attached(connection) {
            self.lock().remove(session.id());
            session.forget();
        }
    }

    /// The session of this id: also one that an earlier server had, whose client names it now.
    fn find(&self, id: &str) -> Option<Arc<Session>> {
        let mut sessions = self.lock();
        if let Some(session) = sessions.get(id).filter(|session| &**session.id() == id) {
            return Some(Arc::clone(session));
        }
        let session = sessions.remove(kept::stand_in(&survival::session_hash(id)).as_str())?;
        let named = session.named.get_or_init(|| id.into()).clone();
        sessions.insert(named, Arc::clone(&session));
        Some(session)
    }

    /// Until [`Self::take_over`] has found them, sessions that an earlier server had are not unknown.
    pub(super) fn await_sessions(&self) {
        self.waits.store(true, Ordering::Release);
    }

    /// Goes on with the sessions and programs that an earlier server has left. Within a runtime.
    pub(super) fn take_over(self: &Arc<Self>, handed: Vec<Handed>) {
        if let Some(store) = self.common.survival().store().cloned() {
            let mut left = taking::sort(handed, &store);
            for (record, held) in std::mem::take(&mut left.sessions) {
                let programs = left.programs.remove(&record.hash).unwrap_or_default();
                self.take_over_session(&record, held, programs, &store);
            }
            for program in left.programs.into_values().flatten() {
                program.end();
            }
        }
        self.waits.store(false, Ordering::Release);
    }

    fn take_over_session(
        self: &Arc<Self>,
        record: &SessionRecord,
        held: Held,
        programs: Vec<LeftProgram>,
        store: &Arc<dyn Store>,
    ) {
        let since = Instant::now();
        let detached_time = Duration::from_millis(record.detached_ms);
        let session = Arc::new(Session {
            id: kept::stand_in(&record.hash).into(),
            named: OnceLock::new(),
            owner: kept::owner(record),
            number: record.number,
            processes: self.common.processes(),
            life: Mutex::new(Life::detached(since, detached_time, record.asked)),
            challenge: Notify::new(),
            kept: Some(held),
        });
        self.made.fetch_max(record.number + 1, Ordering::Relaxed);
        session.processes.keep_as(record.hash.clone());
        if record.asked {
            session.processes.keep_ended_for(detached_time);
        }
        for program in programs {
            if let Err(error) = session.processes.take_over(program, store) {
                tracing::warn!(%error, "a program that an earlier server left can't go on, and is ended");
            }
        }
        self.lock().insert(session.id.clone(), Arc::clone(&session));
        self.end_in_time(&session, since, since + detached_time);
    }

    /// Gives a detached session to a connection.
    ///
    /// # Errors
    /// `-32600` for an unknown or ended one; `-32010` for one that is attached, whose connection is then challenged.
    pub(super) fn resume(&self, id: &str, connection: ConnectionId) -> Result<Arc<Session>, RpcError> {
        let unknown = || RpcError::invalid_request(format!("unknown session id {id}"));
        let session = self.find(id).ok_or_else(|| match self.waits.load(Ordering::Acquire) {
            true => attached(id),
            false => unknown(),
        })?;
        match session.life().attach(connection, Instant::now()) {
            Ok(()) => {}
            Err(ResumeRefusal::Ended) => return Err(unknown()),
            Err(ResumeRefusal::Attached) => {
                session.challenge.notify_one();
                return Err(attached(id));
            }
        }
        session.processes.attach();
        Ok(session)
    }

    /// How long the session is to live without a connection, as its client asks; how long it will.
    pub(super) fn set_detached_time(&self, session: &Session, asked: Duration) -> Duration {
        let time = asked.clamp(Duration::from_millis(1), self.common.limits.session.longest_detached_time);
        session.life().set_detached_time(time);
        session.processes.keep_ended_for(time);
        if let Some(held) = &session.kept {
            let record = kept::record(session.id(), session.owner, session.number, &session.life());
            kept::update(self.common.survival(), held, &record);
        }
        time
    }

    /// A connection is gone: its session waits for a resume, and ends when none comes in time.
    /// After an `orderly` end its client has seen what was sent.
    pub(super) fn detach(self: &Arc<Self>, session: &Arc<Session>, connection: ConnectionId, orderly: bool) {
        let since = Instant::now();
        let Some(deadline) = session.life().detach(connection, since) else { return };
        session.processes.detach(orderly);
        // A client that left on purpose, for long, does not make programs wait.
        if orderly && session.is_left() {
            session.processes.release();
        }
        self.end_in_time(session, since, deadline);
    }

    /// Has a session that is detached since then end when nobody comes in time.
    fn end_in_time(self: &Arc<Self>, session: &Arc<Session>, since: Instant, deadline: Instant) {
        let (sessions, session) = (Arc::clone(self), Arc::clone(session));
        // Ends by itself at the deadline; a resumed session makes it stop earlier.
        tokio::spawn(async move {
            let release = since + sessions.common.limits.process.hold_time;
            if release < deadline {
                tokio::time::sleep_until(release.into()).await;
                // Also when it was resumed since: a client that reads nothing of what it missed must not stall
                // programs for ever. A later detachment has a hold and a timer of its own.
                if !session.life().was_detached_after(since) {
                    session.processes.release();
                }
                if !session.life().is_detached_since(since) {
                    return;
                }
            }
            tokio::time::sleep_until(deadline.into()).await;
            if session.life().is_detached_since(since) && session.life().expire(Instant::now()) {
                sessions.lock().remove(session.id());
                session.processes.end().await;
            }
        });
    }

    /// Ends every session: shutdown.
    pub(super) async fn end(&self) {
        let sessions: Vec<_> = self.lock().drain().map(|(_, session)| session).collect();
        for session in &sessions {
            session.life().end();
        }
        let ends = sessions.iter().map(|session| session.processes.end());
        futures_util::future::join_all(ends).await;
        drop(sessions);
        let logs = self.common.logs().clone();
        // What programs said at their ends is to be on disk before the server is gone.
        if blocking::spawn(move || logs.flush()).await.is_err() {
            tracing::warn!("some output may not be written to disk");
        }
    }
}

/// `-32010`: clients try again.
fn attached(id: &str) -> RpcError {
    RpcError::new(
        ErrorCode::SESSION_ATTACHED,
        format!("session {id} is attached to another connection; try again"),
    )
}

/// What connections of one owner may see: all sessions that any of them has made.
pub(super) struct Neighbourhood {
    pub(super) sessions: Arc<Sessions>,
    pub(super) owner: Owner,
}

impl Neighbours for Neighbourhood {
    fn processes(&self, session: &str) -> Option<Arc<ProcessTable>> {
        let sessions = self.sessions.lock();
        let session = sessions.get(session).filter(|session| session.owner == self.owner)?;
        Some(Arc::clone(&session.processes))
    }

    fn all(&self) -> Vec<Neighbour> {
        let mut all: Vec<Arc<Session>> =
            self.sessions.lock().values().filter(|session| session.owner == self.owner).cloned().collect();
        all.sort_unstable_by_key(|session| session.number);
        let neighbour = |session: Arc<Session>| Neighbour {
            session: session.id().clone(),
            attached: session.life().is_attached(),
            processes: Arc::clone(&session.processes),
        };
        all.into_iter().map(neighbour).collect()
    }
}
