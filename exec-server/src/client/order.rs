//! Puts a process's events in order by number and closes gaps after a resume (8.6, 15.4); no I/O.

use std::collections::BTreeMap;

use crate::environment::ProcessEvent;
use crate::protocol::Seq;
use crate::protocol::process::ReadResult;

/// Orders the events of one process.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// The last number handed on.
    published: Seq,
    /// Events whose predecessors are still missing.
    held: BTreeMap<Seq, ProcessEvent>,
    held_bytes: usize,
    exited: bool,
    closed: bool,
}

impl Follow {
    /// The last number handed on: where a recovery reads from.
    pub(super) const fn published(&self) -> Seq {
        self.published
    }

    /// Whether `Closed` was handed on.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes one numbered event; hands on to `out` what is now in order. A number seen before is dropped. More than
    /// `bound` bytes behind a gap give the gap up as lost.
    pub(super) fn accept(
        &mut self,
        seq: Seq,
        event: ProcessEvent,
        bound: usize,
        out: &mut Vec<ProcessEvent>,
    ) {
        self.hold(seq, event);
        self.publish(out);
        if self.held_bytes > bound {
            self.skip_gap(None, out);
            self.publish(out);
        }
    }

    /// Takes the answer of a `process/read` after [`Self::published`] and closes every gap below its `nextSeq`:
    /// one missing number is the exit's if the process exited, the last is the close's if it closed, and any
    /// other is reported as [`ProcessEvent::Lost`].
    pub(super) fn recover(&mut self, read: ReadResult, out: &mut Vec<ProcessEvent>) {
        for chunk in read.chunks {
            self.hold(chunk.seq, ProcessEvent::Output { stream: chunk.stream, bytes: chunk.chunk.0 });
        }
        let highest = self.held.last_key_value().map_or(self.published, |(seq, _)| *seq);
        let mut target = read.next_seq.previous().max(self.published);
        if read.closed && !self.closed && !self.held_any(|event| *event == ProcessEvent::Closed) {
            // Servers of the first family count up to the last chunk only; the close still comes after the exit.
            let exit_known = self.exited || self.held_any(is_exit);
            let after_known = if exit_known { highest.next() } else { highest.next().next() };
            target = target.max(if target <= highest { after_known } else { target });
            self.hold(target, ProcessEvent::Closed);
        }
        if read.exited && !self.exited && !self.held_any(is_exit) {
            let place = self.last_missing(target).unwrap_or_else(|| target.max(highest).next());
            let code = read.exit_code.unwrap_or(-1);
            self.hold(place, ProcessEvent::Exited { code, details: read.exit.unwrap_or_default() });
        }
        self.publish(out);
        let mut lost = (read.lost_bytes > 0).then_some(read.lost_bytes);
        while self.published < target {
            self.skip_gap_until(target, lost.take(), out);
            self.publish(out);
        }
        if let Some(bytes) = lost {
            out.push(ProcessEvent::Lost { bytes: Some(bytes) });
        }
    }

    fn hold(&mut self, seq: Seq, event: ProcessEvent) {
        if seq <= self.published || self.closed || self.held.contains_key(&seq) {
            return;
        }
        self.held_bytes += event.weight();
        self.held.insert(seq, event);
    }

    fn held_any(&self, test: impl Fn(&ProcessEvent) -> bool) -> bool {
        self.held.values().any(test)
    }

    /// The highest number up to `target` that nothing is known of.
    fn last_missing(&self, target: Seq) -> Option<Seq> {
        let mut expected = target;
        for seq in self.held.range(..=target).rev().map(|(seq, _)| *seq) {
            if seq < expected {
                break;
            }
            expected = seq.previous();
        }
        (expected > self.published).then_some(expected)
    }

    fn publish(&mut self, out: &mut Vec<ProcessEvent>) {
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() != self.published.next() {
                break;
            }
            self.published = *entry.key();
            let event = entry.remove();
            self.held_bytes -= event.weight();
            self.exited |= is_exit(&event);
            if event == ProcessEvent::Closed {
                self.closed = true;
                self.held.clear();
                self.held_bytes = 0;
            }
            out.push(event);
        }
    }

    fn skip_gap(&mut self, bytes: Option<u64>, out: &mut Vec<ProcessEvent>) {
        self.skip_gap_until(Seq::MAX, bytes, out);
    }

    /// Gives up the numbers before the first held event, or up to `target` if that comes first.
    fn skip_gap_until(&mut self, target: Seq, bytes: Option<u64>, out: &mut Vec<ProcessEvent>) {
        let first = self.held.first_key_value().map_or(Seq::MAX, |(seq, _)| *seq);
        self.published = first.previous().min(target);
        out.push(ProcessEvent::Lost { bytes });
    }
}

fn is_exit(event: &ProcessEvent) -> bool {
    matches!(event, ProcessEvent::Exited { .. })
}

#[cfg(test)]
mod tests;
