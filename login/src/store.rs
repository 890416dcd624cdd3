//! Where credentials are kept: file, keyring, either, or this process' memory (login.md 3).
//!
//! All calls block; async code runs them on a thread for blocking work.

mod error;
mod file;
mod keyring;
mod locks;
mod memory;
mod refresh_lock;

pub use error::StoreError;
pub use locks::LockError;
pub(crate) use refresh_lock::RefreshLock;

use crate::credentials::StoredCredentials;
use codex_config::StoreMode;
use codex_secret::SignInKind;
use locks::Locks;
use std::path::{Path, PathBuf};

/// What became of a guarded change.
#[derive(Debug)]
pub(crate) enum Change {
    /// The store held what was expected, and now holds the changed credentials.
    Saved(StoredCredentials),
    /// Somebody else was there first: this is what the store holds.
    Kept(Option<StoredCredentials>),
}

/// The place where credentials are kept.
#[derive(Debug, Clone)]
pub struct Store {
    home: PathBuf,
    mode: StoreMode,
}

impl Store {
    /// The store of a home directory. Does no I/O.
    pub fn new(home: &Path, mode: StoreMode) -> Self {
        Self { home: home.to_owned(), mode }
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Where credentials are kept.
    pub fn mode(&self) -> StoreMode {
        self.mode
    }

    /// Loads the credentials, if there are any. Takes no lock: a file is replaced whole.
    pub fn load(&self) -> Result<Option<StoredCredentials>, StoreError> {
        match self.mode {
            StoreMode::File => file::load(&self.home),
            StoreMode::Keyring => keyring::load(&self.home),
            StoreMode::Auto => match keyring::load(&self.home) {
                Ok(Some(credentials)) => Ok(Some(credentials)),
                Ok(None) => file::load(&self.home),
                Err(error) => {
                    tracing::debug!(%error, "the keyring can't be used; reading the file");
                    file::load(&self.home)
                }
            },
            StoreMode::Ephemeral => Ok(self.load_memory()),
        }
    }

    /// Loads what this process keeps in memory for this home directory.
    pub fn load_memory(&self) -> Option<StoredCredentials> {
        memory::load(&self.home)
    }

    /// Saves credentials in the place of those that are there. Tokens that an embedding program hands in are kept in
    /// memory whatever the mode.
    pub fn save(&self, credentials: &StoredCredentials) -> Result<(), StoreError> {
        if self.keeps_in_memory(credentials) {
            memory::save(&self.home, credentials.clone());
            return Ok(());
        }
        let _locks = Locks::take(&self.home)?;
        self.save_locked(credentials)
    }

    /// Tries whether credentials could be saved, before something is done for them that counts only once. A home
    /// directory that is missing will be made, and a keyring that answers is believed.
    ///
    /// # Errors
    /// The file could not be written, or the keyring does not answer.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        if self.mode == StoreMode::Ephemeral || !self.home.is_dir() {
            return Ok(());
        }
        let _locks = Locks::take(&self.home)?;
        match (self.mode, keyring_answer(&self.home, self.mode)) {
            (StoreMode::Keyring, Some(Err(error @ StoreError::LoadKeyring(_)))) => Err(error),
            (StoreMode::Keyring, _) | (StoreMode::Auto, Some(Ok(Some(_)))) => Ok(()),
            _ => file::check_writable(&self.home),
        }
    }

    /// Changes the credentials if they are still those `expected`, by their secrets. The locks are held from the look to
    /// the save, so that no other process' sign-in is overwritten (login.md 7.3).
    pub(crate) fn change<E: From<StoreError>>(
        &self,
        expected: &StoredCredentials,
        change: impl FnOnce(&StoredCredentials) -> Result<StoredCredentials, E>,
    ) -> Result<Change, E> {
        let in_memory = self.keeps_in_memory(expected);
        let _locks = if in_memory { None } else { Some(Locks::take(&self.home).map_err(StoreError::from)?) };
        let stored = if in_memory { self.load_memory() } else { self.load()? };
        match stored {
            Some(stored) if stored.same_secrets(expected) => {
                let changed = change(&stored)?;
                if in_memory {
                    memory::save(&self.home, changed.clone());
                } else {
                    self.save_locked(&changed)?;
                }
                Ok(Change::Saved(changed))
            }
            stored => Ok(Change::Kept(stored)),
        }
    }

    /// Removes the credentials, those in memory too. True if there were any. What can't be understood is removed as
    /// well.
    pub fn remove(&self) -> Result<bool, StoreError> {
        let remembered = memory::remove(&self.home);
        if self.mode == StoreMode::Ephemeral {
            return Ok(remembered);
        }
        let _locks = if self.home.is_dir() { Some(Locks::take(&self.home)?) } else { None };
        let stored = match self.mode {
            StoreMode::File | StoreMode::Ephemeral => false,
            StoreMode::Keyring | StoreMode::Auto => keyring::remove(&self.home)?,
        };
        let filed = file::remove(&self.home)?;
        Ok(remembered || stored || filed)
    }

    pub(crate) fn keeps_in_memory(&self, credentials: &StoredCredentials) -> bool {
        self.mode == StoreMode::Ephemeral || credentials.kind() == SignInKind::ChatgptAuthTokens
    }

    fn save_locked(&self, credentials: &StoredCredentials) -> Result<(), StoreError> {
        match self.mode {
            StoreMode::Ephemeral => {
                memory::save(&self.home, credentials.clone());
                Ok(())
            }
            StoreMode::File => file::save(&self.home, credentials),
            StoreMode::Keyring => {
                keyring::save(&self.home, credentials)?;
                self.remove_stray_file();
                Ok(())
            }
            StoreMode::Auto => match keyring::save(&self.home, credentials) {
                Ok(()) => {
                    self.remove_stray_file();
                    Ok(())
                }
                Err(error) => {
                    tracing::debug!(%error, "the keyring can't be used; writing the file");
                    file::save(&self.home, credentials)
                }
            },
        }
    }

    /// The entry is saved and counts; a file that stays would only mislead programs set to `file`.
    fn remove_stray_file(&self) {
        if let Err(error) = file::remove(&self.home) {
            tracing::warn!(%error, "the credentials are in the keyring now, but the old file stays");
        }
    }
}

/// What a keyring says, where one is asked at all.
fn keyring_answer(home: &Path, mode: StoreMode) -> Option<Result<Option<StoredCredentials>, StoreError>> {
    matches!(mode, StoreMode::Keyring | StoreMode::Auto).then(|| keyring::load(home))
}
