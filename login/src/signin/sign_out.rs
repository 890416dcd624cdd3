//! Signs out: revokes what is stored, then removes it (login.md 8.7, 10).

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
