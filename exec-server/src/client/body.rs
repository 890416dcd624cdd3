//! The streamed body of an HTTP response (11.2).

use std::sync::Arc;

use super::inbox::{Inbox, lock};
use super::shared::Shared;
use super::{Client, ClientError, Retry};
use crate::environment::BodyError;
use crate::protocol::http::{BodyDeltaParams, Request, RequestParams, RequestResult};

/// What arrives of a body.
pub(super) type Piece = Result<Vec<u8>, BodyError>;

/// The driver's end of a body.
#[derive(Debug)]
pub(super) struct BodyInbox {
    pub(super) queue: Inbox<Piece>,
    expected: std::sync::Mutex<u64>,
}

impl BodyInbox {
    /// Takes a delta; true when it was the last.
    pub(super) fn accept(&self, delta: BodyDeltaParams) -> bool {
        let mut expected = lock(&self.expected);
        if delta.seq != *expected {
            let error = format!("piece {} came where piece {} was due", delta.seq, *expected);
            self.fail(error);
            return true;
        }
        *expected += 1;
        if !delta.delta.0.is_empty() {
            let weight = delta.delta.0.len();
            self.queue.push(Ok(delta.delta.0), weight);
        }
        match (delta.done, delta.error) {
            (true, Some(error)) => self.fail(error),
            (true, None) => self.queue.end(),
            (false, _) => return false,
        }
        true
    }

    /// Nothing more can come.
    pub(super) fn fail(&self, reason: String) {
        self.queue.push(Err(BodyError(reason)), 64);
        self.queue.end();
    }
}

/// A body under way. Dropping it drops what still comes: the protocol has no way to cancel one.
pub struct Body {
    shared: Arc<Shared>,
    request_id: String,
    inbox: Arc<BodyInbox>,
}

impl Body {
    /// The next bytes; none at the end. Cancel-safe.
    ///
    /// # Errors
    /// The server's reason or the loss of the connection: the body is incomplete.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, BodyError>> {
        self.inbox.queue.next().await
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.inbox.queue.abandon();
        self.shared.remove_body(&self.request_id);
    }
}

impl Client {
    /// Makes an HTTP request from the server's machine and streams the response's body; `streamResponse` is set.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when the request's id is taken by a running body; else as for [`Client::call`].
    pub async fn http_stream(&self, mut params: RequestParams) -> Result<(RequestResult, Body), ClientError> {
        params.stream_response = true;
        let inbox = Arc::new(BodyInbox { queue: Inbox::new(), expected: std::sync::Mutex::new(1) });
        // Registered first, so that no piece can come too early.
        self.shared.add_body(&params.request_id, &inbox)?;
        let body = Body { shared: Arc::clone(&self.shared), request_id: params.request_id.clone(), inbox };
        let result = self.shared.call::<Request>(&params, Retry::Never).await?;
        Ok((result, body))
    }
}
