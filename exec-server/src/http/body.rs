//! A response's body as it arrives, and its notifications (section 11.2).

use bytes::Bytes;
use codex_exec_protocol::Base64Bytes;
use codex_exec_protocol::http::BodyDeltaParams;

use super::{Deadline, Response, failure};

/// A body on its way. Dropping it ends the request.
#[derive(Debug)]
pub struct BodyStream {
    /// None once the body ended or broke.
    response: Option<Response>,
    deadline: Deadline,
}

impl BodyStream {
    pub(super) fn new(response: Response, deadline: Deadline) -> Self {
        Self { response: Some(response), deadline }
    }

    /// The body's length where the peer announced one.
    pub(super) fn expected(&self) -> Option<u64> {
        self.response.as_ref()?.content_length()
    }

    /// What arrived next, never empty; none at the end. After an error (a broken body, the
    /// request's time is up) nothing more comes. Cancel-safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            let response = self.response.as_mut()?;
            let piece = match self.deadline.watch(response.chunk()).await {
                Ok(piece) => piece.map_err(failure::sentence),
                Err(late) => Err(late),
            };
            match piece {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return Some(Ok(bytes)),
                Ok(None) => {
                    self.response = None;
                    return None;
                }
                Err(why) => {
                    self.response = None;
                    return Some(Err(why));
                }
            }
        }
    }
}

/// Hands a body to `send` as deltas numbered from 1, the last one empty and `done`, with the error
/// if the body broke. Stops when `send` fails: nobody listens any more.
pub async fn pump(
    mut stream: BodyStream,
    request_id: String,
    mut send: impl AsyncFnMut(BodyDeltaParams) -> Result<(), ()>,
) {
    let mut seq = 0;
    loop {
        seq += 1;
        let (delta, done, error) = match stream.next().await {
            Some(Ok(bytes)) => (Vec::from(bytes), false, None),
            Some(Err(why)) => (Vec::new(), true, Some(why)),
            None => (Vec::new(), true, None),
        };
        let params =
            BodyDeltaParams { request_id: request_id.clone(), seq, delta: Base64Bytes(delta), done, error };
        if send(params).await.is_err() || done {
            return;
        }
    }
}
