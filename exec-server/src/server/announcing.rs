//! What the programs of a session do, as notifications: output that was not sent yet, ends.

use std::time::Instant;

use codex_exec_protocol::process::{self, ClosedParams, ExitedParams, encode_output};
use codex_exec_protocol::{ProcessId, envelope};

use parking_lot::Mutex;

use super::kimi::Kimi;
use super::receipts::Receipts;
use super::session::Session;
use crate::process::LogEvent;
use crate::transport::FrameBuffer;

/// Output is encoded up to this many bytes before it is written. Chosen for speed.
pub(super) const BATCH: usize = 256 << 10;

/// Appends output that was not sent yet, with the question for its receipt.
pub(super) fn encode_batch(
    session: &Session,
    kimi: Option<&Kimi>,
    receipts: &Mutex<Receipts>,
    buffer: &mut FrameBuffer,
) {
    while buffer.len() < BATCH {
        let Some(process) = session.processes.news().pop() else { break };
        if kimi.is_some_and(|kimi| kimi.holds(&process)) {
            continue;
        }
        let before = buffer.len();
        let last = process.send_unsent(|event| {
            match kimi {
                Some(kimi) => kimi.encode(process.id(), event, buffer),
                None => encode_event(process.id(), event, buffer),
            }
            buffer.len() < BATCH
        });
        if let Some(seq) = last {
            receipts.lock().sent(&process, seq, buffer.len() - before);
        }
    }
    if let Some(payload) = receipts.lock().ask(Instant::now()) {
        buffer.ping(&payload);
    }
}

fn encode_event(id: &ProcessId, event: LogEvent<'_>, buffer: &mut FrameBuffer) {
    match event {
        LogEvent::Output(chunk) => {
            let expected = chunk.chunk.len().div_ceil(3) * 4 + id.len() + 110;
            buffer.message(expected, |out| encode_output(id, chunk.seq, chunk.stream, &chunk.chunk, out));
        }
        LogEvent::Exited(seq, exit) => {
            let params = ExitedParams {
                process_id: id.clone(),
                seq,
                exit_code: exit.code,
                sandbox_denied: exit.sandbox_denied,
                exit: exit.details.clone(),
            };
            buffer.message(300, |out| envelope::notification::<process::Exited>(&params, out));
        }
        LogEvent::Closed(seq) => {
            let params = ClosedParams { process_id: id.clone(), seq };
            buffer.message(100, |out| envelope::notification::<process::Closed>(&params, out));
        }
    }
}
