//! One environment: the three capabilities of one machine, wherever it is.

use std::sync::Arc;

use super::remote::Remote;
use super::traits::{Files, Http, Processes};
use crate::client::Client;

/// The capabilities of one machine.
#[derive(Clone)]
pub struct Environment {
    /// Runs programs.
    pub processes: Arc<dyn Processes>,
    /// Reads and changes files.
    pub files: Arc<dyn Files>,
    /// Makes HTTP requests.
    pub http: Arc<dyn Http>,
}

impl Environment {
    /// The machine behind a client.
    pub fn remote(client: Client) -> Self {
        let remote = Arc::new(Remote(client));
        Self { processes: Arc::clone(&remote) as _, files: Arc::clone(&remote) as _, http: remote }
    }
}
