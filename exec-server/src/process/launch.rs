//! Turns a start request into a running program.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{StartParams, Stream};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::child_env::child_environment;
use super::pump::{self, Output, Watched};
use super::record::Process;
use super::spawn::{self, Child, Ends, Pid, Program, Stdio};
use super::stdin::Stdin;
use super::tree::{self, ProcessStamp};
use crate::Limits;

/// What programs are started from: facts of this machine that the binary has found.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The server's own environment, for `envPolicy`.
    pub environment: Vec<(OsString, OsString)>,
    /// The user's shell from the passwd database, for a terminal's `SHELL`.
    pub login_shell: Option<OsString>,
    /// This server is a child subreaper: orphans of its programs become its children.
    pub adopts_orphans: bool,
}

impl Host {
    /// What outlived the program that was just reaped.
    pub(super) fn leftovers_of(&self, root: Pid) -> Vec<ProcessStamp> {
        tree::leftovers_of(root, self.adopts_orphans)
    }
}

/// Refuses what this server can't enforce (rule 6 of the design).
///
/// # Errors
/// `-32600` with what was asked.
pub(super) fn refuse_unenforced(params: &StartParams) -> Result<(), RpcError> {
    if params.sandbox.as_ref().is_some_and(|sandbox| sandbox.needs_enforcement_for_programs()) {
        return Err(RpcError::invalid_request(
            "this server can't enforce a sandbox yet, so it does not start the program; \
             send permissions of type \"disabled\" to run it without one",
        ));
    }
    if params.network_proxy.is_some() {
        return Err(RpcError::invalid_request(
            "this server has no filtering network proxy; start the program without networkProxy",
        ));
    }
    Ok(())
}

/// Starts the program and the task that watches it.
///
/// # Errors
/// `-32603` with the operating system's text; the record is then failed.
pub(super) fn launch(
    process: &Arc<Process>,
    params: StartParams,
    host: &Arc<Host>,
    limits: &Limits,
) -> Result<AbortHandle, RpcError> {
    let started = start(process, params, host, limits);
    if started.is_err() {
        process.set_failed();
    }
    started
}

fn start(process: &Arc<Process>, params: StartParams, host: &Arc<Host>, limits: &Limits) -> Result<AbortHandle, RpcError> {
    let tty = params.tty;
    let program = Program {
        env: child_environment(
            &host.environment,
            params.env_policy.as_ref(),
            &params.env,
            tty,
            host.login_shell.as_deref(),
        ),
        argv: params.argv.into_iter().map(OsString::from).collect(),
        arg0: params.arg0.map(OsString::from),
        cwd: params.cwd.0,
        stdio: if tty {
            Stdio::Terminal { rows: params.rows.unwrap_or(24), cols: params.cols.unwrap_or(80) }
        } else {
            Stdio::Pipes { stdin: params.pipe_stdin }
        },
    };
    let Child { pid, pidfd, ends } = spawn::spawn(&program).map_err(|error| RpcError::internal(error.to_string()))?;
    let since = Instant::now();
    let watch = || -> std::io::Result<_> {
        let exit = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        let output = |fd, stream| Output { fd, stream, full_reads: 0 };
        let stdin = |fd| Stdin::new(fd, limits.queued_write_bytes, limits.queued_writes);
        Ok(match ends {
            Ends::Terminal { master } => {
                let master = Arc::new(AsyncFd::new(master)?);
                let outputs = [Some(output(Arc::clone(&master), Stream::Pty)), None];
                (exit, outputs, Some(stdin(Arc::clone(&master))), Some(master))
            }
            Ends::Pipes { stdin: input, stdout, stderr } => {
                let pipe = |fd| AsyncFd::with_interest(fd, Interest::READABLE).map(Arc::new);
                let outputs = [Some(output(pipe(stdout)?, Stream::Stdout)), Some(output(pipe(stderr)?, Stream::Stderr))];
                let input = input.map(|fd| AsyncFd::with_interest(fd, Interest::WRITABLE)).transpose()?;
                (exit, outputs, input.map(|fd| stdin(Arc::new(fd))), None)
            }
        })
    };
    let (exit, outputs, stdin, terminal) = match watch() {
        Ok(watched) => watched,
        Err(error) => {
            tree::kill_tree(pid, libc::SIGKILL);
            let _ = super::reap::wait(pid);
            return Err(RpcError::internal(format!("can't watch the program: {error}")));
        }
    };
    process.set_running(pid, since, stdin, terminal);
    let bounded = |ms: Option<u64>| ms.map(|ms| Duration::from_millis(ms).min(limits.longest_wait));
    let watched = Watched {
        pid,
        exit,
        outputs,
        timeout: bounded(params.timeout_ms),
        idle_timeout: bounded(params.idle_timeout_ms),
        chunk_bytes: limits.output_chunk_bytes,
    };
    Ok(tokio::spawn(pump::run(Arc::clone(process), watched, Arc::clone(host))).abort_handle())
}
