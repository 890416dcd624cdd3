//! What a server has above it, if anything.

use std::sync::Arc;

use super::nursery::Nursery;
use super::store::Store;

/// Where this server keeps what is to outlive it; by default nowhere. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Survival(pub(super) Option<Arc<Shared>>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) nursery: Nursery,
}

impl Survival {
    /// Keeps things in a store. Does no I/O.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(Some(Arc::new(Shared { store, nursery: Nursery::default() })))
    }

    /// The store, if there is one.
    pub(crate) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.0.as_ref().map(|shared| &shared.store)
    }
}
