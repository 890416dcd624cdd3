//! How much a tool takes, waits for and shows.

use std::time::Duration;

/// From SIGTERM to SIGKILL when `terminate` is asked for. Our own pace: nothing outside depends on it.
pub(crate) const TERMINATE_GRACE: Duration = Duration::from_secs(5);

/// The bounds of the tools. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long `exec` and `exec_read` wait for a program's end when the call does not say.
    pub usual_wait: Duration,
    /// How long `exec_write` and `exec_signal` wait for an answer of the program when the call does not say.
    pub short_wait: Duration,
    /// The longest that a call may ask to wait; more is cut to it. Common clients give a call up after 60 s.
    pub longest_wait: Duration,
    /// How long a task can be asked for; its program may go on.
    pub task_life: Duration,
    /// What a call shows of output, files and bodies when it does not say.
    pub usual_shown: usize,
    /// The most that a call may ask to be shown; more is cut to it.
    pub most_shown: usize,
    /// Largest file that `read` and `edit` take; a larger one is refused with the advice to use programs.
    pub file: u64,
    /// Entries that `list`, `glob` and `grep` show when a call does not say.
    pub usual_entries: usize,
    /// The most entries that a call may ask for; more is cut to it.
    pub most_entries: usize,
    /// How deep `list` looks at most.
    pub depth: u64,
    /// Entries that `glob` looks at; beyond it says that there may be more.
    pub looked_at: u64,
    /// Connections of clients over HTTP at once; more wait.
    pub http_connections: usize,
    /// Time for a client to send the head of a request over HTTP.
    pub http_head_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            usual_wait: Duration::from_secs(10),
            short_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(45),
            task_life: Duration::from_secs(24 * 60 * 60),
            usual_shown: 32 << 10,
            most_shown: 1 << 20,
            file: 32 << 20,
            usual_entries: 500,
            most_entries: 5_000,
            depth: 16,
            looked_at: 50_000,
            http_connections: 256,
            http_head_time: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// How long to wait, given what the call says and what it gets otherwise.
    pub(crate) fn wait(&self, asked_ms: Option<u64>, usual: Duration) -> Duration {
        asked_ms.map_or(usual, Duration::from_millis).min(self.longest_wait)
    }

    /// How much to show.
    pub(crate) fn shown(&self, asked: Option<u64>) -> usize {
        asked.map_or(self.usual_shown, whole).clamp(1, self.most_shown)
    }

    /// How many entries to show.
    pub(crate) fn entries(&self, asked: Option<u64>) -> usize {
        asked.map_or(self.usual_entries, whole).clamp(1, self.most_entries)
    }
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
