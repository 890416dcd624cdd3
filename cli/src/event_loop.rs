//! The event loop that a command runs on.

use anyhow::Context;

/// Runs this work to its end, on an event loop of its own.
pub(crate) fn event_loop(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    // One thread: a wake-up on another core costs more than most requests.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("can't start the event loop")?;
    let done = runtime.block_on(work);
    // A worker thread may hang in a file system for good; it must not keep the process.
    runtime.shutdown_background();
    done
}
