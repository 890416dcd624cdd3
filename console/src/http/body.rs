//! Bodies that are not held in memory: downloads as they are read, and uploads as they come.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, ReadBuf};

use crate::access::Grant;

/// A file to be saved under this name. It breaks off when the right to read it ends.
pub(super) fn download<E: Display + Send + 'static>(
    name: &str,
    content: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    grant: Arc<Grant>,
) -> Response {
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename*=UTF-8''{name}")),
    ];
    (headers, Body::from_stream(while_good(content, grant))).into_response()
}

/// Ends with an error when the grant does, so that half a file is not taken for a whole one.
fn while_good<E: Display + Send + 'static>(
    content: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    grant: Arc<Grant>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some((Box::pin(content), grant)), |state| async move {
        let (mut content, grant) = state?;
        tokio::select! {
            biased;
            () = grant.over() => Some((Err(io::Error::other("the link is good no longer")), None)),
            next = content.next() => match next? {
                Ok(bytes) => Some((Ok(bytes), Some((content, grant)))),
                Err(error) => Some((Err(io::Error::other(error.to_string())), None)),
            },
        }
    })
}

/// What a browser uploads. It fails when the upload breaks off, or the right to it ends.
pub(super) struct Upload {
    body: BodyDataStream,
    rest: Bytes,
}

impl Upload {
    pub(super) fn new(body: Body) -> Self {
        Self { body: body.into_data_stream(), rest: Bytes::new() }
    }
}

impl AsyncRead for Upload {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.body.poll_next_unpin(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}
