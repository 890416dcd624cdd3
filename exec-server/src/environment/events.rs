//! What becomes of a program, for who follows it.

use crate::protocol::process::{ExitDetails, Stream};

/// What happens to a process, in the order of its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// Bytes from the program.
    Output {
        /// Where they came from.
        stream: Stream,
        /// The output, decoded.
        bytes: Vec<u8>,
    },
    /// The program ended; output may still follow.
    Exited {
        /// As in section 8.6; old servers give -1 for a signal.
        code: i32,
        /// How it ended; all zero from servers that do not say.
        details: ExitDetails,
    },
    /// The program has ended and its output is complete.
    Closed,
    /// Output went missing here.
    Lost {
        /// How much, where the server says it.
        bytes: Option<u64>,
    },
    /// The connection went for good, or the server forgot the process: what became of it is not known.
    Disconnected {
        /// Why, as a sentence for people.
        reason: String,
    },
}

impl ProcessEvent {
    /// What it takes of a queue's bound.
    pub(crate) fn weight(&self) -> usize {
        const OVERHEAD: usize = 64;
        match self {
            Self::Output { bytes, .. } => bytes.len() + OVERHEAD,
            _ => OVERHEAD,
        }
    }
}
