//! Requests to a registry, whoever asks: made over one HTTP client, bounded in time and size.

use std::time::Duration;

use codex_outgoing::{Outgoing, OutgoingError};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::blocking;

/// To make a connection, and for one request from its start to the end of its answer (6.1, 6.3). Fixed by the wire.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Fixed by the wire.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Largest answer that is read; a bundle has about 6 KiB, a registration less. A safeguard, far from any real use.
pub(super) const ANSWER_BYTES: usize = 1 << 20;
/// How long a connection waits for another request. Chosen for speed.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// One registry's HTTP client, made when it is first needed.
#[derive(Debug)]
pub(super) struct RegistryClient {
    outgoing: Outgoing,
    /// On this machine and without TLS: there is nothing to trust.
    local: bool,
    http: OnceCell<Client>,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// Certificates or proxies that can't be used; nothing was sent.
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    /// The connection failed or broke off.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// What a registry answered.
#[derive(Debug)]
pub(super) struct RegistryAnswer {
    pub(super) status: StatusCode,
    /// Cut off at a bound: what is cut can't be decoded, and errors show less anyway.
    pub(super) body: Vec<u8>,
    /// Whether the body was longer than the bound, so that its end is missing.
    pub(super) cut: bool,
}

/// What an error's body says, as it stands there: for programs, and for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) code: Option<String>,
    /// The member, or the body's whole text; none in an empty one.
    pub(super) message: Option<String>,
}

impl Told {
    /// Reads the members `code` and `message` of `error`, or of `detail` (1.2).
    pub(super) fn by(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        let parsed: Option<Value> = serde_json::from_str(text).ok();
        let detail = parsed.as_ref().and_then(|value| {
            ["error", "detail"].iter().find_map(|name| value.get(name).filter(|detail| detail.is_object()))
        });
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let member = |name: &str| filled(detail?.get(name)?.as_str()?);
        Self { code: member("code"), message: member("message").or_else(|| filled(text)) }
    }
}

impl RegistryClient {
    /// Makes the client. Nothing is sent before the first request.
    pub(super) fn new(outgoing: Outgoing, local: bool) -> Self {
        Self { outgoing, local, http: OnceCell::new() }
    }

    /// Posts what `fill` adds to the request.
    pub(super) async fn post(
        &self,
        url: Url,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<RegistryAnswer, RequestError> {
        let request = self.http().await?.post(url).timeout(REQUEST_TIME);
        let response = fill(request).send().await?;
        let status = response.status();
        tracing::debug!(%status, "the registry answered");
        let (body, cut) = read(response).await?;
        Ok(RegistryAnswer { status, body, cut })
    }

    async fn http(&self) -> Result<&Client, RequestError> {
        let build = || async {
            let builder = match self.local {
                // Certificates take longer to read than a whole registration over loopback.
                true => Outgoing::local_http()?,
                false => {
                    let outgoing = self.outgoing.clone();
                    let read = blocking::spawn(move || outgoing.http()).await;
                    read.unwrap_or_else(|error| Err(OutgoingError::Tls(error.to_string())))?
                }
            };
            let builder = builder.redirect(redirect::Policy::none());
            Ok(builder.connect_timeout(CONNECT_TIME).pool_idle_timeout(IDLE_TIME).build()?)
        };
        self.http.get_or_try_init(build).await
    }
}

async fn read(mut response: Response) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = ANSWER_BYTES - body.len();
        body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        if piece.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}
