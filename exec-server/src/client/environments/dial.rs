//! The way to an environment: where to connect to, how, and whether it rests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::dial::Endpoint;
use crate::client::options::{ClientOptions, Rest};

/// Where to connect to and how, once for each connection; else why not, as a sentence.
type Make = Box<dyn Fn() -> Result<(Endpoint, ClientOptions), String> + Send + Sync>;

/// The way to an environment.
pub struct Dial {
    make: Make,
    /// Somebody outside lets it rest.
    marked: Rest,
    paused: Arc<AtomicBool>,
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dial").field("rests", &self.rests()).finish_non_exhaustive()
    }
}

impl Dial {
    /// `make` says where to connect to and how, once for each connection, or why it can't be said.
    pub fn new(make: impl Fn() -> Result<(Endpoint, ClientOptions), String> + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), marked: Rest::default(), paused: Arc::default() }
    }

    /// The address that `endpoint` makes.
    pub fn to(endpoint: impl Fn() -> Endpoint + Send + Sync + 'static, options: ClientOptions) -> Self {
        Self::new(move || Ok((endpoint(), options.clone())))
    }

    /// It also rests while `marked` says so, as a mark that another program can set.
    #[must_use]
    pub fn resting_while(self, marked: Rest) -> Self {
        Self { marked, ..self }
    }

    pub(super) fn rests(&self) -> bool {
        self.paused.load(Ordering::Relaxed) || self.marked.now()
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// The way for one connection, which comes back after a loss only while the environment does not rest.
    pub(super) fn make(&self) -> Result<(Endpoint, ClientOptions), String> {
        let (endpoint, mut options) = (self.make)()?;
        let (paused, marked, asked) = (Arc::clone(&self.paused), self.marked.clone(), options.rest);
        options.rest = Rest::new(move || paused.load(Ordering::Relaxed) || marked.now() || asked.now());
        Ok((endpoint, options))
    }
}
