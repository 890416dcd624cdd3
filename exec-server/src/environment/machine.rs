//! This machine, lent to one party: the work of every method, with its order, the memory of its answers and its waits.
//! A connection holds a [`Machine`], and a [`Local`](super::Local) environment is one.
//!
//! Requests are begun in the order of the calls. Those that may take long go on beside the others, and answer when they
//! are done; none of them is waited for by the caller.

mod discovery;
mod files;
mod followed;
mod http;
mod logs;
mod neighbours;
mod programs;
mod reply;
mod start;
mod tcp;

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::configuration::Configuration;
use crate::Limits;
use crate::budget::Budget;
use crate::filesystem::{FileOrder, Handles, MissingWatch};
use crate::http::LocalHttp;
use crate::logs::Logs;
use crate::process::{LaunchContext, Leftovers, ProcessTable, Survival};
use crate::protocol::environment::EnvironmentInfo;
use crate::sandbox::files::FileHelpers;
use crate::tcp::Streams;

pub(crate) use followed::Followed;
pub(crate) use http::OpenBody;
pub(crate) use neighbours::{Alone, Neighbour, Neighbours};
pub(crate) use programs::Reading;
pub(crate) use reply::Reply;

/// What this machine is lent with. The binary finds these facts; the library reads no environment.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The bounds that every method keeps to.
    pub limits: Limits,
    /// What programs are started from.
    pub host: LaunchContext,
    /// What this machine is.
    pub info: EnvironmentInfo,
    /// What happens to descendants that outlive their program when the session or environment ends.
    pub leftovers: Leftovers,
    /// What reads this machine's configuration for clients; without it they can't ask (12.1).
    pub configuration: Option<Arc<dyn Configuration>>,
}

/// What all parties share that this machine is lent to.
pub(crate) struct Common {
    pub(crate) limits: Arc<Limits>,
    pub(crate) info: EnvironmentInfo,
    host: Arc<LaunchContext>,
    leftovers: Leftovers,
    http: LocalHttp,
    configuration: Option<Arc<dyn Configuration>>,
}

impl Common {
    /// Does no I/O.
    pub(crate) fn new(config: LocalConfig) -> Arc<Self> {
        let LocalConfig { limits, host, mut info, leftovers, configuration } = config;
        info.capabilities.environment_config_read = configuration.is_some();
        info.capabilities.capability_discovery_v2 = configuration.is_some();
        info.capabilities.disk_logs = host.logs.are_kept();
        let host = Arc::new(host);
        let variables = Arc::clone(&host);
        let variable = move |name: &str| {
            variables.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let http = LocalHttp::new(&limits, variable);
        Arc::new(Self { limits: Arc::new(limits), info, host, leftovers, http, configuration })
    }

    /// Where output is kept on disk, if it is.
    pub(crate) fn logs(&self) -> &Logs {
        &self.host.logs
    }

    /// Where what is to outlive this server is kept.
    pub(crate) fn survival(&self) -> &Survival {
        &self.host.survival
    }

    /// The programs of a new session: none yet.
    pub(crate) fn processes(&self) -> Arc<ProcessTable> {
        Arc::new(ProcessTable::new(Arc::clone(&self.host), Arc::clone(&self.limits), self.leftovers))
    }
}

/// The methods, for one party. Its programs may outlive it, everything else ends with it.
pub(crate) struct Machine {
    common: Arc<Common>,
    processes: Arc<ProcessTable>,
    /// Caps the slow requests that run, or whose answers were not taken, at once.
    slots: Arc<Semaphore>,
    /// Memory of answers that hold files or directories.
    answers: Budget,
    /// Memory of answers that hold HTTP bodies. Apart, since a body may come for as long as its peer likes.
    bodies: Budget,
    /// Requests that may wait, such as a long poll; they end with the machine.
    tasks: Mutex<JoinSet<()>>,
    handles: Handles,
    order: Arc<FileOrder>,
    /// Does file operations under sandboxes.
    confined: FileHelpers,
    watch: MissingWatch,
    /// Ids of running HTTP streams.
    streams: Mutex<HashSet<String>>,
    /// Connections and listeners of `tcp/*`.
    tcp: Streams,
    /// Whose programs may be named beside one's own.
    neighbours: Box<dyn Neighbours>,
}

impl Machine {
    /// `fired` is told of each `fs/watchMissing` that ends by a change, and must not block. Does no I/O.
    pub(crate) fn new(
        common: &Arc<Common>,
        processes: Arc<ProcessTable>,
        fired: impl Fn(u64) + Send + Sync + 'static,
        neighbours: Box<dyn Neighbours>,
    ) -> Arc<Self> {
        let limits = &common.limits;
        Arc::new(Self {
            processes,
            slots: Arc::new(Semaphore::new(
                limits.connection.concurrent_requests.clamp(1, Semaphore::MAX_PERMITS),
            )),
            answers: Budget::new(limits.connection.answer_bytes),
            bodies: Budget::new(limits.connection.answer_bytes),
            tasks: Mutex::default(),
            handles: Handles::new(limits),
            order: Arc::default(),
            confined: FileHelpers::new(common.host.confiner.clone(), limits),
            watch: MissingWatch::new(limits, Box::new(fired)),
            streams: Mutex::default(),
            tcp: Streams::new(limits),
            neighbours,
            common: Arc::clone(common),
        })
    }

    /// The programs that it runs.
    pub(crate) fn processes(&self) -> &Arc<ProcessTable> {
        &self.processes
    }

    /// Gives up the slow requests that are under way, and the streams.
    pub(crate) fn stop(&self) {
        self.tasks.lock().abort_all();
        self.tcp.close_all();
    }

    /// Runs a slow request, or what follows its answer, beside the others.
    pub(crate) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    fn limits(&self) -> &Limits {
        &self.common.limits
    }
}
