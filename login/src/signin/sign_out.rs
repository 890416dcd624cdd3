//! Signs out: revokes what is stored, then removes it (login.md 8.7, 10).

use crate::credentials::StoredCredentials;
use crate::load::{LoadError, Settings, blocking};
use crate::revoke::revoke;

/// Revokes the stored tokens, then removes the credentials from memory and store. True if there were any.
///
/// Trouble with the revocation is only logged, and credentials that can't be read are removed all the same. No lock is
/// held during the request.
///
/// # Errors
/// The store does not remove them.
pub async fn sign_out(settings: &Settings) -> Result<bool, LoadError> {
    match blocking(settings.store.clone(), |store| store.load()).await {
        Ok(Some(credentials)) => {
            if let Err(error) = revoke(&settings.client, &settings.variables, &credentials).await {
                tracing::warn!(%error, "the tokens could not be revoked");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the credentials can't be read, and are removed unrevoked"),
    }
    let removed = blocking(settings.store.clone(), |store| store.remove()).await?;
    tracing::info!(removed, "signed out");
    Ok(removed)
}

/// Saves a sign-in in the place of the one that is there, which is given back if its tokens are to be revoked now. Who gives
/// up half-way, or whose connection fails, stays signed in (as in 0.131; login.md 8.3).
///
/// # Errors
/// The store does not take it; the old sign-in stays.
pub async fn replace_sign_in(
    settings: &Settings,
    new: StoredCredentials,
) -> Result<Option<StoredCredentials>, LoadError> {
    let replaced = blocking(settings.store.clone(), move |store| {
        let old = store.load().unwrap_or_else(|error| {
            tracing::warn!(%error, "the credentials can't be read, and are replaced unrevoked");
            None
        });
        store.save(&new)?;
        Ok(old.filter(|old| !old.same_secrets(&new)))
    });
    replaced.await
}

/// Revokes the tokens of a sign-in that was replaced. Trouble is only logged.
pub async fn revoke_replaced(settings: &Settings, old: &StoredCredentials) {
    if let Err(error) = revoke(&settings.client, &settings.variables, old).await {
        tracing::warn!(%error, "the replaced tokens could not be revoked");
    }
}
