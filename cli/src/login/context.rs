//! What the login commands work with: where and how credentials are kept, by configuration and environment.

use codex_login::{HttpClient, Restrictions, Settings, Store, Variables};

use super::log::start_logging;
use super::refusal::Refusal;
use crate::setup::Setup;

/// What follows from the configuration and from the environment.
pub(crate) struct Context {
    pub(crate) settings: Settings,
}

impl Context {
    /// Loads the configuration and opens the log, in which `what` is the first entry.
    pub(crate) fn load(setup: &Setup, what: &'static str) -> Result<Self, Refusal> {
        let context = Self::load_unlogged(setup)?;
        start_logging(context.settings.store.home());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), store = ?context.settings.store.mode(), "{what}");
        Ok(context)
    }

    /// The same for a command that only looks, and leaves no trace.
    pub(crate) fn load_unlogged(setup: &Setup) -> Result<Self, Refusal> {
        let (home, config) = setup.load().map_err(|error| Refusal::new(error.login_line()))?;
        let variables = Variables::from_lookup(|name| std::env::var(name).ok());
        let settings = Settings {
            store: Store::new(&home, config.cli_auth_credentials_store),
            restrictions: Restrictions::from(&config),
            client: HttpClient::new(env!("CARGO_PKG_VERSION"), &variables),
            variables,
            use_api_key_variable: false,
        };
        Ok(Self { settings })
    }
}
