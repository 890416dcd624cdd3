//! Asks the agent of SPIFFE for a JWT-SVID: one gRPC call, over HTTP/2 on a Unix socket.

use std::path::Path;
use std::time::Duration;

use codex_secret::Secret;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, TE};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;

use super::{SPIFFE_ID, TOKEN_BYTES};

/// The call that gives a token.
const CALL: &str = "http://localhost/SpiffeWorkloadAPI/FetchJWTSVID";
/// Every request has this header, so that no browser and no proxy can be made to send one.
const MARK: &str = "workload.spiffe.io";
/// From the first packet to the whole answer. Our own pace: nothing outside depends on it.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The largest answer that is read: some identities of the largest size. A safeguard, far from any real use.
const ANSWER_BYTES: usize = 1 << 20;
/// What stands before a message of gRPC: whether it is compressed, and its length. Fixed by the wire.
const PREFIX_BYTES: usize = 5;

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvidRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) audience: Vec<String>,
    #[prost(string, tag = "2")]
    pub(super) spiffe_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<JwtSvid>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JwtSvid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    #[prost(string, tag = "2")]
    pub(super) svid: String,
}

/// A token for this audience, of the identity that is named, or of the only one.
///
/// # Errors
/// A sentence without any secret.
pub(super) async fn fetch(socket: &Path, audience: String, id: Option<String>) -> Result<Secret, String> {
    let request = JwtSvidRequest { audience: vec![audience], spiffe_id: id.clone().unwrap_or_default() };
    let asked = tokio::time::timeout(ANSWER_TIME, ask(socket, &request)).await;
    let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIME.as_secs())))?;
    let mut svids =
        answer.svids.into_iter().filter(|svid| id.as_ref().is_none_or(|id| svid.spiffe_id == *id));
    let token = match (svids.next(), svids.next()) {
        (Some(only), None) => Secret::new(only.svid),
        (None, _) => return Err("it knows no such identity of this workload".to_owned()),
        (Some(_), Some(_)) => {
            return Err(format!("this workload has several identities; name one in {SPIFFE_ID}"));
        }
    };
    match token.expose().len() as u64 {
        1..=TOKEN_BYTES => Ok(token),
        _ => Err("its token is empty or longer than 16 KiB".to_owned()),
    }
}

async fn ask(socket: &Path, request: &JwtSvidRequest) -> Result<JwtSvidResponse, String> {
    let text = |error: &dyn std::error::Error| codex_outgoing::sentence(error);
    let stream = UnixStream::connect(socket).await.map_err(|error| text(&error))?;
    let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = connecting.await.map_err(|error| text(&error))?;
    let call = async {
        let request = Request::post(CALL)
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header(MARK, "true")
            .body(Full::new(framed(request)))
            .map_err(|error| text(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("it answered with HTTP {}", head.status.as_u16()));
        }
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
        // Who refuses at once says so in the head.
        let refused = body.trailers().and_then(refusal).or_else(|| refusal(&head.headers));
        match refused {
            Some(why) => Err(why),
            None => unframed(body.to_bytes()),
        }
    };
    tokio::select! {
        answer = call => answer,
        ended = connection => {
            Err(ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| text(&error)))
        }
    }
}

/// What a status other than success says.
fn refusal(headers: &HeaderMap) -> Option<String> {
    let status = headers.get("grpc-status")?.to_str().ok().filter(|status| *status != "0")?;
    let message = headers.get("grpc-message").and_then(|message| message.to_str().ok()).unwrap_or_default();
    let shown: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(format!("it refused with status {status}{}{shown}", if shown.is_empty() { "" } else { ": " }))
}

fn framed(message: &JwtSvidRequest) -> Bytes {
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    let mut bytes = vec![0];
    bytes.extend(length.to_be_bytes());
    bytes.extend(message.encode_to_vec());
    bytes.into()
}

fn unframed(bytes: Bytes) -> Result<JwtSvidResponse, String> {
    let wrong = || "its answer can't be understood".to_owned();
    let (prefix, message) = bytes.split_at_checked(PREFIX_BYTES).ok_or_else(wrong)?;
    let [compressed, length @ ..] = <[u8; PREFIX_BYTES]>::try_from(prefix).map_err(|_| wrong())?;
    if compressed != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return Err(wrong());
    }
    JwtSvidResponse::decode(message).map_err(|_| wrong())
}
