//! Requests under way: ids, answers, and what becomes of them when the connection is lost.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::error::ClientError;
use crate::protocol::process::{Read, Terminate, Write};
use crate::protocol::{ErrorCode, Method, RpcError};

/// May a request be sent again after a resume?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Repeating it changes nothing.
    Safe,
    /// It may already have been done.
    Never,
}

impl Retry {
    /// For requests that are harmless to repeat by their nature, or made so by an id (15.4).
    pub(super) fn by_name(method: &str) -> Self {
        if [Read::NAME, Terminate::NAME].contains(&method) { Self::Safe } else { Self::Never }
    }

    /// Writes are safe with a `writeId`, on servers that know it.
    pub(super) fn of<M: Method>(params: &M::Params) -> Self {
        let write = (params as &dyn std::any::Any).downcast_ref::<<Write as Method>::Params>();
        if write.is_some_and(|write| write.write_id.is_some()) { Self::Safe } else { Self::by_name(M::NAME) }
    }
}

/// The raw JSON of a result, or why there is none.
pub(super) type RawResult = Result<String, ClientError>;

struct Pending {
    answer: oneshot::Sender<RawResult>,
    message: Bytes,
    retry: Retry,
    sent: bool,
}

/// The requests under way, by id.
#[derive(Default)]
pub(super) struct Calls {
    last_id: i64,
    pending: BTreeMap<i64, Pending>,
    ended: Option<String>,
}

impl Calls {
    /// The next id, from 1 upwards.
    pub(super) fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// Why no further call can be made.
    pub(super) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// Whether anybody waits for an answer that has been asked for.
    pub(super) fn any_waiting(&self) -> bool {
        self.pending.values().any(|pending| pending.sent)
    }

    pub(super) fn register(&mut self, id: i64, message: Bytes, retry: Retry) -> oneshot::Receiver<RawResult> {
        let (answer, receiver) = oneshot::channel();
        self.pending.insert(id, Pending { answer, message, retry, sent: false });
        receiver
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&mut self, id: i64) {
        self.pending.remove(&id);
    }

    /// The message of a queued call that is about to be sent; none when nobody waits for it any more.
    pub(super) fn take_for_sending(&mut self, id: i64) -> Option<Bytes> {
        self.pending.get_mut(&id).map(|pending| {
            pending.sent = true;
            pending.message.clone()
        })
    }

    /// Matches an answer; one that nobody waits for is ignored.
    pub(super) fn answer(&mut self, id: i64, answer: Result<String, RpcError>) {
        if let Some(pending) = self.pending.remove(&id) {
            // A dropped receiver is a caller that stopped waiting.
            let _ = pending.answer.send(answer.map_err(|error| match error {
                RpcError { code: ErrorCode(-32000), message, .. }
                    if message == "JSON-RPC transport closed" =>
                {
                    ClientError::Lost(message)
                }
                error => ClientError::Rpc(error),
            }));
        }
    }

    /// The connection is gone, but may be resumed: what was sent and can't be repeated fails.
    pub(super) fn interrupted(&mut self, reason: &str) {
        let failed: Vec<i64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.sent && pending.retry == Retry::Never)
            .map(|(id, _)| *id)
            .collect();
        for id in failed {
            if let Some(pending) = self.pending.remove(&id) {
                let _ = pending.answer.send(Err(ClientError::Lost(reason.to_owned())));
            }
        }
    }

    /// What has to be sent again, in the order of the first time.
    pub(super) fn to_repeat(&self) -> Vec<Bytes> {
        self.pending.values().filter(|pending| pending.sent).map(|pending| pending.message.clone()).collect()
    }

    /// The connection is gone for good.
    pub(super) fn end(&mut self, reason: &str) {
        self.ended.get_or_insert_with(|| reason.to_owned());
        for (_, pending) in std::mem::take(&mut self.pending) {
            let _ = pending.answer.send(Err(ClientError::Lost(reason.to_owned())));
        }
    }
}
