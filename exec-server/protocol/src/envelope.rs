//! The message envelope: JSON-RPC 2.0 without the `jsonrpc` member (section 4).

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{Method, Notification, RpcError, WireEncode, encode};

/// A request's id: a string or a signed 64-bit integer, echoed with its type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// An integer, signed 64-bit.
    Number(i64),
    /// Any text.
    Text(String),
}

impl RequestId {
    /// The id of an answer to something that had no readable id (section 4.3).
    pub const UNREADABLE: Self = Self::Number(-1);
}

/// A received message, told apart by its members.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// Has `method` and `id`.
    Request {
        /// The answer echoes it.
        id: RequestId,
        /// Name of the method.
        method: Cow<'a, str>,
        /// Raw JSON, `null` when missing.
        params: &'a str,
        /// Raw JSON of the client's trace context, which [`TraceContext::read`] reads.
        trace: Option<&'a str>,
    },
    /// Has `method` and no `id`.
    Notification {
        /// Name of the notification.
        method: Cow<'a, str>,
        /// Raw JSON, `null` when missing.
        params: &'a str,
    },
    /// Has `id` and `result`.
    Answer {
        /// Id of the request that it answers.
        id: RequestId,
        /// Raw JSON of the result.
        result: &'a str,
    },
    /// Has `id` and `error`.
    Failure {
        /// Id of the request that failed.
        id: RequestId,
        /// Code and sentence.
        error: RpcError,
    },
}

/// W3C trace context of a request. The texts are as the client sent them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TraceContext {
    /// The trace and the span that the request belongs to.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// What tracing systems say to each other.
    #[serde(default)]
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// Reads the `trace` member of a request.
    ///
    /// # Errors
    /// What is wrong with it. An array is refused by hand, since a derived reader would take one.
    pub fn read(raw: &str) -> Result<Self, String> {
        if !raw.starts_with('{') {
            return Err("trace must be an object".into());
        }
        serde_json::from_str(raw).map_err(|e| format!("trace: {e}"))
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<RpcError>,
    #[serde(borrow, default)]
    trace: Option<&'a RawValue>,
    #[serde(default, rename = "jsonrpc")]
    _jsonrpc: IgnoredAny,
}

/// Keeps `null` apart from a missing member.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Incoming<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// A sentence for the answer with id `-1` and code `-32600` (section 4.3, column 0.169).
    pub fn parse(message: &'a [u8]) -> Result<Self, RpcError> {
        let malformed = |why: String| RpcError::invalid_request(format!("malformed message: {why}"));
        let text = std::str::from_utf8(message).map_err(|e| malformed(e.to_string()))?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(malformed("expected one JSON object".into()));
        }
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        let trace = envelope.trace.map(RawValue::get);
        trace.map_or(Ok(()), |trace| TraceContext::read(trace).map(drop)).map_err(malformed)?;
        let id = envelope
            .id
            .map(|raw| {
                serde_json::from_str::<RequestId>(raw.get())
                    .map_err(|_| malformed("id must be a string or a 64-bit integer".into()))
            })
            .transpose()?;
        let params = envelope.params.map_or("null", RawValue::get);
        match (envelope.method, id, envelope.result, envelope.error) {
            (Some(method), Some(id), _, _) => Ok(Self::Request { id, method, params, trace }),
            (Some(method), None, _, _) => Ok(Self::Notification { method, params }),
            (None, Some(id), Some(result), _) => Ok(Self::Answer { id, result: result.get() }),
            (None, Some(id), None, Some(error)) => Ok(Self::Failure { id, error }),
            _ => Err(malformed("neither a request, a notification nor an answer".into())),
        }
    }
}

fn member(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a request.
pub fn request<M: Method>(id: &RequestId, params: &M::Params, out: &mut Vec<u8>) {
    out.push(b'{');
    member("id", out);
    encode::json(id, out);
    out.push(b',');
    member("method", out);
    encode::json(M::NAME, out);
    out.push(b',');
    member("params", out);
    encode::json(params, out);
    out.push(b'}');
}

/// Appends a successful answer.
pub fn answer(id: &RequestId, result: &(impl WireEncode + ?Sized), out: &mut Vec<u8>) {
    before_result(id, out);
    result.encode(out);
    out.extend_from_slice(BEHIND_RESULT);
}

/// What stands behind the result in a successful answer.
pub const BEHIND_RESULT: &[u8] = b"}";

/// Appends what stands before the result in a successful answer.
pub fn before_result(id: &RequestId, out: &mut Vec<u8>) {
    out.push(b'{');
    member("id", out);
    encode::json(id, out);
    out.push(b',');
    member("result", out);
}

/// Appends an error answer.
pub fn failure(id: &RequestId, error: &RpcError, out: &mut Vec<u8>) {
    out.push(b'{');
    member("id", out);
    encode::json(id, out);
    out.push(b',');
    member("error", out);
    encode::json(error, out);
    out.push(b'}');
}

/// Appends a notification.
pub fn notification<N: Notification>(params: &N::Params, out: &mut Vec<u8>) {
    out.push(b'{');
    member("method", out);
    encode::json(N::NAME, out);
    out.push(b',');
    member("params", out);
    encode::json(params, out);
    out.push(b'}');
}
