//! `http/request`: buffered answers, and bodies that come as they are (section 11).

use std::sync::Arc;

use codex_exec_protocol::RpcError;
use codex_exec_protocol::http::{RequestParams, RequestResult};
use tokio::sync::OwnedSemaphorePermit;

use super::{Machine, Reply};
use crate::http::BodyStream;

/// A body on its way, whose id is taken as long as this is.
pub(crate) struct OpenBody {
    pub(crate) body: BodyStream,
    _reserved: ReservedStream,
    /// Until the head was answered: a stream does not occupy its request's slot (11.2).
    pub(crate) slot: Option<OwnedSemaphorePermit>,
}

impl Machine {
    /// Makes a request, and answers with its whole body (11.1).
    pub(crate) fn request(self: &Arc<Self>, params: RequestParams, reply: impl Reply<RequestResult>) {
        let machine = Arc::clone(self);
        self.beside(async move {
            let slot = Arc::clone(&machine.slots).acquire_owned().await;
            match machine.common.http.request_within(params, &machine.bodies).await {
                Ok((result, claim)) => reply.answer_holding(Ok(result), (claim, slot)),
                Err(error) => reply.answer_holding(Err(error), slot),
            }
        });
    }

    /// Makes a request, and gives its body as it comes (11.2). The id is taken at once.
    ///
    /// # Errors
    /// `-32602` for an id that names a running stream, and for a stream too many; then those of the request.
    pub(crate) fn stream(
        self: &Arc<Self>,
        params: RequestParams,
    ) -> Result<impl Future<Output = Result<(RequestResult, OpenBody), RpcError>> + Send + use<>, RpcError>
    {
        let reserved = self.reserve(&params.request_id)?;
        Ok(async move {
            let machine = &reserved.machine;
            let slot = Arc::clone(&machine.slots).acquire_owned().await.ok();
            let (head, body) = machine.common.http.open_stream(params).await?;
            Ok((head, OpenBody { body, _reserved: reserved, slot }))
        })
    }

    fn reserve(self: &Arc<Self>, id: &str) -> Result<ReservedStream, RpcError> {
        let most = self.limits().http.http_streams;
        let mut streams = self.streams.lock();
        if streams.contains(id) {
            return Err(RpcError::invalid_params(format!("requestId {id:?} names a stream that still runs")));
        }
        if streams.len() >= most {
            return Err(RpcError::invalid_params(format!(
                "this connection already has {most} HTTP streams, the most it may have; wait for one to end"
            )));
        }
        streams.insert(id.to_owned());
        Ok(ReservedStream { machine: Arc::clone(self), id: id.to_owned() })
    }
}

/// Frees a stream's id when it ends.
struct ReservedStream {
    machine: Arc<Machine>,
    id: String,
}

impl Drop for ReservedStream {
    fn drop(&mut self) {
        self.machine.streams.lock().remove(&self.id);
    }
}
