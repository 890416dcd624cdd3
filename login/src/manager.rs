//! The sign-in of this process: loaded once, reloaded on demand, refreshed one at a time (login.md 6).

use crate::auth::Auth;
use crate::load::{LoadError, Settings, blocking, load};
use crate::recovery::Recovery;
use crate::refresh::{self, PermanentFailure, RefreshError, RefreshReason};
use crate::store::{Change, RefreshLock, StoreError};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// The sign-in of this process. Cheap to clone; all clones are the same manager.
#[derive(Debug, Clone)]
pub struct Manager {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    current: Mutex<Option<Auth>>,
    /// Held by the one that refreshes.
    turn: tokio::sync::Mutex<Turn>,
}

/// What the last refresh left behind.
#[derive(Debug, Default)]
struct Turn {
    /// The sign-in that can't be refreshed any more, and why.
    failed: Option<(Auth, PermanentFailure)>,
}

/// What a guarded reload found.
#[derive(Debug)]
pub(crate) enum Reloaded {
    /// Other secrets of the same account.
    Changed(Auth),
    /// What was there before.
    Same(Auth),
    /// Another account, another kind, no account, or nothing.
    Skipped,
}

impl Manager {
    /// Loads the sign-in. What can't be loaded counts as none.
    pub async fn new(settings: Settings) -> Self {
        let manager = Self {
            shared: Arc::new(Shared {
                settings,
                current: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
            }),
        };
        manager.reload().await;
        manager
    }

    /// The sign-in, refreshed first when it is due. When that fails it is the old one, and the log says why.
    pub async fn auth(&self) -> Option<Auth> {
        let auth = self.current()?;
        if auth.workload().is_some_and(|token| token.ends_soon(Timestamp::now())) {
            return self.next_workload_token(auth).await;
        }
        if let Some(reason) = refresh::due(&auth, Timestamp::now()) {
            match self.refresh_from(&auth, reason).await {
                Ok(fresh) => return Some(fresh),
                Err(error) => {
                    tracing::error!(status = error.status(), "refreshing the sign-in failed: {error}")
                }
            }
        }
        self.current()
    }

