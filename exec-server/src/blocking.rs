//! Runs work that may block beside the event loop; where no thread is there and the system can start none, on the event loop
//! itself.
//!
//! A program that uses up the processes of its machine uses up the threads too, and the runtime panics without them, at
//! the very moment when somebody has to end that program. (With one thread, the runtime has work wait for that.)

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// Work that has begun; it goes on when this is dropped.
#[must_use = "work that nobody waits for is said to be detached"]
#[derive(Debug)]
pub(crate) enum Blocking<T> {
    Beside(JoinHandle<Option<T>>),
    Done(Option<T>),
}

/// The work has no result: it panicked, or the runtime ended.
#[derive(Debug, thiserror::Error)]
#[error("the work was stopped before its end")]
pub(crate) struct Stopped;

/// Runs `work` on a thread of the current runtime, or here and now where there is none to be had.
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    spawn_beside(work).unwrap_or_else(|work| {
        tracing::warn!("the system can start no thread; everybody waits for work that may block");
        Blocking::Done(catch_unwind(AssertUnwindSafe(work)).ok())
    })
}

/// As [`spawn`], for work that others make last as long as they like: where there is no thread, it is given back.
pub(crate) fn spawn_beside<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: W,
) -> Result<Blocking<T>, W> {
    // What the runtime refuses stays in its queue, and is not to be done twice.
    let work = Arc::new(Mutex::new(Some(work)));
    let same = Arc::clone(&work);
    let beside = move || take(&same).map(|work| work());
    match catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(beside))) {
        Ok(handle) => Ok(Blocking::Beside(handle)),
        Err(panic) => take(&work).map_or_else(|| resume_unwind(panic), Err),
    }
}

fn take<T>(shared: &Mutex<Option<T>>) -> Option<T> {
    shared.lock().take()
}

impl<T> Blocking<T> {
    /// Nobody waits for it.
    pub(crate) fn detach(self) {}
}

/// The result is only moved.
impl<T> Unpin for Blocking<T> {}

impl<T> Future for Blocking<T> {
    type Output = Result<T, Stopped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = match self.get_mut() {
            Self::Done(result) => Poll::Ready(Ok(result.take())),
            Self::Beside(handle) => Pin::new(handle).poll(context),
        };
        done.map(|done| done.ok().flatten().ok_or(Stopped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_children::testing::refuse_calls;

    #[test]
    fn work_is_done_once_with_a_thread_and_without() {
        for threads in [true, false] {
            let on_its_own = std::thread::spawn(move || {
                if !threads {
                    refuse_calls(&[libc::SYS_clone, libc::SYS_clone3], libc::EAGAIN);
                }
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                let (count, here) = (Arc::new(Mutex::new(0)), std::thread::current().id());
                runtime.block_on(async {
                    for _ in 0..3 {
                        let count = Arc::clone(&count);
                        let work = move || {
                            *count.lock() += 1;
                            std::thread::current().id()
                        };
                        assert_eq!(spawn(work).await.expect("a result") != here, threads);
                    }
                });
                drop(runtime);
                assert_eq!(*count.lock(), 3, "with threads: {threads}");
            });
            on_its_own.join().expect("no panic");
        }
    }
}
