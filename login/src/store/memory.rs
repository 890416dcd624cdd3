//! Credentials that are kept in this process only, one for each home directory.

use super::keyring::account;
use crate::credentials::StoredCredentials;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

static MEMORY: LazyLock<Mutex<HashMap<String, StoredCredentials>>> = LazyLock::new(Mutex::default);

pub(super) fn load(home: &Path) -> Option<StoredCredentials> {
    memory().get(&account(home)).cloned()
}

pub(super) fn save(home: &Path, credentials: StoredCredentials) {
    memory().insert(account(home), credentials);
}

pub(super) fn remove(home: &Path) -> bool {
    memory().remove(&account(home)).is_some()
}

fn memory() -> MutexGuard<'static, HashMap<String, StoredCredentials>> {
    MEMORY.lock()
}
