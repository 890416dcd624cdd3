//! A lock of our own, held while an issuer is asked, so that processes of one home directory ask once between them.
//!
//! Released programs don't take it and are not held up by it; the guarded save covers them (login.md 7.3).

use super::Store;
use super::locks::{self, LockError, POLL};
use codex_config::StoreMode;
use std::fs::File;
use std::time::Duration;
use tokio::time::Instant;

const NAME: &str = "auth.refresh.lock";
/// The longest wait: one whole request and its save. Then we ask without it.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Held until dropped. The file stays.
#[derive(Debug)]
pub(crate) struct RefreshLock {
    _file: Option<File>,
}

impl RefreshLock {
    /// Waits for the lock. Memory needs none. When the lock file can't be made, new tokens could not be saved either,
    /// and the old refresh token would be lost: that is an error.
    pub(crate) async fn take(store: &Store) -> Result<Self, LockError> {
        if store.mode() == StoreMode::Ephemeral {
            return Ok(Self { _file: None });
        }
        let path = store.home().join(NAME);
        let file = locks::open(&path)?;
        let start = Instant::now();
        while !locks::try_lock(&file, &path)? {
            if start.elapsed() >= TIMEOUT {
                tracing::warn!(
                    ?path,
                    "another process refreshes the sign-in for too long; refreshing beside it"
                );
                return Ok(Self { _file: None });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(Self { _file: Some(file) })
    }
}
