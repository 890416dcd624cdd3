//! Where an orphan comes from.

use super::child_mark::Mark;
use super::procfs::StartTime;

/// What tells the orphans of a program from others'.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// When it was started, or at most a moment before.
    pub(super) started: StartTime,
    /// The mark that its descendants inherit.
    pub(super) mark: Option<Mark>,
    /// A server before this one has started it: its orphans come to the keeper.
    pub(super) adopted: bool,
}
