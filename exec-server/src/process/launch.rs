//! Launches what is planned: spawns the program, and watches it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codex_children::descriptor::register;
use codex_children::spawn::{Child, SpawnError};
use codex_children::streams::Ends;
use codex_children::{reap, tree};
use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{StartParams, Stream};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::output::Output;
use super::plan::{LaunchContext, Plan};
use super::process::{KeptAs, Process, millis};
use super::pump::{self, Watched};
use super::stdin::Stdin;
use super::stored;
use super::survival::record::ProcessRecord;
use super::survival::{self, Safe};
use crate::Limits;
use crate::blocking;
use crate::network::{SessionNetwork, proxy};
use crate::observe::Figures;

/// Starts the program and the task that watches it; `closed` is told when that is over.
///
/// # Errors
/// `-32603` with the operating system's text, `-32600` for a sandbox that can't be enforced.
pub(super) fn launch(
    process: &Arc<Process>,
    mut params: StartParams,
    context: &LaunchContext,
    limits: &Arc<Limits>,
    network: &SessionNetwork,
    kept_as: Option<KeptAs<'_>>,
    closed: impl FnOnce() + Send + 'static,
) -> Result<AbortHandle, RpcError> {
    let disk_log = stored::begin(&context.logs, &params)?;
    let discard = |error| {
        if let Some(disk_log) = &disk_log {
            disk_log.discard();
        }
        error
    };
    let plan = Plan::new(&mut params, context, &limits.process).map_err(discard)?;
    let (Child { pid, pidfd, ends, origin }, handed) = plan.spawn().map_err(discard)?;
    if let Some(disk_log) = &disk_log {
        process.keep(Arc::clone(disk_log));
    }
    let since = Instant::now();
    let proxied = plan.has_proxy();
    let (open_gateways, kept) = plan.into_kept(handed, limits);
    let bounded =
        |ms: Option<u64>| ms.map(|ms| Duration::from_millis(ms).min(limits.connection.longest_wait));
    let (timeout, idle_timeout) = (bounded(params.timeout_ms), bounded(params.idle_timeout_ms));
    // Before anybody hears of the program.
    let safe = kept_as.and_then(|kept_as| {
        let about = ProcessRecord {
            proxied,
            leaves_names: kept.leaves_names,
            enforced: kept.enforced,
            real_terminal: params.real_terminal,
            takes_input: params.tty || params.pipe_stdin,
            timeout: timeout.map(|timeout| survival::boot_ms().saturating_add(millis(timeout))),
            idle_timeout_ms: idle_timeout.map(millis),
            ..process.record_of(kept_as)
        };
        Safe::begin(&context.survival, about, (pid, origin), &ends, &limits.process)
    });
    process.keep_safe(safe.clone());
    let watch = || -> io::Result<_> {
        let (gateways, stack) = open_gateways()?;
        let handle = if gateways.listening.is_empty() {
            None
        } else {
            Some(proxy::open(gateways.listening, gateways.datagrams, stack, network, limits, origin)?)
        };
        process.keep_network(handle);
        Ok((
            register(pidfd, Interest::READABLE)?,
            Streams::register(ends, params.real_terminal, limits, safe.as_ref())?,
        ))
    };
    let (exit, streams) = match watch() {
        Ok(watched) => watched,
        Err(error) => {
            let _ = tree::kill_tree(pid, Signal::KILL);
            blocking::spawn(move || reap::wait_for_killed(pid)).detach();
            return Err(discard(RpcError::internal(
                SpawnError::system("watch the program", error).to_string(),
            )));
        }
    };
    process.set_running(pid, since, streams.stdin, streams.terminal, kept);
    let watched = Watched {
        pid,
        origin,
        exit,
        outputs: streams.outputs,
        timeout,
        idle_timeout,
        chunk_bytes: limits.process.output_chunk_bytes,
        reaped: false,
        staged: Bytes::new(),
        safe,
    };
    Ok(watch_until_closed(process, watched, context.figures.as_ref(), closed))
}

/// Watches a program, counts it, and tells `closed` when that is over.
pub(super) fn watch_until_closed(
    process: &Arc<Process>,
    watched: Watched,
    figures: Option<&Arc<Figures>>,
    closed: impl FnOnce() + Send + 'static,
) -> AbortHandle {
    let pumping = pump::run(Arc::clone(process), watched);
    let (running, ended) = (figures.map(Figures::started), Arc::clone(process));
    let watching = tokio::spawn(async move {
        pumping.await;
        if let Some(running) = running
            && let Some(end) = ended.lock().log.exit()
        {
            running.ended(end.code, end.details.signal.is_some());
        }
        closed();
    });
    watching.abort_handle()
}

/// Our ends of a program's streams, in the event loop.
pub(super) struct Streams {
    pub(super) outputs: Vec<Output>,
    pub(super) stdin: Option<Arc<Stdin>>,
    pub(super) terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

impl Streams {
    /// # Errors
    /// When the event loop can't take them.
    pub(super) fn register(
        ends: Ends,
        real_terminal: bool,
        limits: &Limits,
        safe: Option<&Arc<Safe>>,
    ) -> io::Result<Self> {
        let (bytes, writes) = (limits.process.queued_write_bytes, limits.process.queued_writes);
        let stdin = |fd| Stdin::new(fd, bytes, writes, safe.cloned());
        Ok(match ends {
            Ends::Terminal { master } => {
                let outputs = vec![Output::terminal(master.try_clone()?, real_terminal)?];
                let master = Arc::new(register(master, Interest::WRITABLE)?);
                Self { outputs, stdin: Some(stdin(Arc::clone(&master))), terminal: Some(master) }
            }
            Ends::Pipes { stdin: input, stdout, stderr } => {
                let outputs =
                    vec![Output::new(stdout, Stream::Stdout)?, Output::new(stderr, Stream::Stderr)?];
                let input = input.map(|fd| register(fd, Interest::WRITABLE)).transpose()?;
                Self { outputs, stdin: input.map(|fd| stdin(Arc::new(fd))), terminal: None }
            }
        })
    }
}
