//! Spans of requests, for whoever traces them. This crate knows no exporter.

use codex_exec_protocol::ErrorCode;
use codex_exec_protocol::envelope::TraceContext;

/// Begins a span for each request. Called on the event loop: it must not block.
pub trait Tracer: std::fmt::Debug + Send + Sync {
    /// Begins the span of a request; `context` is what the client said of its own trace.
    fn begin(&self, request: &TracedRequest<'_>, context: Option<&TraceContext>) -> Box<dyn RequestSpan>;

    /// Sends what is left, for a bounded time: the server ends. Blocks.
    fn finish(&self);
}

/// What a span says of a request.
#[derive(Debug, Clone, Copy)]
pub struct TracedRequest<'a> {
    /// The method, as the client names it.
    pub method: &'a str,
    /// How it was carried: `websocket`, `stdio` or `relay`.
    pub transport: &'static str,
    /// Bytes of the request.
    pub bytes: usize,
}

/// The span of one request.
pub trait RequestSpan: std::fmt::Debug + Send + Sync {
    /// Ends it.
    fn end(self: Box<Self>, end: SpanEnd);
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanEnd {
    /// It was done; the answer has so many bytes.
    Done {
        /// Bytes of the answer.
        bytes: usize,
    },
    /// It was answered with an error.
    Failed(ErrorCode),
    /// Its connection ended before.
    Unanswered,
}
