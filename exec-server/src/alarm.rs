//! Wakes a task after less than a millisecond, which the runtime's own timers can't tell apart (timerfd_create(2)).

use std::io::Result;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use codex_children::descriptor::register;

/// An alarm that can be set again and again.
pub(crate) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// One that is not set.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub(crate) fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(register(timerfd_create(TimerfdClockId::Monotonic, flags)?, Interest::READABLE)?))
    }

    /// Rings once, so much later; what was set before is forgotten.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn set(&self, later: Duration) -> Result<()> {
        let later = Timespec::try_from(later).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: none, it_value: later };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits until it rings.
    pub(crate) async fn rings(&self) {
        if let Ok(mut ready) = self.0.readable().await {
            ready.clear_ready();
        }
    }
}
