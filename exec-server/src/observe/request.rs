//! The hook: a connection's caller begins each request, and its answer ends what was begun.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use codex_exec_protocol::envelope::TraceContext;
use codex_exec_protocol::{ErrorCode, RpcError, SessionId};
use codex_observe::{Audit, Place, cut};

use super::figures::Figures;
use super::observer::Observer;
use super::peer::Peer;
use super::record::{Act, Outcome, Record, Who};
use super::spans::{RequestSpan, SpanEnd, TracedRequest, Tracer};
use super::words::Words;

/// One connection, as an observed server sees it.
#[derive(Debug)]
pub(crate) struct Caller {
    who: Arc<Who>,
    audit: Option<Audit<Record>>,
    figures: Option<Arc<Figures>>,
    tracer: Option<Arc<dyn Tracer>>,
}

/// A request that begins, as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun<'a> {
    pub(crate) method: &'a str,
    /// Raw JSON.
    pub(crate) params: &'a str,
    /// Raw JSON of the client's trace context.
    pub(crate) trace: Option<&'a str>,
    /// Bytes of the whole message.
    pub(crate) bytes: usize,
}

/// A request that has begun. Dropping it says that it was never answered.
#[derive(Debug)]
pub(crate) struct Observed {
    who: Arc<Who>,
    method: String,
    request_bytes: usize,
    since: Instant,
    figures: Option<Arc<Figures>>,
    /// Only for an act.
    recorded: Option<(SystemTime, Words, Place<Record>)>,
    span: Option<Box<dyn RequestSpan>>,
    outcome: Outcome,
    answer_bytes: usize,
}

impl Caller {
    /// The caller of a connection; none where nobody looks.
    pub(crate) fn new(observer: &Observer, peer: Peer, connection: u64) -> Option<Self> {
        if observer.is_blind() {
            return None;
        }
        let Observer { audit, figures, tracer, environment } = observer.clone();
        if let Some(figures) = &figures {
            figures.connected(peer.address.transport());
        }
        let (client, session) = (OnceLock::new(), OnceLock::new());
        let who = Arc::new(Who { peer, connection, environment, client, session });
        Some(Self { who, audit, figures, tracer })
    }

    /// The session that the connection has from now on.
    pub(crate) fn has(&self, session: &SessionId) {
        let _ = self.who.session.set(session.clone());
    }

    /// Begins a request.
    ///
    /// # Errors
    /// `-32603` if it must not be done, since it can't be recorded.
    pub(crate) fn begin(&self, begun: Begun<'_>) -> Result<Box<Observed>, RpcError> {
        let Begun { method, params, trace, bytes } = begun;
        let recorded = match &self.audit {
            Some(audit) => self.record(audit, method, params)?,
            None => None,
        };
        let span = self.tracer.as_ref().map(|tracer| {
            let request = TracedRequest { method, transport: self.who.peer.address.transport(), bytes };
            tracer.begin(&request, trace.and_then(|trace| TraceContext::read(trace).ok()).as_ref())
        });
        Ok(Box::new(Observed {
            who: Arc::clone(&self.who),
            method: cut(method.into()),
            request_bytes: bytes,
            since: Instant::now(),
            figures: self.figures.clone(),
            recorded,
            span,
            outcome: Outcome::Unanswered,
            answer_bytes: 0,
        }))
    }

    fn record(
        &self,
        audit: &Audit<Record>,
        method: &str,
        params: &str,
    ) -> Result<Option<(SystemTime, Words, Place<Record>)>, RpcError> {
        let Some(mut words) = Words::of(method, params) else { return Ok(None) };
        let place = audit.claim().map_err(|error| RpcError::internal(error.to_string()))?;
        if let Some(client) = words.client.take() {
            let _ = self.who.client.set(client);
        }
        Ok(place.map(|place| (SystemTime::now(), words, place)))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(figures) = &self.figures {
            figures.disconnected(self.who.peer.address.transport());
        }
    }
}

impl Observed {
    /// The request was answered, with so many bytes.
    pub(crate) fn answered(mut self: Box<Self>, error: Option<ErrorCode>, bytes: usize) {
        self.outcome = error.map_or(Outcome::Done, Outcome::Failed);
        self.answer_bytes = bytes;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let (outcome, duration) = (self.outcome, self.since.elapsed());
        let method = std::mem::take(&mut self.method);
        if let Some(span) = self.span.take() {
            span.end(match outcome {
                Outcome::Done => SpanEnd::Done { bytes: self.answer_bytes },
                Outcome::Failed(code) => SpanEnd::Failed(code),
                Outcome::Unanswered => SpanEnd::Unanswered,
            });
        }
        if let Some(figures) = &self.figures {
            figures.request(&method, outcome, duration);
        }
        if let Some((time, words, place)) = self.recorded.take() {
            place.fill(Record::request(
                time,
                Act {
                    who: Arc::clone(&self.who),
                    method,
                    words,
                    outcome,
                    request_bytes: self.request_bytes,
                    answer_bytes: self.answer_bytes,
                    duration,
                },
            ));
        }
    }
}
