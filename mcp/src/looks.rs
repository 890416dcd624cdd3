//! A look at a program, as it is answered: words for a model and data for a program.

use std::time::Duration;

use codex_exec_server::interactive::{Reading, State};
use serde_json::{Value, json};

use crate::outcome::Outcome;

/// A look, as it is answered.
pub(crate) fn shown(environment: &str, reading: &Reading) -> Outcome {
    Outcome { text: reading.to_string(), data: data(environment, reading) }
}

fn data(environment: &str, reading: &Reading) -> Value {
    let mut data = json!({
        "process": reading.process,
        "environment": environment,
        "state": word(&reading.state),
        "exit_code": exit_code(&reading.state),
        "wall_ms": millis(reading.wall_time),
        "output": reading.output,
        "from": reading.from,
        "next_cursor": reading.next_cursor,
        "total_bytes": reading.total_bytes,
        "shown_bytes": reading.shown_bytes,
        "cut_bytes": reading.cut_bytes,
        "lost_bytes": reading.lost_bytes,
    });
    match &reading.state {
        State::Running => {}
        State::Exited { signal, timed_out, duration, complete, .. } => {
            data["signal"] = json!(signal);
            data["timed_out"] = json!(timed_out);
            data["duration_ms"] = json!(duration.map(millis));
            data["output_complete"] = json!(complete);
        }
        State::Lost { reason } => data["reason"] = json!(reason),
    }
    data
}

/// How far a program has come, as the schema has it.
pub(crate) fn word(state: &State) -> &'static str {
    match state {
        State::Running => "running",
        State::Exited { .. } => "exited",
        State::Lost { .. } => "lost",
    }
}

/// The code of one that has ended.
pub(crate) fn exit_code(state: &State) -> Option<i32> {
    match state {
        State::Exited { code, .. } => Some(*code),
        _ => None,
    }
}

/// The wire counts milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
