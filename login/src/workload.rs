//! The identity of a workload: a short-lived token of its platform, exchanged for one of the service (login.md 9.3).

mod spiffe;

use std::path::PathBuf;

use codex_secret::Secret;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::claims::IdClaims;
use crate::client::HttpClient;
use crate::http_error;
use crate::variables::WorkloadVariables;

/// Where tokens are exchanged. No variable changes it.
const EXCHANGE: &str = "https://auth.openai.com/oauth/token";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The largest token of a platform, in bytes. Fixed by the wire.
const TOKEN_BYTES: u64 = 16 << 10;
/// How long before its end a token is exchanged for the next one.
const AHEAD_OF_EXPIRY: SignedDuration = SignedDuration::from_mins(5);

const RULE: &str = "OPENAI_FEDERATION_RULE_ID";
const FILE: &str = "OPENAI_IDENTITY_TOKEN_FILE";
const SOURCE: &str = "OPENAI_IDENTITY_TOKEN_SOURCE";
const SOCKET: &str = "SPIFFE_ENDPOINT_SOCKET";
const AUDIENCE: &str = "OPENAI_SPIFFE_AUDIENCE";
const SPIFFE_ID: &str = "OPENAI_SPIFFE_ID";

/// Why there is no token for a workload. Nothing further is tried then.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A variable is missing.
    #[error("workload identity requires {0}")]
    Missing(&'static str),
    /// A variable holds what it can't mean.
    #[error("workload identity variable {0} is invalid")]
    Invalid(&'static str),
    /// `OPENAI_IDENTITY_TOKEN_SOURCE` holds another word.
    #[error("{SOURCE} must be file or spiffe")]
    Source,
    /// A file where the token comes from SPIFFE.
    #[error("{FILE} does not go with {SOURCE}=spiffe; unset one of them")]
    FileAndSpiffe,
    /// The agent of SPIFFE gave no token.
    #[error("the SPIFFE agent at {socket:?} gave no token: {why}")]
    Spiffe {
        /// Where it was asked.
        socket: PathBuf,
        /// What went wrong, or what to do; holds no secret.
        why: String,
    },
    /// The file can't be read.
    #[error("the workload identity token file {path:?} can't be read: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file holds no token.
    #[error("the workload identity token file {path:?} holds no token of at most 16 KiB")]
    NoToken {
        /// Which.
        path: PathBuf,
    },
    /// The service did not answer.
    #[error("the workload identity token exchange is unavailable")]
    Unavailable(#[source] Unreachable),
    /// The service said no.
    #[error("the workload identity token exchange was rejected with HTTP {0}")]
    Rejected(u16),
    /// The service's answer holds no token that names an account.
    #[error("the workload identity token exchange returned an invalid response")]
    Answer,
}

/// What kept a request from its answer; holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

/// A token of the service for this workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkloadToken {
    pub(crate) bearer: Secret,
    pub(crate) claims: IdClaims,
    expires: Timestamp,
}

/// Where the platform's token comes from, and which rule accepts it.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    rule: String,
    source: Source,
}

/// Who has the platform's token.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// A file, which somebody keeps fresh.
    File(PathBuf),
    /// The agent of SPIFFE behind this socket.
    Spiffe {
        socket: PathBuf,
        audience: String,
        /// Which identity, where there are several.
        id: Option<String>,
    },
}

impl WorkloadVariables {
    fn identity(&self) -> Result<Identity, WorkloadError> {
        let rule = filled(self.rule.as_deref(), RULE)?.to_owned();
        let source = match self.source.as_deref().map(str::trim) {
            None | Some("file") => self.file()?,
            Some("spiffe") => self.spiffe()?,
            Some(_) => return Err(WorkloadError::Source),
        };
        Ok(Identity { rule, source })
    }

    fn file(&self) -> Result<Source, WorkloadError> {
        let file = PathBuf::from(filled(self.file.as_deref(), FILE)?);
        if file.is_absolute() { Ok(Source::File(file)) } else { Err(WorkloadError::Invalid(FILE)) }
    }

