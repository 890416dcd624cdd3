//! The signals that reach this command, and what each asks for.

use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use codex_children::signals;
use codex_exec_server::protocol::process::SignalName;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C pressed again within this time means that the first was not enough.
const REPEATED: Duration = Duration::from_secs(1);
/// How long a program may go on after the second of two such presses. Our own pace: nothing outside depends on it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Ctrl-C: SIGINT for the program.
    Interrupt,
    /// An end with time to say goodbye.
    Terminate,
    /// The same signal for the program; with its number.
    Forward(SignalName, u8),
    /// The window has another size.
    Resize,
}

/// The signals that this command acts on.
pub(crate) struct Signals(Vec<(Asked, Signal)>);

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut wanted = vec![
            (Asked::Interrupt, SignalKind::interrupt()),
            (Asked::Terminate, SignalKind::terminate()),
            (Asked::Forward(SignalName::Quit, 3), SignalKind::quit()),
            (Asked::Forward(SignalName::User1, 10), SignalKind::user_defined1()),
            (Asked::Forward(SignalName::User2, 12), SignalKind::user_defined2()),
            (Asked::Resize, SignalKind::window_change()),
        ];
        // Under nohup, both sides are to outlive the terminal.
        if !signals::ignores_hangup() {
            wanted.push((Asked::Forward(SignalName::Hangup, 1), SignalKind::hangup()));
        }
        let listen = |(asked, kind)| Ok((asked, signal(kind).context("can't listen for signals")?));
        wanted.into_iter().map(listen).collect::<anyhow::Result<_>>().map(Self)
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Asked {
        std::future::poll_fn(|cx| {
            let mut all = self.0.iter_mut();
            match all.find_map(|(asked, signal)| signal.poll_recv(cx).is_ready().then_some(*asked)) {
                Some(asked) => Poll::Ready(asked),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// How often, and how fast, Ctrl-C was pressed.
#[derive(Debug, Default)]
pub(crate) struct Presses {
    in_a_row: u32,
    last: Option<Instant>,
    /// The program is to be ended then, should it still run.
    pub(crate) end_at: Option<Instant>,
}

impl Presses {
    /// Ctrl-C at `now`. True when the program is to be ended at once.
    pub(crate) fn press(&mut self, now: Instant) -> bool {
        let repeated = self.last.is_some_and(|last| now.saturating_duration_since(last) <= REPEATED);
        self.in_a_row = if repeated { self.in_a_row + 1 } else { 1 };
        self.last = Some(now);
        if self.in_a_row == 2 {
            self.end_at.get_or_insert(now + PATIENCE);
        }
        self.in_a_row > 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_impatient_presses_end_a_program() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut slow = Presses::default();
        assert!([0, 2000, 4000, 6000].into_iter().all(|ms| !slow.press(at(ms))));
        assert_eq!(slow.end_at, None);
        let mut two = Presses::default();
        assert!(!two.press(at(0)) && !two.press(at(900)));
        assert_eq!(two.end_at, Some(at(1900)));
        assert!(two.press(at(1000)), "the third in a row");
    }
}
