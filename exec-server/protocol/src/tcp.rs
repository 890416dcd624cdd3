//! Byte streams to and from the machine's network (`docs/extensions.md`, "Byte streams").

use serde::{Deserialize, Serialize};

use crate::bytes::Block;
use crate::encode::{Empty, encode_with_serde};
use crate::sandbox::Sandbox;
use crate::{Base64Bytes, methods};

methods! {
    /// Connects from the machine to a host.
    Connect: "tcp/connect" (ConnectParams) -> ConnectResult;
    /// Listens on a port of the machine.
    Listen: "tcp/listen" (ListenParams) -> ListenResult;
    /// Waits for the next connection to a port that is listened on.
    Accept: "tcp/accept" (AcceptParams) -> AcceptResult;
    /// Waits for the next bytes of a stream.
    Read: "tcp/read" (ReadParams) -> Block;
    /// Sends bytes; answered once the system has taken them.
    Write: "tcp/write" (WriteParams) -> Empty;
    /// Says that nothing more is sent, after what was written before.
    Shutdown: "tcp/shutdown" (ShutdownParams) -> Empty;
    /// Closes a stream or a listener; an unknown one is fine.
    Close: "tcp/close" (CloseParams) -> Empty;
}

/// Params of `tcp/connect`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectParams {
    /// Chosen by the client, at most 64 bytes; free on this connection.
    pub stream_id: String,
    /// A name or an address, as the machine sees it.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// Limit in milliseconds for looking the host up and connecting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Under which sandbox: one that does not let a program use the network freely refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
}

/// Result of `tcp/connect`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectResult {
    /// The machine's end, as `IP:PORT`.
    pub local_address: String,
    /// The other end, as `IP:PORT`.
    pub peer_address: String,
}

/// Params of `tcp/listen`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenParams {
    /// Chosen by the client, at most 64 bytes; free on this connection.
    pub listener_id: String,
    /// An address of the machine; without one, 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// 0 for a free one.
    pub port: u16,
    /// Under which sandbox: one that does not let a program use the network freely refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
}

/// Result of `tcp/listen`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenResult {
    /// Where it listens, as `IP:PORT`.
    pub address: String,
}

/// Params of `tcp/accept`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptParams {
    /// The listener.
    pub listener_id: String,
    /// What the accepted stream is to be called.
    pub stream_id: String,
}

/// Result of `tcp/accept`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcceptResult {
    /// Who connected, as `IP:PORT`.
    pub peer_address: String,
}

/// Params of `tcp/read`: credit for one piece.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadParams {
    /// The stream.
    pub stream_id: String,
    /// Bytes at most; 65,536 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// Params of `tcp/write`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteParams {
    /// The stream.
    pub stream_id: String,
    /// What to send.
    pub chunk: Base64Bytes,
}

/// Params of `tcp/shutdown`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShutdownParams {
    /// The stream.
    pub stream_id: String,
}

/// Params of `tcp/close`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloseParams {
    /// A stream or a listener.
    pub id: String,
}

encode_with_serde!(ConnectResult, ListenResult, AcceptResult);
