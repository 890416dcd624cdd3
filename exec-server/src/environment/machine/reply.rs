//! Where answers go.

use codex_exec_protocol::RpcError;

/// Takes the answer to one request, from whatever thread has it: a connection's outbox, or a caller in this process.
pub(crate) trait Reply<R>: Send + Sized + 'static {
    /// Hands the result to the one who asked.
    fn answer(self, result: Result<R, RpcError>);

    /// Gives the answer; `hold` is dropped once whoever asked has taken it.
    fn answer_holding(self, result: Result<R, RpcError>, hold: impl Send + 'static);

    /// Whether nobody waits for the answer any more.
    fn is_gone(&self) -> bool;

    /// Waits until nobody waits for the answer any more; for ever where the whole task ends then.
    fn gone(&mut self) -> impl Future<Output = ()> + Send;

    /// Waits until one more answer may be made: those that nobody takes don't pile up.
    fn room(&self) -> impl Future<Output = ()> + Send;
}
