//! Credentials in the system's keyring: one entry for each home directory (login.md 3.2, 3.3).

use super::error::StoreError;
use crate::credentials::StoredCredentials;
use keyring::Entry;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use zeroize::Zeroizing;

const SERVICE: &str = "Codex Auth";
const ACCOUNT_PREFIX: &str = "cli|";
/// How much of the hash of the home directory stands in the account: 16 digits. Fixed by the wire.
const ACCOUNT_HASH_BYTES: usize = 8;
/// The longest wait for the keyring. It may be asking its user for a password. A safeguard, far from any real use.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The most entries of one account that are removed: one with the attributes of now, and those of older libraries.
/// A safeguard, far from any real use.
const MAX_ENTRIES: usize = 8;

/// The account of a home directory, the same by whatever way the directory is named.
pub(super) fn account(home: &Path) -> String {
    let canonical = home.canonicalize();
    let path = canonical.as_deref().unwrap_or(home);
    let hash = Sha256::digest(path.to_string_lossy().as_bytes());
    format!("{ACCOUNT_PREFIX}{}", hex::encode(&hash[..ACCOUNT_HASH_BYTES]))
}

pub(super) fn load(home: &Path) -> Result<Option<StoredCredentials>, StoreError> {
    let secret = with_entry(home, |entry| match entry.get_secret() {
        Ok(secret) => Ok(Some(Zeroizing::new(secret))),
        Err(keyring::Error::NoEntry) => Ok(None),
        Err(error) => Err(error),
    });
    match secret.map_err(StoreError::LoadKeyring)? {
        None => Ok(None),
        Some(secret) => StoredCredentials::from_json(&secret).map(Some).map_err(StoreError::BadKeyring),
    }
}

pub(super) fn save(home: &Path, credentials: &StoredCredentials) -> Result<(), StoreError> {
    let json = credentials.to_compact_json().map_err(StoreError::Serialize)?;
    with_entry(home, move |entry| entry.set_secret(&json)).map_err(StoreError::SaveKeyring)
}

pub(super) fn remove(home: &Path) -> Result<bool, StoreError> {
    let removed = with_entry(home, |entry| {
        // An entry of an older library is found only once the one of now is gone; it must not come to life then.
        for removed in 0..MAX_ENTRIES {
            match entry.delete_credential() {
                Ok(()) => {}
                Err(keyring::Error::NoEntry) => return Ok(removed > 0),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    });
    removed.map_err(StoreError::RemoveKeyring)
}

/// Runs `work` on a plain thread: the library waits in a way that a thread of an async runtime can't.
fn with_entry<T: Send + 'static>(
    home: &Path,
    work: impl FnOnce(Entry) -> Result<T, keyring::Error> + Send + 'static,
) -> Result<T, String> {
    let account = account(home);
    let (sender, receiver) = mpsc::sync_channel(1);
    let run = move || {
        let result = Entry::new(SERVICE, &account).and_then(work);
        // Nobody listens any more when the wait has timed out.
        let _ = sender.send(result.map_err(|error| cause(&error)));
    };
    std::thread::Builder::new()
        .name("keyring".to_owned())
        .spawn(run)
        .map_err(|error| format!("can't start a thread: {error}"))?;
    match receiver.recv_timeout(ANSWER_TIMEOUT) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(format!("the keyring did not answer within {} s", ANSWER_TIMEOUT.as_secs()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("the keyring's library failed".to_owned()),
    }
}

/// The library's words, without those of its errors that show the value.
fn cause(error: &keyring::Error) -> String {
    match error {
        keyring::Error::BadEncoding(_) => "the entry is not UTF-8".to_owned(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
