//! What is counted, under the names that released programs export, in OpenMetrics' text format. No label names a session, a
//! program, a path or a host.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use codex_exec_protocol::ErrorCode;
use codex_observe::figures::openmetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::record::Outcome;

/// Upper bounds of the times of requests and of attempts to attach, in seconds.
const SHORT_TIMES: [f64; 14] =
    [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Upper bounds of the times of programs, in seconds.
const LONG_TIMES: [f64; 14] =
    [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// What methods count as that no server has: clients must not make labels.
const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabel {
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

type Times<L> = Family<L, Histogram, fn() -> Histogram>;
type Count<L> = Family<L, Counter<u64, AtomicU64>>;

/// Something that is tried again and again, with its count and its times by result.
#[derive(Debug)]
struct Attempts {
    count: Count<ResultLabel>,
    times: Times<ResultLabel>,
}

/// What an executor tries in order to be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// A registration.
    Registration,
    /// A websocket to the rendezvous.
    Rendezvous,
}

/// Why an executor attaches again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reconnect {
    /// The websocket was lost.
    Disconnected,
    /// The rendezvous knows the registration no more.
    RegistrationRejected,
}

/// What `/metrics` shows.
#[derive(Debug)]
pub struct Figures {
    registry: Registry,
    active_connections: Family<TransportLabel, Gauge<i64, AtomicI64>>,
    connections: Count<TransportLabel>,
    requests: Count<RequestLabels>,
    request_times: Times<RequestLabels>,
    active_processes: Gauge<i64, AtomicI64>,
    processes: Attempts,
    registrations: Attempts,
    rendezvous: Attempts,
    reconnects: Count<ReasonLabel>,
}

/// A program that runs. Dropping it counts it as one whose end is unknown.
#[derive(Debug)]
pub(crate) struct RunningProgram {
    figures: Arc<Figures>,
    since: Instant,
    result: &'static str,
}

impl Attempts {
    fn new(buckets: fn() -> Histogram) -> Self {
        Self { count: Family::default(), times: Family::new_with_constructor(buckets) }
    }

    fn register(&self, registry: &mut Registry, names: [&str; 2], helps: [&str; 2]) {
        registry.register(names[0], helps[0], self.count.clone());
        registry.register_with_unit(names[1], helps[1], Unit::Seconds, self.times.clone());
    }

    fn observe(&self, result: &'static str, time: Duration) {
        let label = ResultLabel { result };
        self.count.get_or_create(&label).inc();
        self.times.get_or_create(&label).observe(time.as_secs_f64());
    }
}

impl Figures {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("exec_server");
        let [short, long]: [fn() -> Histogram; 2] =
            [|| Histogram::new(SHORT_TIMES), || Histogram::new(LONG_TIMES)];
        let active_connections = Family::<TransportLabel, Gauge<i64, AtomicI64>>::default();
        let (connections, requests, reconnects) = (Family::default(), Family::default(), Family::default());
        let request_times = Family::new_with_constructor(short);
        let active_processes = Gauge::default();
        registry.register("connections_active", "Connections that are open", active_connections.clone());
        let connections: Count<TransportLabel> = connections;
        registry.register("connections", "Connections that were let in", connections.clone());
        let requests: Count<RequestLabels> = requests;
        registry.register("requests", "Requests that are over", requests.clone());
        let request_times: Times<RequestLabels> = request_times;
        let help = "From the arrival of a request to its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, request_times.clone());
        registry.register("processes_active", "Programs that run", active_processes.clone());
        let processes = Attempts::new(long);
        let helps = ["Programs that are over", "From a program's start to its end"];
        processes.register(&mut registry, ["processes_finished", "process_duration"], helps);
        let registrations = Attempts::new(short);
        let helps = ["Registrations that were tried", "How long a registration took"];
        registrations.register(&mut registry, ["remote_registration", "remote_registration_duration"], helps);
        let rendezvous = Attempts::new(short);
        let names = ["remote_rendezvous_connect", "remote_rendezvous_connect_duration"];
        let helps = ["Connections to the rendezvous that were tried", "How long a connection to it took"];
        rendezvous.register(&mut registry, names, helps);
        let reconnects: Count<ReasonLabel> = reconnects;
        registry.register(
            "remote_reconnects",
            "Times that this executor had to attach again",
            reconnects.clone(),
        );
        // Shown before anything has come that way.
        for transport in ["relay", "stdio", "websocket"] {
            drop(active_connections.get_or_create(&TransportLabel { transport }));
        }
        Self {
            registry,
            active_connections,
            connections,
            requests,
            request_times,
            active_processes,
            processes,
            registrations,
            rendezvous,
            reconnects,
        }
    }

    /// The figures in OpenMetrics' text format.
    #[must_use]
    pub fn encode(&self) -> String {
        openmetrics(&self.registry)
    }

    pub(super) fn connected(&self, transport: &'static str) {
        let label = TransportLabel { transport };
        self.connections.get_or_create(&label).inc();
        self.active_connections.get_or_create(&label).inc();
    }

    pub(super) fn disconnected(&self, transport: &'static str) {
        self.active_connections.get_or_create(&TransportLabel { transport }).dec();
    }

    pub(super) fn request(&self, method: &str, outcome: Outcome, time: Duration) {
        let known = outcome != Outcome::Failed(ErrorCode::METHOD_NOT_FOUND);
        let method = if known { method } else { UNKNOWN }.to_owned();
        let labels = RequestLabels { method, result: outcome.word() };
        self.requests.get_or_create(&labels).inc();
        self.request_times.get_or_create(&labels).observe(time.as_secs_f64());
    }

    /// A program has started.
    pub(crate) fn started(self: &Arc<Self>) -> RunningProgram {
        self.active_processes.inc();
        RunningProgram { figures: Arc::clone(self), since: Instant::now(), result: UNKNOWN }
    }

    /// An executor tried to be attached.
    pub(crate) fn tried(&self, attempt: Attempt, succeeded: bool, time: Duration) {
        let attempts = match attempt {
            Attempt::Registration => &self.registrations,
            Attempt::Rendezvous => &self.rendezvous,
        };
        attempts.observe(if succeeded { "success" } else { "error" }, time);
    }

    /// An executor has to attach again.
    pub(crate) fn reconnect(&self, why: Reconnect) {
        let reason = match why {
            Reconnect::Disconnected => "disconnected",
            Reconnect::RegistrationRejected => "registration_rejected",
        };
        self.reconnects.get_or_create(&ReasonLabel { reason }).inc();
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self::new()
    }
}

impl RunningProgram {
    /// The program has ended: with this code, and by a signal or not.
    pub(crate) fn ended(mut self, code: i32, killed: bool) {
        self.result = match (killed, code) {
            (true, _) => "terminated",
            (false, 0) => "success",
            (false, _) => "error",
        };
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        self.figures.active_processes.dec();
        self.figures.processes.observe(self.result, self.since.elapsed());
    }
}
