//! A request with the place that its answer goes to.

use std::sync::Arc;

use codex_exec_protocol::encode::Empty;
use codex_exec_protocol::{ErrorCode, RequestId, RpcError, WireEncode};

use crate::environment::machine::Reply;
use crate::observe::Observed;
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
    /// What is told of the answer, on an observed server.
    pub(super) observed: Option<Box<Observed>>,
}

impl AnswerSlot {
    /// Answers with an error.
    pub(super) fn fail(self, error: RpcError) {
        self.answer(Err::<Empty, _>(error));
    }

    /// The code of an error, where somebody wants to know.
    fn error_of<R>(&self, result: &Result<R, RpcError>) -> Option<ErrorCode> {
        self.observed.as_ref().and(result.as_ref().err()).map(|error| error.code)
    }
}

/// Tells of an answer of so many bytes.
pub(super) fn tell(observed: Option<Box<Observed>>, error: Option<ErrorCode>, bytes: usize) {
    if let Some(observed) = observed {
        observed.answered(error, bytes);
    }
}

impl<R: WireEncode> Reply<R> for AnswerSlot {
    fn answer(self, result: Result<R, RpcError>) {
        let error = self.error_of(&result);
        let bytes = self.outbox.answer_any(&self.id, result);
        tell(self.observed, error, bytes);
    }

    fn answer_holding(self, result: Result<R, RpcError>, hold: impl Send + 'static) {
        let error = self.error_of(&result);
        let bytes = self.outbox.answer_holding(&self.id, result, (hold, self.in_flight));
        tell(self.observed, error, bytes);
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
