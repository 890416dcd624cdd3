//! Lays the flags of `codex exec-server` over `[exec_server]` of the configuration.

use anyhow::Context;
use codex_config::{ExecServerConfig, Leftovers, WsAuth};
use codex_exec_server::Limits;
use codex_exec_server::transport::ListenAddress;
use codex_limits::LimitError;

use super::args::{LeftoversArg, ServeArgs, WsAuth as WsAuthArg};

/// The bounds that the configuration sets, over the defaults.
pub(super) fn limits(settings: &ExecServerConfig) -> Result<Limits, LimitError> {
    let mut limits = Limits::default();
    for &(name, number) in settings.limits.given() {
        limits.set(name, number)?;
    }
    Ok(limits)
}

impl ServeArgs {
    /// Whether the flags alone decide who is allowed to connect, whatever the configuration says.
    pub(super) fn decide_access(&self) -> bool {
        self.ws_auth.is_some() || self.listen.as_deref().is_some_and(is_stdio)
    }

    /// Fills from the configuration what the flags leave open.
    pub(super) fn or(mut self, settings: ExecServerConfig) -> Self {
        self.listen = self.listen.or(settings.listen.clone());
        self.prepend_path_dirs = settings.prepend_path_dirs.clone();
        self.state_dir = settings.state_dir.clone();
        self.audit = self.audit.or(settings.audit.clone());
        self.audit_required |= settings.audit_required.unwrap_or(false);
        self.metrics |= settings.metrics.unwrap_or(false);
        self.metrics_listen = self.metrics_listen.or(settings.metrics_listen);
        self.leftovers = self.leftovers.or(settings.leftovers.map(|leftovers| match leftovers {
            Leftovers::Keep => LeftoversArg::Keep,
            Leftovers::Kill => LeftoversArg::Kill,
        }));
        self.no_keeper |= settings.keeper == Some(false);
        self.sandbox.fill(&settings.sandbox);
        self.concurrent_requests = self
            .concurrent_requests
            .or(settings.concurrent_requests.and_then(|number| u32::try_from(number.get()).ok()));
        // Over stdio nobody connects.
        if !self.listen.as_deref().is_some_and(is_stdio) {
            self.fill_access(settings);
        }
        self
    }

    /// The bounds, with those that the flags set.
    pub(super) fn bounded(&self, mut limits: Limits) -> anyhow::Result<Limits> {
        if let Some(requests) = self.concurrent_requests {
            limits.connection.concurrent_requests = requests as usize;
        }
        for limit in &self.limit {
            let (name, value) =
                limit.split_once('=').with_context(|| format!("--limit takes NAME=VALUE, not {limit:?}"))?;
            limits.set_text(name, value)?;
        }
        Ok(limits)
    }

    /// The configuration's ways to connect count as a whole, or not at all when the flags choose another kind.
    fn fill_access(&mut self, settings: ExecServerConfig) {
        let configured = settings.ws_auth.map(|auth| match auth {
            WsAuth::None => WsAuthArg::None,
            WsAuth::CapabilityToken => WsAuthArg::CapabilityToken,
            WsAuth::SignedBearerToken => WsAuthArg::SignedBearerToken,
        });
        if self.ws_auth.is_some() && self.ws_auth != configured {
            return;
        }
        self.ws_auth = configured;
        // Either tells the token, so one flag replaces both keys.
        if self.ws_token_file.is_none() && self.ws_token_sha256.is_none() {
            self.ws_token_file = settings.ws_token_file;
            self.ws_token_sha256 = settings.ws_token_sha256;
        }
        self.ws_shared_secret_file = self.ws_shared_secret_file.take().or(settings.ws_shared_secret_file);
        self.ws_issuer = self.ws_issuer.take().or(settings.ws_issuer);
        self.ws_audience = self.ws_audience.take().or(settings.ws_audience);
        self.ws_max_clock_skew_seconds = self
            .ws_max_clock_skew_seconds
            .or(settings.ws_max_clock_skew_seconds.map(codex_config::Number::get));
    }
}

fn is_stdio(listen: &str) -> bool {
    matches!(ListenAddress::parse(listen), Ok(ListenAddress::Stdio))
}

#[cfg(test)]
mod tests;
