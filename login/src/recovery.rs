//! What is done about a sign-in that a service refused with 401 (login.md 6.1, 7.4).

use crate::auth::Auth;
use crate::manager::{Manager, Reloaded};
use crate::refresh::{PermanentFailure, RefreshError, RefreshReason};

/// The recovery from one refusal: at most one retry, then the refusal stands. Only 401 leads here, never 403.
#[derive(Debug)]
pub struct Recovery {
    manager: Manager,
    refused: Auth,
    used: bool,
}

/// What to do with the refused request.
#[derive(Debug)]
pub enum Outcome {
    /// Send it again with this sign-in.
    Retry(Auth),
    /// Report the refusal.
    GiveUp(GiveUp),
}

/// Why there is nothing to send the request again with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    /// It was sent again already.
    #[error("the sign-in was already recovered once")]
    AlreadyTried,
    /// An API key or a personal access token: there is no other.
    #[error("this kind of sign-in can't be recovered")]
    NotRecoverable,
    /// The stored credentials are gone, or of another account or kind.
    #[error("the stored sign-in is not that of the refused request any more")]
    Mismatch,
    /// The issuer gives no new tokens.
    #[error("{0}")]
    RefreshFailed(#[from] RefreshError),
    /// The issuer gives the token that was refused.
    #[error("the issuer gave the refused token again")]
    SameToken,
    /// The new tokens belong on another kind of host.
    #[error("the new tokens differ in their FedRAMP mark")]
    FedrampChanged,
}

impl Recovery {
    pub(crate) fn new(manager: Manager, refused: Auth) -> Self {
        Self { manager, refused, used: false }
    }

    /// Finds a sign-in to send the refused request again with: what is stored now, if it differs, else a fresh one.
    pub async fn next(&mut self) -> Outcome {
        if std::mem::replace(&mut self.used, true) {
            return Outcome::GiveUp(GiveUp::AlreadyTried);
        }
        self.recover().await.map_or_else(Outcome::GiveUp, Outcome::Retry)
    }

    async fn recover(&self) -> Result<Auth, GiveUp> {
        if self.refused.managed().is_none() {
            return Err(GiveUp::NotRecoverable);
        }
        let stored = match self.manager.guarded_reload(&self.refused).await {
            Reloaded::Skipped => return Err(GiveUp::Mismatch),
            Reloaded::Changed(stored) | Reloaded::Same(stored) => stored,
        };
        let fresh = if self.is_refused(&stored) {
            self.manager.refresh_from(&stored, RefreshReason::Forced).await.map_err(|error| {
                tracing::error!(status = error.status(), "refreshing the sign-in failed");
                match error {
                    RefreshError::Permanent(PermanentFailure::AccountChanged) => GiveUp::Mismatch,
                    error => GiveUp::RefreshFailed(error),
                }
            })?
        } else {
            stored
        };
        if self.is_refused(&fresh) {
            return Err(GiveUp::SameToken);
        }
        if fresh.is_fedramp() != self.refused.is_fedramp() {
            return Err(GiveUp::FedrampChanged);
        }
        Ok(fresh)
    }

    fn is_refused(&self, auth: &Auth) -> bool {
        auth.bearer() == self.refused.bearer()
    }
}
