//! An executor registers, and has handshakes validated (2.1, 3, 6.1, 6.3).

use std::sync::Arc;

use codex_exec_protocol::registry::{
    CloudRegister, NOISE_PROFILE, NoiseRegister, STREAM_ID_HEADER, Validate, Validated,
};
use codex_outgoing::Outgoing;
use codex_relay::{Handshake, Identity, Verdict};
use rand::RngCore;
use reqwest::{RequestBuilder, StatusCode};
use sha2::{Digest, Sha256};
use url::Url;

use super::answer::{self, Registration};
use super::client::{REQUEST_TIME, RegistryAnswer, RegistryClient, RequestError};
use super::contract::Contract;
use super::credential::{self, Credential, CredentialOrigin, CredentialSource, NextTry};
use super::error::{Cause, RemoteError};
use super::target::Target;

/// The registry as one executor uses it: with its target, its credentials and its identity.
pub(crate) struct ExecutorRegistry {
    target: Target,
    credentials: Arc<dyn CredentialSource>,
    name: String,
    identity: Option<Arc<Identity>>,
    client: RegistryClient,
    /// Random for this process: part of contract A's idempotency id.
    launch: [u8; 16],
}

/// A request that is made again with another credential after a refusal.
struct Answered {
    status: StatusCode,
    body: Vec<u8>,
    credential: Credential,
    /// The stored credential turned out to be another account's.
    mismatch: bool,
}

impl ExecutorRegistry {
    /// `identity` is for [`Contract::Noise`].
    pub(crate) fn new(
        target: Target,
        credentials: Arc<dyn CredentialSource>,
        name: String,
        identity: Option<Arc<Identity>>,
        outgoing: Outgoing,
    ) -> Self {
        let mut launch = [0; 16];
        rand::rng().fill_bytes(&mut launch);
        let client = RegistryClient::new(outgoing, target.is_local());
        Self { target, credentials, name, identity, client, launch }
    }

    /// Registers once; a refused credential is recovered once.
    ///
    /// # Errors
    /// In the words of 1.2.
    pub(crate) async fn register(&self) -> Result<Registration, RemoteError> {
        let contract = self.target.contract();
        let answered = self
            .ask(
                |origin| self.target.registration(origin),
                |request, credential| match contract {
                    Contract::Cloud => request.json(&self.cloud_body(credential)),
                    Contract::Executor | Contract::Environment | Contract::Direct => request,
                    Contract::Noise => match &self.identity {
                        Some(identity) => request.json(&NoiseRegister {
                            security_profile: NOISE_PROFILE.to_owned(),
                            executor_public_key: identity.public_key().clone(),
                        }),
                        None => request,
                    },
                },
            )
            .await?;
        if answered.status.is_success() {
            return answer::registration(contract, self.target.id(), &answered.body);
        }
        let hide = answered.credential.origin == CredentialOrigin::Stdin;
        let body: &[u8] = if answered.mismatch && contract != Contract::Cloud { b"" } else { &answered.body };
        Err(answer::refusal(contract, answered.status, body, hide, &answered.credential.bearer))
    }

    fn cloud_body(&self, credential: &Credential) -> CloudRegister {
        let account = credential.account_id.as_deref().unwrap_or_default();
        let environment = self.target.id();
        CloudRegister {
            idempotency_id: idempotency_id(account, environment, &self.name, self.launch),
            environment_id: environment.map(str::to_owned),
            name: self.name.clone(),
            labels: Default::default(),
            metadata: Default::default(),
        }
    }

    /// Asks whether a harness may open a stream. Whatever is no clear yes is a no.
    pub(crate) async fn validate(&self, registration_id: &str, handshake: Handshake) -> Verdict {
        let stream = handshake.id;
        let body = Validate {
            executor_registration_id: registration_id.to_owned(),
            harness_public_key: handshake.harness_public_key,
            harness_key_authorization: handshake.authorization,
        };
        let is_uuid = uuid::Uuid::try_parse(stream.as_str()).is_ok();
        let asked = self.ask(
            |origin| self.target.validation(origin),
            |request, _| {
                let request = request.json(&body);
                if is_uuid { request.header(STREAM_ID_HEADER, stream.as_str()) } else { request }
            },
        );
        match tokio::time::timeout(REQUEST_TIME, asked).await {
            Ok(Ok(answered)) => verdict(&answered),
            Ok(Err(error)) => {
                tracing::warn!(error = error.sentence(), "a handshake can't be validated");
                Verdict::Invalid
            }
            Err(_) => {
                tracing::warn!("a handshake was not validated within {REQUEST_TIME:?}");
                Verdict::Invalid
            }
        }
    }

