//! Requests that wait for their turn, in the order in which they came.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A line of requests, of which the first is done and the others wait.
#[derive(Debug)]
pub(super) struct Line {
    last: Mutex<Option<oneshot::Receiver<()>>>,
    /// Counts those in the line.
    places: Arc<()>,
    most: usize,
}

/// A place in a line. Dropping it lets the next one go on.
#[derive(Debug)]
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<()>>,
    /// Its drop is what the next one waits for.
    _over: oneshot::Sender<()>,
    _place: Arc<()>,
}

impl Line {
    /// An empty line for at most this many.
    pub(super) fn new(most: usize) -> Self {
        Self { last: Mutex::default(), places: Arc::default(), most }
    }

    /// Takes the next place; none when the line is full. Called in the order of the requests.
    pub(super) fn enter(&self) -> Option<Turn> {
        let mut last = self.last.lock();
        // One is the line's own.
        if Arc::strong_count(&self.places) > self.most {
            return None;
        }
        let (over, next) = oneshot::channel();
        let before = last.replace(next);
        Some(Turn { before, _over: over, _place: Arc::clone(&self.places) })
    }
}

impl Turn {
    /// Waits until everybody before is done.
    pub(super) async fn comes(&mut self) {
        if let Some(before) = self.before.take() {
            // Nobody sends: those before end by going away.
            let _ = before.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_a_full_line_takes_nobody() {
        let line = Line::new(2);
        let (mut first, mut second) = (line.enter().unwrap(), line.enter().unwrap());
        assert!(line.enter().is_none());
        first.comes().await;
        {
            let mut waiting = std::pin::pin!(second.comes());
            assert!(futures_util::poll!(&mut waiting).is_pending(), "the first is not done");
            drop(first);
            waiting.await;
        }
        let (mut third, fourth) = (line.enter().unwrap(), line.enter());
        assert!(fourth.is_none(), "two are in the line");
        drop(second);
        third.comes().await;
        // A place that is given up in the line is passed over.
        drop((line.enter().unwrap(), third));
        line.enter().unwrap().comes().await;
    }
}
