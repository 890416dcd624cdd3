//! The sign-in shared with other Codex programs, as an executor's credential.

use std::path::Path;

use async_trait::async_trait;
use codex_config::Config;
use codex_exec_server::remote::{
    Contract, Credential, CredentialOrigin, CredentialSource, NoCredential, Recovery,
};
use codex_login::{Auth, GiveUp, HttpClient, Manager, Outcome, Restrictions, Settings, Store, Variables};
use parking_lot::Mutex;

/// The manager, and what it gave last.
pub(super) struct SignIn {
    manager: Manager,
    /// What the last credential was made of: a refusal of it is about this.
    given: Mutex<Option<Auth>>,
}

impl SignIn {
    /// Loads the sign-in that the contract takes (`remote.md` 2.2 and 3).
    pub(super) async fn load(
        contract: Contract,
        home: &Path,
        config: &Config,
        variables: Variables,
        client: HttpClient,
    ) -> Self {
        let settings = Settings {
            store: Store::new(home, config.cli_auth_credentials_store),
            restrictions: Restrictions {
                forced_method: config.forced_login_method,
                allowed_methods: config.allowed_login_methods.clone(),
                workspaces: config.workspaces(),
            },
            variables,
            use_api_key_variable: matches!(contract, Contract::Environment | Contract::Noise),
            client,
        };
        Self { manager: Manager::new(settings).await, given: Mutex::default() }
    }

    fn given(&self) -> Option<Auth> {
        self.given.lock().clone()
    }

    fn give(&self, auth: Auth) -> Result<Credential, NoCredential> {
        let credential = credential(&auth).ok_or(NoCredential::NoBearer);
        *self.given.lock() = Some(auth);
        credential
    }
}

fn credential(auth: &Auth) -> Option<Credential> {
    Some(Credential {
        origin: CredentialOrigin::SignIn(auth.kind()),
        bearer: auth.bearer()?.clone(),
        account_id: auth.account_id().map(str::to_owned),
        fedramp: auth.is_fedramp(),
    })
}

#[async_trait]
impl CredentialSource for SignIn {
    async fn current(&self) -> Result<Credential, NoCredential> {
        let auth = self.manager.auth().await.ok_or(NoCredential::SignedOut)?;
        self.give(auth)
    }

    async fn read_again(&self) {
        self.manager.reload().await;
    }

    async fn recover(&self, refused: &Credential) -> Recovery {
        let is_refused = |auth: &Auth| credential(auth).is_some_and(|given| given.bearer == refused.bearer);
        let Some(auth) = self.given().filter(is_refused) else {
            // Somebody else has recovered meanwhile.
            return self.current().await.map_or(Recovery::Mismatch, Recovery::Renewed);
        };
        match self.manager.recovery(auth).next().await {
            Outcome::Retry(auth) => self.give(auth).map_or(Recovery::Mismatch, Recovery::Renewed),
            Outcome::GiveUp(GiveUp::Mismatch) => Recovery::Mismatch,
            Outcome::GiveUp(GiveUp::NotRecoverable | GiveUp::AlreadyTried) => Recovery::Unavailable,
            Outcome::GiveUp(GiveUp::RefreshFailed(_) | GiveUp::SameToken | GiveUp::FedrampChanged) => {
                match self.manager.current().map(|auth| self.give(auth)) {
                    Some(Ok(credential)) => Recovery::Unchanged(credential),
                    _ => Recovery::Mismatch,
                }
            }
        }
    }
}
