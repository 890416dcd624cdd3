//! How much a page has room for: it says what it has drawn.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The room of one page, in bytes.
#[derive(Debug)]
pub(super) struct Credit {
    most: u64,
    left: Mutex<u64>,
    grown: Notify,
}

impl Credit {
    pub(super) fn new(most: u64) -> Self {
        Self { most, left: Mutex::new(most), grown: Notify::new() }
    }

    /// Waits until there is room for a quarter of the window; how much there is.
    pub(super) async fn room(&self) -> u64 {
        loop {
            let grown = self.grown.notified();
            let left = *self.left.lock();
            // In small pieces, each would cost a request.
            if left > 0 && left >= self.most / 4 {
                return left;
            }
            grown.await;
        }
    }

    /// So much was sent. A single piece may be larger than the room there was.
    pub(super) fn take(&self, bytes: u64) {
        let mut left = self.left.lock();
        *left = left.saturating_sub(bytes);
    }

    /// The page has drawn so much. One that says too much gets no more than the window.
    pub(super) fn give(&self, bytes: u64) {
        let mut left = self.left.lock();
        *left = left.saturating_add(bytes).min(self.most);
        drop(left);
        self.grown.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn there_is_room_again_once_enough_was_drawn() {
        let credit = Credit::new(100);
        assert_eq!(credit.room().now_or_never(), Some(100));
        credit.take(90);
        assert_eq!(credit.room().now_or_never(), None);
        credit.give(14);
        assert_eq!(credit.room().now_or_never(), None, "24 of 100");
        credit.give(1);
        assert_eq!(credit.room().now_or_never(), Some(25));
        credit.take(1000);
        assert_eq!(credit.room().now_or_never(), None);
        credit.give(u64::MAX);
        assert_eq!(credit.room().now_or_never(), Some(100), "no more than the window");
    }
}
