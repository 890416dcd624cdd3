//! Which sign-ins the configuration allows (login.md 6, 12.4).

use crate::auth::Auth;
use codex_config::{Config, LoginMethod};
use codex_secret::SignInKind;

/// What the configuration and the administrator allow. The default allows everything.
#[derive(Debug, Clone, Default)]
pub struct Restrictions {
    /// `forced_login_method`.
    pub forced_method: Option<LoginMethod>,
    /// `allowed_login_methods` of the administrator's requirements.
    pub allowed_methods: Option<Vec<LoginMethod>>,
    /// The accounts that may be used, by the configuration and by the requirements. Does not concern API keys.
    pub workspaces: Option<Vec<String>>,
}

impl From<&Config> for Restrictions {
    fn from(config: &Config) -> Self {
        Self {
            forced_method: config.forced_login_method,
            allowed_methods: config.allowed_login_methods.clone(),
            workspaces: config.workspaces(),
        }
    }
}

impl Restrictions {
    /// Whether one may sign in this way.
    pub fn allow_method(&self, method: LoginMethod) -> bool {
        self.forced_method.is_none_or(|forced| forced == method)
            && self.allowed_methods.as_ref().is_none_or(|allowed| allowed.contains(&method))
    }

    /// Whether this account may be used; without an account only where every account may.
    pub fn allow_workspace(&self, account_id: Option<&str>) -> bool {
        self.workspaces.as_ref().is_none_or(|allowed| {
            account_id.is_some_and(|account_id| allowed.iter().any(|allowed| allowed == account_id))
        })
    }

    /// Whether this sign-in counts. Where the file and its id token name different accounts, both have to be allowed.
    pub fn allow(&self, auth: &Auth) -> bool {
        if auth.kind() == SignInKind::ApiKey {
            return self.allow_method(LoginMethod::Api);
        }
        let named = auth.account_id();
        let claimed = auth.claimed_account_id();
        self.allow_method(LoginMethod::Chatgpt)
            && self.allow_workspace(named.or(claimed))
            && claimed.is_none_or(|claimed| self.allow_workspace(Some(claimed)))
    }
}
