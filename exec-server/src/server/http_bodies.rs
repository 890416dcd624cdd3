//! Bodies of `http/request`, streamed as notifications.

use std::sync::Arc;

use codex_exec_protocol::http::{BodyDelta, BodyDeltaParams, RequestParams};
use codex_exec_protocol::{Notification, WireEncode};

use super::answer::AnswerSlot;
use crate::environment::machine::{Machine, OpenBody, Reply};
use crate::http::Deltas;
use crate::rpc::Outbox;

/// Begins a request whose body is streamed.
pub(super) fn begin(machine: &Arc<Machine>, params: RequestParams, answer: AnswerSlot) {
    let id = params.request_id.clone();
    let opening = match machine.stream(params) {
        Ok(opening) => opening,
        Err(error) => return answer.fail(error),
    };
    machine.beside(async move {
        let outbox = Arc::clone(&answer.outbox);
        match opening.await {
            Err(error) => answer.fail(error),
            Ok((head, mut open)) => {
                answer.answer(Ok(head));
                open.slot = None;
                send_body(&outbox, id, open).await;
            }
        }
    });
}

async fn send_body(outbox: &Outbox, id: String, mut open: OpenBody) {
    let mut deltas = Deltas::new(&mut open.body, id);
    while let Some(delta) = deltas.next().await {
        outbox.room().await;
        outbox.put(|frame| frame.message(delta.expected_len(), |out| encode(&delta, out)));
    }
}

fn encode(delta: &BodyDeltaParams, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\":\"");
    out.extend_from_slice(BodyDelta::NAME.as_bytes());
    out.extend_from_slice(b"\",\"params\":");
    delta.encode(out);
    out.push(b'}');
}
