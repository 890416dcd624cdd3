//! Drops things whose end may wait (the last close of a file on a hanging server) away from the event loop.

use tokio::runtime::Handle;

use crate::blocking;

/// Drops `value` on a worker thread when called inside a runtime, and at once elsewhere.
pub(super) fn close_later(value: impl Send + 'static) {
    match Handle::try_current() {
        Ok(_) => blocking::spawn(move || drop(value)).detach(),
        Err(_) => drop(value),
    }
}
