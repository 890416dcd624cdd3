//! Where a log goes that gets large.

use std::io;
use std::os::fd::BorrowedFd;

use super::layout::Layout;

/// What makes the larger memory that a log moves into.
pub(super) trait Room: Send {
    /// What it is to hold.
    fn layout(&self) -> Layout;
    /// Has it kept; the number of its entry.
    ///
    /// # Errors
    /// When it can't be kept.
    fn hand_over(&self, memory: BorrowedFd<'_>) -> io::Result<u64>;
}
