//! HTTP requests made from the machine (section 11).

use serde::{Deserialize, Serialize};

use crate::{Base64Bytes, Seq, WireEncode, encode, methods, notifications};

methods! {
    /// Makes one HTTP request (11.1).
    Request: "http/request" (RequestParams) -> RequestResult;
}
notifications! {
    /// A piece of a streamed body (11.2).
    BodyDelta: "http/request/bodyDelta" (BodyDeltaParams);
}

/// Params of `http/request`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestParams {
    /// Any HTTP token, sent as written.
    pub method: String,
    /// An `http` or `https` URL.
    pub url: String,
    /// In order, repeats kept.
    #[serde(default)]
    pub headers: Vec<RequestHeader>,
    /// The body to send.
    #[serde(default, rename = "bodyBase64")]
    pub body: Option<Base64Bytes>,
    /// Limit in milliseconds, the body included; none when absent.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// What to do with redirects.
    #[serde(default)]
    pub redirect_policy: RedirectPolicy,
    /// Names the stream of a streamed body.
    pub request_id: String,
    /// Send the body as notifications.
    #[serde(default)]
    pub stream_response: bool,
}

/// A header to send. `Debug` hides the value, which may be a credential.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestHeader {
    /// The header's name, any HTTP token.
    pub name: String,
    /// The header's value, before that of the variable.
    pub value: String,
    /// A variable of the server's environment whose value is appended to `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_env_var: Option<String>,
}

impl std::fmt::Debug for RequestHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHeader")
            .field("name", &self.name)
            .field("value_env_var", &self.value_env_var)
            .finish_non_exhaustive()
    }
}

/// What to do with redirects.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RedirectPolicy {
    /// Follow them, up to a limit.
    #[default]
    Follow,
    /// Answer with the redirect itself.
    Stop,
}

/// A header of the response.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHeader {
    /// The header's name in lower case.
    pub name: String,
    /// The header's value; other than visible ASCII text is left out.
    pub value: String,
}

/// Result of `http/request`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestResult {
    /// The HTTP status; every status counts as an answer.
    pub status: u16,
    /// The response's headers, repeated names in their order.
    pub headers: Vec<ResponseHeader>,
    /// The whole body, or nothing when it is streamed.
    #[serde(rename = "bodyBase64")]
    pub body: Base64Bytes,
}

impl WireEncode for RequestResult {
    fn expected_len(&self) -> usize {
        encode::base64_len(self.body.0.len()) + 1024
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"status\":");
        encode::number(self.status.into(), out);
        out.extend_from_slice(b",\"headers\":");
        encode::json(&self.headers, out);
        out.extend_from_slice(b",\"bodyBase64\":");
        encode::base64_string(&self.body.0, out);
        out.push(b'}');
    }
}

/// Params of `http/request/bodyDelta`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyDeltaParams {
    /// Id of the streamed request.
    pub request_id: String,
    /// Its number.
    pub seq: Seq,
    /// What arrived; empty in the last one.
    #[serde(rename = "deltaBase64")]
    pub delta: Base64Bytes,
    /// Whether this is the last part.
    pub done: bool,
    /// What broke the body, in the last one.
    pub error: Option<String>,
}

impl WireEncode for BodyDeltaParams {
    fn expected_len(&self) -> usize {
        encode::base64_len(self.delta.0.len()) + self.request_id.len() + 160
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"requestId\":");
        encode::json(&self.request_id, out);
        out.extend_from_slice(b",\"seq\":");
        encode::number(self.seq.0, out);
        out.extend_from_slice(b",\"deltaBase64\":");
        encode::base64_string(&self.delta.0, out);
        out.extend_from_slice(b",\"done\":");
        encode::json(&self.done, out);
        out.extend_from_slice(b",\"error\":");
        encode::json(&self.error, out);
        out.push(b'}');
    }
}
