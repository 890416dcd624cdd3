//! The server that is examined, and how it is reached.

use std::time::Duration;

use codex_exec_server::client::{ClientOptions, Endpoint};

/// The server that is examined.
pub struct Subject {
    /// Makes the way to it, once for each connection.
    pub endpoint: Box<dyn Fn() -> Endpoint + Send + Sync>,
    /// How it is connected to.
    pub options: ClientOptions,
    /// Its `ws://HOST:PORT`, where what it answers to plain HTTP can be asked.
    pub http: Option<String>,
    /// A session outlives its connection: not over pipes.
    pub resumes: bool,
    /// For each answer. Our own pace: nothing outside depends on it.
    pub patience: Duration,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("http", &self.http)
            .field("resumes", &self.resumes)
            .finish_non_exhaustive()
    }
}
