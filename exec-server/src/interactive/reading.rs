//! What an agent is shown of a program: some of its output, what was left out, and whether it still runs.

use std::fmt;
use std::time::Duration;

use super::transcript::Transcript;
use crate::protocol::ProcessId;

/// Bytes of a token, about, for who counts tokens.
const BYTES_OF_A_TOKEN: u64 = 4;

/// How much of the output is shown at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Bytes of the program's output.
    Bytes(usize),
    /// Tokens of a model, about.
    Tokens(usize),
}

impl Budget {
    /// The same in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Tokens(tokens) => tokens.saturating_mul(BYTES_OF_A_TOKEN as usize),
        }
    }
}

/// Which part is shown when there is more than the budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The beginning and the end; the next reading goes on behind the end.
    HeadAndTail,
    /// The beginning; the next reading goes on behind it.
    Page,
}

/// How far a program has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It has ended.
    Exited {
        /// As in section 8.6.
        code: i32,
        /// The signal that killed it, where the server tells.
        signal: Option<i32>,
        /// A deadline ended it.
        timed_out: bool,
        /// From start to end, where the server tells.
        duration: Option<Duration>,
        /// Whether all of its output is here; else something that it has started still holds it open.
        complete: bool,
    },
    /// What became of it is not known: the connection is gone.
    Lost {
        /// Why, as a sentence for people.
        reason: String,
    },
}

/// One look at a program. `Display` writes it for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The program's handle.
    pub process: ProcessId,
    /// How far it has come.
    pub state: State,
    /// How long this look took.
    pub wall_time: Duration,
    /// The output, from `from`; what is no UTF-8 as U+FFFD, and a line in the middle where something was left out.
    pub output: String,
    /// Where the output that was asked for begins.
    pub from: u64,
    /// Where to go on.
    pub next_cursor: u64,
    /// What the program has printed so far, in bytes.
    pub total_bytes: u64,
    /// What of it stands in `output`, in bytes.
    pub shown_bytes: u64,
    /// What lies between `from` and `next_cursor` and is not shown, in bytes; a reading from there shows it, unless it is lost.
    pub cut_bytes: u64,
    /// What of that is not kept any more, in bytes.
    pub lost_bytes: u64,
}

/// What is shown of a transcript.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) output: String,
    pub(super) from: u64,
    pub(super) next_cursor: u64,
    pub(super) shown_bytes: u64,
    pub(super) cut_bytes: u64,
    pub(super) lost_bytes: u64,
}

impl Shown {
    /// What to show of what comes after `from`.
    pub(super) fn of(all: &Transcript, from: u64, budget: usize, shape: Shape) -> Self {
        let from = from.min(all.total());
        let (mut first, last) = match shape {
            Shape::Page => (all.page(from, budget), None),
            Shape::HeadAndTail => {
                let whole = all.page(from, budget);
                if whole.from == from && whole.to() == all.total() {
                    (whole, None)
                } else {
                    let first = all.page(from, budget / 2);
                    let behind = first.to().max(from);
                    (first, Some(all.last(behind, budget - budget / 2)))
                }
            }
        };
        // What begins behind a gap is no beginning.
        let last = match last {
            Some(last) if first.from > from => {
                first.bytes.clear();
                first.from = from;
                Some(last)
            }
            other => other,
        };
        let mut shown = Self { from, ..Self::default() };
        let mut at = from;
        for part in [Some(first), last].into_iter().flatten().filter(|part| !part.bytes.is_empty()) {
            shown.leave_out(all, at, part.from);
            shown.output.push_str(&String::from_utf8_lossy(&part.bytes));
            shown.shown_bytes += part.bytes.len() as u64;
            at = part.to();
        }
        shown.next_cursor = at;
        if shape == Shape::HeadAndTail {
            shown.leave_out(all, at, all.total());
            shown.next_cursor = all.total();
        }
        shown
    }

