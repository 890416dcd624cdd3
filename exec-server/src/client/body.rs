//! The streamed body of an HTTP response (11.2).

use std::sync::Arc;

use super::calls::Retry;
use super::error::ClientError;
use super::inbox::BodyInbox;
use super::session::Client;
use super::shared::Shared;
use crate::environment::BodyError;
use crate::protocol::http::{Request, RequestParams, RequestResult};

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
        let inbox = Arc::new(BodyInbox::new());
        // Registered first, so that no piece can come too early.
        self.shared.add_body(&params.request_id, &inbox)?;
        let body = Body { shared: Arc::clone(&self.shared), request_id: params.request_id.clone(), inbox };
        let result = self.shared.call::<Request>(&params, Retry::Never).await?;
        Ok((result, body))
    }
}
