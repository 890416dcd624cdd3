//! Requests that this side has sent: their numbers, and the tasks that wait for answers.

use std::collections::HashMap;
use std::sync::Arc;

use codex_exec_protocol::{RequestId, RpcError};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// The JSON of a result, or the error that came instead.
pub type Answered = Result<String, RpcError>;

/// The requests of one connection to its peer.
#[derive(Debug, Default)]
pub struct Asks(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The last number that was given out; they count from 1.
    last: i64,
    answers: HashMap<i64, oneshot::Sender<Answered>>,
    closed: bool,
}

/// One request that waits. Dropping it gives up; an answer that comes later is ignored.
#[derive(Debug)]
pub struct Ask {
    asks: Arc<Asks>,
    number: i64,
    answer: oneshot::Receiver<Answered>,
}

impl Asks {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock()
    }

    /// Numbers a request; none after [`Self::close`].
    pub fn begin(self: &Arc<Self>) -> Option<Ask> {
        let mut waiting = self.lock();
        if waiting.closed {
            return None;
        }
        waiting.last += 1;
        let number = waiting.last;
        let (sender, answer) = oneshot::channel();
        waiting.answers.insert(number, sender);
        drop(waiting);
        Some(Ask { asks: Arc::clone(self), number, answer })
    }

    /// Hands an answer to who waits for it. False if nothing with this id was ever asked; a second answer, and one that
    /// comes too late, is ignored (4.3).
    pub fn settle(&self, id: &RequestId, answer: Answered) -> bool {
        let RequestId::Number(number) = id else { return false };
        let mut waiting = self.lock();
        if !(1..=waiting.last).contains(number) {
            return false;
        }
        if let Some(sender) = waiting.answers.remove(number) {
            // The task that waited may have given up just now.
            let _ = sender.send(answer);
        }
        true
    }

    /// The peer is gone: nobody waits any longer.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.answers.clear();
    }
}

impl Ask {
    /// What the request is to be sent with.
    pub fn id(&self) -> RequestId {
        RequestId::Number(self.number)
    }

    /// Waits for the answer; none when the peer is gone.
    pub async fn answer(mut self) -> Option<Answered> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.asks.lock().answers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_reaches_its_request_once_and_only_what_was_asked_counts() {
        let asks = Arc::new(Asks::default());
        let (first, second) = (asks.begin().unwrap(), asks.begin().unwrap());
        assert_eq!((first.id(), second.id()), (RequestId::Number(1), RequestId::Number(2)));
        for unknown in
            [RequestId::Number(0), RequestId::Number(3), RequestId::UNREADABLE, RequestId::Text("1".into())]
        {
            assert!(!asks.settle(&unknown, Ok("5".into())), "{unknown:?}");
        }
        assert!(asks.settle(&RequestId::Number(2), Ok("two".into())));
        assert!(asks.settle(&RequestId::Number(2), Ok("again".into())), "a second answer is ignored");
        assert_eq!(second.answer().await, Some(Ok("two".into())));
        drop(first);
        assert!(asks.settle(&RequestId::Number(1), Ok("late".into())), "a late answer is ignored");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_peer_that_is_gone() {
        let asks = Arc::new(Asks::default());
        let waiting = asks.begin().unwrap();
        asks.close();
        assert_eq!(waiting.answer().await, None);
        assert!(asks.begin().is_none());
    }
}