    async fn ask(
        &self,
        url: impl Fn(CredentialOrigin) -> Result<Url, RemoteError>,
        fill: impl Fn(RequestBuilder, &Credential) -> RequestBuilder,
    ) -> Result<Answered, RemoteError> {
        let contract = self.target.contract();
        let credential = credential::fitting(contract, &*self.credentials).await?;
        let mut answered = self.send(url(credential.origin)?, credential, &fill).await?;
        if !may_recover(contract, answered.status) {
            return Ok(answered);
        }
        tracing::info!(status = %answered.status, "the registry refused the credential; looking for a newer one");
        let recovery = self.credentials.recover(&answered.credential).await;
        match credential::next_try(contract, &answered.credential, recovery) {
            NextTry::With(new) => self.send(url(new.origin)?, new, &fill).await,
            NextTry::None { mismatch } => {
                answered.mismatch = mismatch;
                Ok(answered)
            }
        }
    }

    async fn send(
        &self,
        url: Url,
        credential: Credential,
        fill: &impl Fn(RequestBuilder, &Credential) -> RequestBuilder,
    ) -> Result<Answered, RemoteError> {
        let contract = self.target.contract();
        let headers = credential::headers(contract, &credential)?;
        let answered = self.client.post(url, |request| fill(request.headers(headers), &credential));
        let RegistryAnswer { status, body, .. } =
            answered.await.map_err(|error| unanswered(contract, error))?;
        Ok(Answered { status, body, credential, mismatch: false })
    }
}

impl std::fmt::Debug for ExecutorRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutorRegistry").field("target", &self.target).finish_non_exhaustive()
    }
}

fn may_recover(contract: Contract, status: StatusCode) -> bool {
    status == StatusCode::UNAUTHORIZED || (contract == Contract::Cloud && status == StatusCode::FORBIDDEN)
}

fn verdict(answered: &Answered) -> Verdict {
    let valid = || serde_json::from_slice::<Validated>(&answered.body).is_ok_and(|answer| answer.valid);
    match answered.status {
        status if status.is_success() && valid() => Verdict::Valid,
        StatusCode::UNAUTHORIZED => Verdict::CredentialRefused,
        _ => Verdict::Invalid,
    }
}

pub(super) fn unanswered(contract: Contract, error: RequestError) -> RemoteError {
    match error {
        RequestError::Outgoing(error) => error.into(),
        RequestError::Http(error) => {
            RemoteError::Request { contract, text: error.to_string(), cause: Cause::of(&error) }
        }
    }
}

/// Contract A's id of this launch: the same at every reconnect (2.1).
fn idempotency_id(account: &str, environment: Option<&str>, name: &str, launch: [u8; 16]) -> String {
    let environment = environment.unwrap_or("auto");
    let parts: [&[u8]; 5] =
        [account.as_bytes(), environment.as_bytes(), name.as_bytes(), b"codex-exec-server-v1", &launch];
    let hash = Sha256::digest(parts.join(&0));
    format!("codex-exec-server-{}", hex::encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_id_depends_on_each_part_and_on_nothing_else() {
        let id = idempotency_id("acct", Some("env-1"), "me", [7; 16]);
        let joined = b"acct\0env-1\0me\0codex-exec-server-v1\0\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07";
        assert_eq!(id, format!("codex-exec-server-{}", hex::encode(Sha256::digest(joined))));
        assert_eq!(id, idempotency_id("acct", Some("env-1"), "me", [7; 16]));
        assert_eq!(
            idempotency_id("acct", None, "me", [7; 16]),
            idempotency_id("acct", Some("auto"), "me", [7; 16])
        );
        assert_ne!(id, idempotency_id("acct", Some("env-1"), "me", [8; 16]));
    }
}