    /// The next token of a workload. The one that it has is used to its end, if no other is to be had.
    async fn next_workload_token(&self, seen: Auth) -> Option<Auth> {
        let _turn = self.shared.turn.lock().await;
        let current = self.current().filter(|current| !current.same_secrets(&seen));
        if current.is_some() {
            // Another task has just exchanged it.
            return current;
        }
        let next = match load(&self.shared.settings).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(
                    "there is no new token for this workload: {}",
                    codex_outgoing::sentence(&error)
                );
                Some(seen)
                    .filter(|auth| auth.workload().is_some_and(|token| !token.has_ended(Timestamp::now())))
            }
        };
        *self.lock() = next.clone();
        next
    }

    /// Loads the sign-in again, whatever it is now.
    pub async fn reload(&self) {
        let loaded = self.load().await;
        *self.lock() = loaded;
    }

    /// Refreshes the sign-in now. When another process has refreshed it meanwhile, its result is taken and no request
    /// is made.
    pub async fn refresh(&self) -> Result<Auth, RefreshError> {
        let auth = self.current().ok_or(RefreshError::NotRefreshable)?;
        self.refresh_from(&auth, RefreshReason::Forced).await
    }

    /// What can be done about `refused`, which the service answered with 401.
    pub fn recovery(&self, refused: Auth) -> Recovery {
        Recovery::new(self.clone(), refused)
    }

    /// The sign-in as it is, without a look at the clock or the store.
    pub fn current(&self) -> Option<Auth> {
        self.lock().clone()
    }

    /// Loads again, and takes what is found only if it is of the account of `seen` (login.md 6).
    pub(crate) async fn guarded_reload(&self, seen: &Auth) -> Reloaded {
        let Some(account_id) = seen.account_id() else { return Reloaded::Skipped };
        match self.load().await {
            Some(loaded) if loaded.managed().is_some() && loaded.account_id() == Some(account_id) => {
                *self.lock() = Some(loaded.clone());
                if loaded.same_secrets(seen) { Reloaded::Same(loaded) } else { Reloaded::Changed(loaded) }
            }
            _ => Reloaded::Skipped,
        }
    }

    /// Refreshes `seen`, unless somebody else already has: another task, or another process.
    ///
    /// It runs to its end even when the caller is dropped: an answer that is not saved would be the end of the sign-in,
    /// since the issuer takes a refresh token only once.
    pub(crate) async fn refresh_from(
        &self,
        seen: &Auth,
        reason: RefreshReason,
    ) -> Result<Auth, RefreshError> {
        if seen.managed().is_none() {
            return Err(RefreshError::NotRefreshable);
        }
        let (manager, seen) = (self.clone(), seen.clone());
        let task = tokio::spawn(async move { manager.refresh_in_turn(&seen, reason).await });
        task.await.unwrap_or_else(|_| {
            Err(RefreshError::Transient { status: None, cause: "the program is stopping".to_owned() })
        })
    }

    async fn refresh_in_turn(&self, seen: &Auth, reason: RefreshReason) -> Result<Auth, RefreshError> {
        let mut turn = self.shared.turn.lock().await;
        if let Some(reason) = turn.failure_of(seen)
            && self.current().is_some_and(|current| current.same_secrets(seen))
            && let Reloaded::Same(_) = self.guarded_reload(seen).await
        {
            return Err(RefreshError::Permanent(reason));
        }
        let _between_processes = RefreshLock::take(&self.shared.settings.store)
            .await
            .map_err(|error| RefreshError::Transient { status: None, cause: error.to_string() })?;
        match self.guarded_reload(seen).await {
            Reloaded::Changed(auth) => Ok(auth),
            Reloaded::Skipped => Err(RefreshError::Permanent(PermanentFailure::AccountChanged)),
            Reloaded::Same(auth) => {
                let result = self.ask(&auth, reason).await;
                if let Err(RefreshError::Permanent(reason)) = &result {
                    turn.failed = Some((auth, *reason));
                }
                result
            }
        }
    }

    /// Asks the issuer, and saves what it gives unless the store has moved on meanwhile.
    async fn ask(&self, auth: &Auth, reason: RefreshReason) -> Result<Auth, RefreshError> {
        let Settings { store, variables, client, .. } = &self.shared.settings;
        let credentials = auth.managed().ok_or(RefreshError::NotRefreshable)?.clone();
        let tokens = credentials.tokens().ok_or(RefreshError::NotRefreshable)?;
        // The issuer takes the refresh token once: what it gives for it must be kept.
        if !store.keeps_in_memory(&credentials) {
            blocking(store.clone(), |store| store.check_writable())
                .await
                .map_err(|error| RefreshError::Transient { status: None, cause: error.to_string() })?;
        }
        let answer = refresh::request(client, variables, tokens, reason).await?;
        // After a refresh through the override the tokens' origin is not what it was (login.md 7.3).
        let keep_provenance = variables.refresh_url.is_none();
        let renewed = tokens
            .renewed(answer.id_token, answer.access_token, answer.refresh_token, keep_provenance)
            .map_err(|error| RefreshError::Transient {
                status: None,
                cause: format!("the issuer's answer is unusable ({error})"),
            })?;
        let in_memory = Auth::from_chatgpt(credentials.renewed(renewed.clone(), Timestamp::now()));
        let store = store.clone();
        let saved = tokio::task::spawn_blocking(move || {
            store.change(&credentials, |stored| {
                // The stored document's other members may be newer than ours.
                Ok::<_, StoreError>(stored.renewed(renewed, Timestamp::now()))
            })
        });
        let fresh = match saved.await {
            Ok(Ok(Change::Saved(credentials))) => Auth::from_chatgpt(credentials),
            Ok(Ok(Change::Kept(stored))) => match stored.map(Auth::from_chatgpt) {
                Some(stored) if stored.managed().is_some() && stored.account_id() == auth.account_id() => {
                    stored
                }
                _ => return Err(RefreshError::Permanent(PermanentFailure::AccountChanged)),
            },
            // The issuer may have ended the old refresh token: the new ones are all that is left.
            Ok(Err(error)) => {
                tracing::error!(
                    "the refreshed sign-in could not be saved and lives in this process only: {error}"
                );
                in_memory
            }
            Err(_) => in_memory,
        };
        *self.lock() = Some(fresh.clone());
        Ok(fresh)
    }

    async fn load(&self) -> Option<Auth> {
        load(&self.shared.settings).await.unwrap_or_else(|error| {
            match error {
                // Whoever set the variables means this identity and no other.
                LoadError::Workload(error) => tracing::error!("{}", codex_outgoing::sentence(&error)),
                error => tracing::debug!("the sign-in can't be loaded: {error}"),
            }
            None
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Auth>> {
        self.shared.current.lock()
    }
}

impl Turn {
    fn failure_of(&self, auth: &Auth) -> Option<PermanentFailure> {
        let (failed, reason) = self.failed.as_ref()?;
        failed.same_secrets(auth).then_some(*reason)
    }
}