    fn leave_out(&mut self, all: &Transcript, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (gap_from, gap_to) = all.forgotten();
        let lost = gap_to.min(to).saturating_sub(gap_from.max(from));
        let bytes = to - from;
        let note = match lost {
            0 => format!("{bytes} bytes left out, from cursor {from}"),
            lost if lost == bytes => format!("{bytes} bytes from cursor {from} are not kept any more"),
            lost => {
                format!("{bytes} bytes left out, from cursor {from}; {lost} of them are not kept any more")
            }
        };
        if !self.output.is_empty() && !self.output.ends_with('\n') {
            self.output.push('\n');
        }
        self.output.push_str(&format!("[… {note} …]\n"));
        self.cut_bytes += bytes;
        self.lost_bytes += lost;
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Wall time: {:.4} seconds", self.wall_time.as_secs_f64())?;
        match &self.state {
            State::Running => writeln!(f, "Process running with session ID {}", self.process)?,
            State::Exited { code, signal, timed_out, complete, .. } => {
                write!(f, "Process exited with code {code}")?;
                if let Some(signal) = signal {
                    write!(f, " (signal {signal})")?;
                }
                if *timed_out {
                    write!(f, " because its time was up")?;
                }
                if !complete {
                    write!(
                        f,
                        "; something that it started still holds its output, session ID {}",
                        self.process
                    )?;
                }
                writeln!(f)?;
            }
            State::Lost { reason } => writeln!(f, "Process lost: {reason}")?,
        }
        let original = (self.shown_bytes + self.cut_bytes).div_ceil(BYTES_OF_A_TOKEN);
        writeln!(f, "Original token count: {original}")?;
        if self.cut_bytes > 0 || self.next_cursor < self.total_bytes {
            writeln!(
                f,
                "Bytes: {} in all, {} shown, {} left out; next cursor {}",
                self.total_bytes, self.shown_bytes, self.cut_bytes, self.next_cursor
            )?;
        }
        write!(f, "Output:\n{}", self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::process::Stream;

    fn shown(text: &str, kept: (usize, usize), from: u64, budget: usize, shape: Shape) -> Shown {
        let mut all = Transcript::new(kept.0, kept.1);
        all.append(Stream::Stdout, text.as_bytes());
        all.finish();
        Shown::of(&all, from, budget, shape)
    }

    #[test]
    fn what_fits_is_shown_whole_and_what_does_not_with_a_counted_cut() {
        let cases = [
            ("whole", "0123456789", 0, 10, Shape::HeadAndTail, "0123456789", (10, 0, 10)),
            ("the rest", "0123456789", 7, 10, Shape::HeadAndTail, "789", (3, 0, 10)),
            (
                "a cut",
                "0123456789abcdef",
                0,
                8,
                Shape::HeadAndTail,
                "0123\n[… 8 bytes left out, from cursor 4 …]\ncdef",
                (8, 8, 16),
            ),
            ("a page", "0123456789", 0, 4, Shape::Page, "0123", (4, 0, 4)),
            ("the next", "0123456789", 4, 4, Shape::Page, "4567", (4, 0, 8)),
            ("nothing", "", 5, 4, Shape::Page, "", (0, 0, 0)),
        ];
        for (name, text, from, budget, shape, output, (bytes, cut, next)) in cases {
            let shown = shown(text, (100, 100), from, budget, shape);
            assert_eq!(shown.output, output, "{name}");
            assert_eq!((shown.shown_bytes, shown.cut_bytes, shown.next_cursor), (bytes, cut, next), "{name}");
        }
    }

    #[test]
    fn what_is_not_kept_is_said() {
        let text = "0123456789abcdefghij";
        let whole = shown(text, (4, 4), 0, 100, Shape::HeadAndTail);
        assert_eq!(whole.output, "0123\n[… 12 bytes from cursor 4 are not kept any more …]\nghij");
        assert_eq!((whole.cut_bytes, whole.lost_bytes, whole.next_cursor), (12, 12, 20));
        let page = shown(text, (4, 4), 4, 2, Shape::Page);
        assert_eq!(page.output, "[… 12 bytes from cursor 4 are not kept any more …]\nghij");
        assert_eq!((page.next_cursor, page.lost_bytes), (20, 12));
        let some = shown(text, (4, 8), 2, 4, Shape::HeadAndTail);
        assert!(some.output.starts_with("23"), "{}", some.output);
        assert_eq!(some.shown_bytes + some.cut_bytes, 18);
    }

    #[test]
    fn a_model_reads_it_in_the_usual_words() {
        let exited =
            State::Exited { code: 3, signal: None, timed_out: false, duration: None, complete: true };
        let mut reading = Reading {
            process: "p1".into(),
            state: exited,
            wall_time: Duration::from_millis(1500),
            output: "hi\n".into(),
            from: 0,
            next_cursor: 3,
            total_bytes: 3,
            shown_bytes: 3,
            cut_bytes: 0,
            lost_bytes: 0,
        };
        let text =
            "Wall time: 1.5000 seconds\nProcess exited with code 3\nOriginal token count: 1\nOutput:\nhi\n";
        assert_eq!(reading.to_string(), text);
        reading.state = State::Running;
        assert!(reading.to_string().contains("\nProcess running with session ID p1\n"));
        assert_eq!((Budget::Tokens(10).bytes(), Budget::Bytes(10).bytes()), (40, 10));
    }
}
