//! A response's body as it arrives, and its notifications (section 11.2).

use bytes::Bytes;
use codex_exec_protocol::http::BodyDeltaParams;
use codex_exec_protocol::{Base64Bytes, Seq};

use super::decoding::{BROKEN, Broken, Unpacker};
use super::{Deadline, Response, failure};

/// A body on its way. Dropping it ends the request.
#[derive(Debug)]
pub struct BodyStream {
    /// None once the body ended or broke.
    response: Option<Response>,
    /// Undoes its coding, where it has one.
    unpacker: Option<Unpacker>,
    deadline: Deadline,
}

impl BodyStream {
    pub(super) fn new(response: Response, unpacker: Option<Unpacker>, deadline: Deadline) -> Self {
        Self { response: Some(response), unpacker, deadline }
    }

    /// The body's length where the peer announced one. That of a packed body says nothing.
    pub(super) fn expected(&self) -> Option<u64> {
        if self.unpacker.is_some() {
            return None;
        }
        self.response.as_ref()?.content_length()
    }

    /// Does something else within the request's time.
    pub(super) async fn watch<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        self.deadline.watch(work).await
    }

    /// What arrived next, never empty; none at the end. After an error (a broken body, the
    /// request's time is up) nothing more comes. Cancel-safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        self.response.as_ref()?;
        let piece = match self.deadline.watch(self.advance()).await {
            Ok(piece) => piece,
            Err(late) => Err(late),
        };
        if !matches!(piece, Ok(Some(_))) {
            self.response = None;
            self.unpacker = None;
        }
        piece.transpose()
    }

    /// As [`Self::next`], without the deadline.
    async fn advance(&mut self) -> Result<Option<Bytes>, String> {
        let broken = |Broken| BROKEN.to_owned();
        loop {
            if let Some(unpacker) = &mut self.unpacker {
                // A little that arrived may be much: the loop has others to serve in between.
                tokio::task::yield_now().await;
                if let Some(piece) = unpacker.next().map_err(broken)? {
                    return Ok(Some(piece));
                }
            }
            let Some(response) = &mut self.response else { return Ok(None) };
            match (response.chunk().await.map_err(failure::sentence)?, &mut self.unpacker) {
                (Some(bytes), None) if !bytes.is_empty() => return Ok(Some(bytes)),
                (Some(bytes), Some(unpacker)) => unpacker.take(bytes),
                (Some(_), None) => {}
                (None, None) => return Ok(None),
                (None, Some(unpacker)) => return unpacker.finish().map(|()| None).map_err(broken),
            }
        }
    }
}

/// A body as deltas numbered from 1, the last one empty and `done`, with the error if the body broke.
#[derive(Debug)]
pub struct Deltas<'b> {
    stream: &'b mut BodyStream,
    request_id: String,
    seq: Seq,
    done: bool,
}

impl<'b> Deltas<'b> {
    /// The deltas of a body that was asked for as `request_id`.
    pub fn new(stream: &'b mut BodyStream, request_id: String) -> Self {
        Self { stream, request_id, seq: Seq::NONE, done: false }
    }

    /// The next delta; none behind the last one.
    pub async fn next(&mut self) -> Option<BodyDeltaParams> {
        if self.done {
            return None;
        }
        let (delta, error) = match self.stream.next().await {
            Some(Ok(bytes)) => (Vec::from(bytes), None),
            Some(Err(why)) => (Vec::new(), Some(why)),
            None => (Vec::new(), None),
        };
        self.seq = self.seq.next();
        self.done = delta.is_empty();
        let request_id = self.request_id.clone();
        Some(BodyDeltaParams { request_id, seq: self.seq, delta: Base64Bytes(delta), done: self.done, error })
    }
}
