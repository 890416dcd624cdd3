//! Contract F: an executor that proves itself with signatures of AWS, to the registry and at the websocket (section 11).

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use codex_exec_protocol::registry::{DIRECT_TRANSPORT, DirectRegister};
use codex_outgoing::Outgoing;
use codex_secret::Secret;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::answer::{self, Registration};
use super::client::{RegistryAnswer, RegistryClient};
use super::contract::Contract;
use super::credential::CredentialOrigin;
use super::error::RemoteError;
use super::register::unanswered;
use super::target::Target;

const JSON: &str = "application/json";

/// Keys of AWS.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// Names the keys; no secret.
    pub access_key_id: String,
    /// Signs, and is never sent.
    pub secret_access_key: Secret,
    /// Sent with each request, where the keys are good for a while only.
    pub session_token: Option<Secret>,
}

/// Yields keys each time something is signed: those of a session are replaced now and then.
#[async_trait]
pub trait AwsKeySource: Send + Sync {
    /// The keys to sign with now.
    ///
    /// # Errors
    /// A sentence without any secret: which are missing, and where they could be.
    async fn current(&self) -> Result<AwsKeys, String>;
}

/// Signs requests by AWS Signature Version 4.
#[derive(Clone)]
pub struct AwsSigner {
    /// The keys.
    pub keys: Arc<dyn AwsKeySource>,
    /// The region that signatures are for, such as `eu-central-1`.
    pub region: String,
    /// The service that signatures are for, such as `execute-api`.
    pub service: String,
}

impl AwsSigner {
    /// The headers that prove a request: its date, its signature, and the session's token if there is one.
    async fn sign(
        &self,
        method: &str,
        url: &Url,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<HeaderMap, String> {
        let AwsKeys { access_key_id, secret_access_key, session_token } = self.keys.current().await?;
        let token = session_token.map(|token| token.expose().to_owned());
        let keys = Credentials::new(access_key_id, secret_access_key.expose(), token, None, "codex");
        let identity = keys.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| format!("nothing can be signed: {error}"))?
            .into();
        let host = host(url);
        let headers =
            content_type.map(|kind| ("content-type", kind)).into_iter().chain([("host", host.as_str())]);
        let unsigned = |error| format!("the request to {host} can't be signed: {error}");
        let request = SignableRequest::new(method, url.as_str(), headers, SignableBody::Bytes(body));
        let (signature, _) = sign(request.map_err(unsigned)?, &params).map_err(unsigned)?.into_parts();
        signature.headers().map(|(name, value)| header(name, value)).collect()
    }
}

impl std::fmt::Debug for AwsSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { region, service, .. } = self;
        f.debug_struct("AwsSigner").field("region", region).field("service", service).finish_non_exhaustive()
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let unfit = |_| "AWS keys hold characters that a header can't carry".to_owned();
    let mut value = HeaderValue::from_str(value).map_err(unfit)?;
    value.set_sensitive(true);
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// As the `host` header has it: with its port only where that is not the scheme's own.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The registry as one executor of contract F uses it.
#[derive(Debug)]
pub(crate) struct DirectRegistry {
    target: Target,
    signer: AwsSigner,
    client: RegistryClient,
}

impl DirectRegistry {
    pub(crate) fn new(target: Target, signer: AwsSigner, outgoing: Outgoing) -> Self {
        let client = RegistryClient::new(outgoing, target.is_local());
        Self { target, signer, client }
    }

    /// Registers once.
    ///
    /// # Errors
    /// In the words of 1.2.
    pub(crate) async fn register(&self) -> Result<Registration, RemoteError> {
        let url = self.target.registration(CredentialOrigin::Aws)?;
        let body = DirectRegister { transport: DIRECT_TRANSPORT.to_owned() };
        let body = serde_json::to_vec(&body).map_err(|error| unsigned(error.to_string()))?;
        let headers = self.signer.sign("POST", &url, Some(JSON), &body).await.map_err(unsigned)?;
        let asked =
            self.client.post(url, |request| request.header(CONTENT_TYPE, JSON).headers(headers).body(body));
        let RegistryAnswer { status, body, .. } =
            asked.await.map_err(|error| unanswered(Contract::Direct, error))?;
        if status.is_success() {
            return answer::registration(Contract::Direct, self.target.id(), &body);
        }
        Err(answer::refusal(Contract::Direct, status, &body, false, &Secret::default()))
    }

    /// The headers that prove the upgrade at this URL.
    ///
    /// # Errors
    /// A sentence without any secret.
    pub(crate) async fn upgrade_headers(&self, url: &Url) -> Result<HeaderMap, String> {
        self.signer.sign("GET", url, None, &[]).await
    }
}

fn unsigned(problem: String) -> RemoteError {
    RemoteError::Credential(format!("environment registry authentication error: {problem}"), None)
}
