//! Saves what a sign-in brought.

use codex_login::{LoadError, Store, StoredCredentials};

/// Saves on a thread where waiting for the locks blocks nothing else.
pub(super) async fn save(store: Store, credentials: StoredCredentials) -> Result<(), LoadError> {
    match tokio::task::spawn_blocking(move || store.save(&credentials)).await {
        Ok(saved) => Ok(saved?),
        Err(_) => Err(LoadError::Stopped),
    }
}

/// Tries whether it could be saved.
pub(super) async fn check_writable(store: Store) -> Result<(), LoadError> {
    match tokio::task::spawn_blocking(move || store.check_writable()).await {
        Ok(checked) => Ok(checked?),
        Err(_) => Err(LoadError::Stopped),
    }
}