    fn spiffe(&self) -> Result<Source, WorkloadError> {
        if self.file.is_some() {
            return Err(WorkloadError::FileAndSpiffe);
        }
        let socket = filled(self.socket.as_deref(), SOCKET)?;
        let path = socket.strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path));
        let path = path.filter(|path| path.starts_with('/')).ok_or(WorkloadError::Invalid(SOCKET))?;
        let audience = filled(self.audience.as_deref(), AUDIENCE)?.to_owned();
        let id = self.spiffe_id.as_deref().map(|id| filled(Some(id), SPIFFE_ID)).transpose()?;
        Ok(Source::Spiffe { socket: path.into(), audience, id: id.map(str::to_owned) })
    }
}

fn filled<'a>(value: Option<&'a str>, name: &'static str) -> Result<&'a str, WorkloadError> {
    match value.map(str::trim) {
        None => Err(WorkloadError::Missing(name)),
        Some("") => Err(WorkloadError::Invalid(name)),
        Some(value) => Ok(value),
    }
}

impl WorkloadToken {
    /// Whether it is time for the next one.
    pub(crate) fn ends_soon(&self, now: Timestamp) -> bool {
        self.expires.duration_since(now) <= AHEAD_OF_EXPIRY
    }

    /// Whether it is good no more.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        self.expires <= now
    }
}

/// Reads the platform's token and exchanges it.
///
/// # Errors
/// See [`WorkloadError`].
pub(crate) async fn exchange(
    client: &HttpClient,
    variables: &WorkloadVariables,
) -> Result<WorkloadToken, WorkloadError> {
    let Identity { rule, source } = variables.identity()?;
    let unavailable = |cause: String| WorkloadError::Unavailable(Unreachable(cause));
    let token = match source {
        Source::File(file) => tokio::task::spawn_blocking(move || read(file))
            .await
            .map_err(|_| unavailable("the program is stopping".to_owned()))??,
        Source::Spiffe { socket, audience, id } => {
            spiffe::fetch(&socket, audience, id).await.map_err(|why| WorkloadError::Spiffe { socket, why })?
        }
    };
    client.prepare().await.map_err(|error| unavailable(error.to_string()))?;
    let form = [("grant_type", GRANT), ("assertion", token.expose()), ("federation_rule_id", &rule)];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = client
        .plain()
        .map_err(|error| unavailable(error.to_string()))?
        .post(EXCHANGE)
        .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body);
    let answer = request.send().await.map_err(|error| unavailable(http_error::cause(error)))?;
    let status = answer.status();
    let body = http_error::body(answer).await.map_err(unavailable)?;
    if !status.is_success() {
        return Err(WorkloadError::Rejected(status.as_u16()));
    }
    understood(&body, Timestamp::now()).ok_or(WorkloadError::Answer)
}

fn read(path: PathBuf) -> Result<Secret, WorkloadError> {
    use std::io::Read;
    let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_BYTES as usize + 1));
    let reading =
        std::fs::File::open(&path).and_then(|file| file.take(TOKEN_BYTES + 1).read_to_end(&mut bytes));
    if let Err(source) = reading {
        return Err(WorkloadError::File { path, source });
    }
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    match text {
        Some(text) if !text.is_empty() && bytes.len() as u64 <= TOKEN_BYTES => Ok(text.into()),
        _ => Err(WorkloadError::NoToken { path }),
    }
}

/// The token of an answer. It has to name the account that it is for: nothing else does.
fn understood(body: &[u8], now: Timestamp) -> Option<WorkloadToken> {
    #[derive(Deserialize)]
    struct TokenAnswer {
        access_token: Secret,
        expires_in: i64,
    }
    let TokenAnswer { access_token: bearer, expires_in } = serde_json::from_slice(body).ok()?;
    let claims = IdClaims::read(bearer.expose()).ok()?;
    claims.account_id.as_ref()?;
    let expires =
        now.checked_add(SignedDuration::from_secs(expires_in)).ok().filter(|expires| *expires > now)?;
    Some(WorkloadToken { bearer, claims, expires })
}

#[cfg(test)]
mod tests;
