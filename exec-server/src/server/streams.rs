//! `http/request`: buffered answers, and bodies streamed as notifications.

use std::sync::{Arc, PoisonError};

use codex_exec_protocol::http::{BodyDeltaParams, Request as HttpRequest, RequestParams};
use codex_exec_protocol::{Notification, RpcError, WireEncode, http};

use super::connection::Connection;
use super::routes::{Request, checked};
use crate::http::{BodyStream, Deltas};

/// Begins an HTTP request.
pub(super) fn http_request(c: &Arc<Connection>, request: Request<'_>) {
    let params = checked::<HttpRequest>(c, &request, "http").and_then(|(_, params)| {
        if params.stream_response {
            reserve(c, &params.request_id)?;
        }
        Ok(params)
    });
    let params = match params {
        Ok(params) => params,
        Err(error) => return c.outbox.answer::<HttpRequest>(&request.id, Err(error)),
    };
    let (connection, id, in_flight) = (Arc::clone(c), request.id, request.in_flight);
    c.beside(async move {
        let slot = Arc::clone(&connection.slots).acquire_owned().await;
        let outbox = &connection.outbox;
        if !params.stream_response {
            let (result, claim) =
                match connection.server.http.request_within(params, &connection.bodies).await {
                    Ok((result, claim)) => (Ok(result), Some(claim)),
                    Err(error) => (Err(error), None),
                };
            return outbox.answer_holding(&id, result, (claim, slot, in_flight));
        }
        let _reserved = Reserved { connection: Arc::clone(&connection), id: params.request_id.clone() };
        match connection.server.http.open_stream(params.clone()).await {
            Err(error) => outbox.answer::<HttpRequest>(&id, Err(error)),
            Ok((head, body)) => {
                outbox.answer::<HttpRequest>(&id, Ok(head));
                // A stream does not occupy the request's slot (11.2).
                drop((slot, in_flight));
                send_body(&connection, &params, body).await;
            }
        }
    });
}

async fn send_body(c: &Connection, params: &RequestParams, body: BodyStream) {
    let mut deltas = Deltas::new(body, params.request_id.clone());
    while let Some(delta) = deltas.next().await {
        c.outbox.room().await;
        c.outbox.put(|frame| frame.message(delta.expected_len(), |out| encode(&delta, out)));
    }
}

fn encode(delta: &BodyDeltaParams, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"method\":\"");
    out.extend_from_slice(http::BodyDelta::NAME.as_bytes());
    out.extend_from_slice(b"\",\"params\":");
    delta.encode(out);
    out.push(b'}');
}

fn reserve(c: &Connection, id: &str) -> Result<(), RpcError> {
    let mut streams = c.streams.lock().unwrap_or_else(PoisonError::into_inner);
    if streams.contains(id) {
        return Err(RpcError::invalid_params(format!("requestId {id:?} names a stream that still runs")));
    }
    if streams.len() >= c.server.limits.http_streams {
        return Err(RpcError::invalid_params(format!(
            "this connection already has {} HTTP streams, the most it may have; wait for one to end",
            streams.len()
        )));
    }
    streams.insert(id.to_owned());
    Ok(())
}

/// Frees a stream's id when it ends.
struct Reserved {
    connection: Arc<Connection>,
    id: String,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.connection.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
