//! A request with the place that its answer goes to.

use std::sync::Arc;

use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::{RequestId, RpcError, WireEncode};

use crate::environment::machine::Reply;
use crate::rpc::{InFlight, Outbox};

/// A request that has been read and not begun.
pub(super) struct Request<'a> {
    pub(super) params: &'a str,
    pub(super) answer: AnswerSlot,
}

/// Where a request's answer goes.
pub(super) struct AnswerSlot {
    pub(super) outbox: Arc<Outbox>,
    pub(super) id: RequestId,
    pub(super) in_flight: InFlight,
}

impl AnswerSlot {
    /// Answers with an error.
    pub(super) fn fail(self, error: RpcError) {
        self.answer(Err::<Empty, _>(error));
    }
}

impl<R: WireEncode> Reply<R> for AnswerSlot {
    fn answer(self, result: Result<R, RpcError>) {
        self.outbox.answer_any(&self.id, result);
    }

    fn answer_holding(self, result: Result<R, RpcError>, hold: impl Send + 'static) {
        self.outbox.answer_holding(&self.id, result, (hold, self.in_flight));
    }

    fn is_gone(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Slow requests end with their connection anyway.
    async fn gone(&mut self) {
        std::future::pending().await
    }

    async fn room(&self) {
        self.outbox.room().await;
    }
}
