//! Who follows a process: the connection that gets its events, and the attachment that writes and sets the pace.

use std::sync::Arc;

use codex_exec_protocol::Seq;

use super::Process;
use crate::process::log::{LogEvent, OutputLog};

impl Process {
    /// Hands the follower what it has not been sent, as long as `take` says to go on. If something is left, the process
    /// joins the end of the news again. Returns the last number that was handed over.
    pub fn send_unsent(self: &Arc<Self>, mut take: impl FnMut(LogEvent<'_>) -> bool) -> Option<Seq> {
        let mut state = self.lock();
        let mut last = None;
        for event in state.log.unsent() {
            last = Some(match &event {
                LogEvent::Output(chunk) => chunk.seq,
                LogEvent::Exited(seq, _) | LogEvent::Closed(seq) => *seq,
            });
            if !take(event) {
                break;
            }
        }
        if let Some(seq) = last {
            state.log.sent(seq);
        }
        let more = !state.log.all_sent();
        state.in_news = more;
        drop(state);
        if more {
            self.news.push(Arc::clone(self));
        }
        last
    }

    /// The follower has received everything up to `seq`; a program that waited for room goes on.
    pub fn received(&self, seq: Seq) {
        self.make_room(|log| log.received(seq));
    }

    /// Changes the log so that more may go; a program that waited for room goes on.
    pub(in crate::process) fn make_room(&self, change: impl FnOnce(&mut OutputLog)) {
        let mut state = self.lock();
        let had_room = state.log.has_room();
        change(&mut state.log);
        let wake_pump = !had_room && state.log.has_room();
        drop(state);
        if wake_pump {
            self.pump.notify_one();
        }
    }

    /// Changes the log's followers; the pump looks again.
    pub(in crate::process) fn follow(&self, change: impl FnOnce(&mut OutputLog)) {
        if self.pull_only {
            return;
        }
        let mut state = self.lock();
        change(&mut state.log);
        drop(state);
        self.pump.notify_one();
    }

    /// A connection follows from now on.
    pub(in crate::process) fn attach(&self) {
        if self.pull_only {
            return;
        }
        let mut state = self.lock();
        state.in_news = false;
        state.log.attach();
        drop(state);
        self.pump.notify_one();
    }

    /// Another attachment writes from now on, and reads after `after`.
    pub(in crate::process) fn take_over(&self, id: Arc<String>, after: Seq) {
        let mut state = self.lock();
        state.attachment = Some(id);
        state.log.set_reader(after);
        drop(state);
        self.changed.notify_waiters();
        self.pump.notify_one();
    }

    /// An attachment has everything up to `seq`.
    pub(crate) fn attachment_has(&self, id: &str, seq: Seq) {
        let mut state = self.lock();
        if state.writes_for(id) {
            state.log.set_reader(seq);
            drop(state);
            self.pump.notify_one();
        }
    }

    /// An attachment goes.
    pub(in crate::process) fn let_go(&self, id: &str) {
        let mut state = self.lock();
        if state.writes_for(id) {
            state.attachment = None;
            state.log.set_reader(Seq::MAX);
            drop(state);
            self.pump.notify_one();
        }
    }
}
