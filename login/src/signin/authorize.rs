//! What one sign-in sends the browser away with: PKCE challenge, state, and the authorize URL.

use codex_secret::Secret;
use oauth2::basic::BasicClient;
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};

use super::{Issuer, SignInError};

/// Random bytes behind a PKCE verifier: 86 characters (login.md 8.3). Fixed by the wire.
const VERIFIER_BYTES: u32 = 64;
/// Random bytes behind a state: 43 characters (login.md 8.3). Fixed by the wire.
const STATE_BYTES: u32 = 32;
const SCOPES: [&str; 6] =
    ["openid", "profile", "email", "offline_access", "api.connectors.read", "api.connectors.invoke"];

/// One attempt to sign in by browser.
pub(super) struct Attempt {
    /// Where the user has to go.
    pub(super) url: String,
    /// Must come back with the callback.
    pub(super) state: Secret,
    /// Proves at the exchange that the code was ours.
    pub(super) verifier: Secret,
    /// Where the issuer sends the browser back to.
    pub(super) redirect_uri: String,
}

impl Attempt {
    /// A fresh attempt whose callback is served on this port.
    pub(super) fn new(
        issuer: &Issuer,
        port: u16,
        originator: &str,
        workspaces: Option<&[String]>,
    ) -> Result<Self, SignInError> {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256_len(VERIFIER_BYTES);
        let state = CsrfToken::new_random_len(STATE_BYTES);
        let redirect_uri = format!("http://127.0.0.1:{port}/auth/callback");
        let bad_issuer = |cause| SignInError::BadIssuer { url: issuer.url.clone(), cause };
        let authorize = AuthUrl::new(issuer.endpoint("/oauth/authorize")).map_err(bad_issuer)?;
        let redirect = RedirectUrl::new(redirect_uri.clone()).map_err(bad_issuer)?;
        let client = BasicClient::new(ClientId::new(issuer.client_id.clone()))
            .set_auth_uri(authorize)
            .set_redirect_uri(redirect);
        let mut request = client
            .authorize_url(|| state)
            .add_scopes(SCOPES.map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(challenge)
            .add_extra_param("id_token_add_organizations", "true")
            .add_extra_param("codex_cli_simplified_flow", "true")
            .add_extra_param("originator", originator);
        if let Some(workspaces) = workspaces {
            request = request.add_extra_param("allowed_workspace_id", workspaces.join(","));
        }
        let (url, state) = request.url();
        Ok(Self {
            url: url.into(),
            state: state.into_secret().into(),
            verifier: verifier.into_secret().into(),
            redirect_uri,
        })
    }
}
