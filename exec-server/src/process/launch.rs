//! Turns a start request into a running program.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{StartParams, Stream};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::task::AbortHandle;

use super::child_env::child_environment;
use super::pump::{self, Output, Watched};
use super::record::Process;
use super::spawn::{self, Child, Ends, Program, Stdio};
use super::stdin::Stdin;
use super::tree;
use crate::Limits;
use crate::descriptor::register;

/// What programs are started from: facts of this machine that the binary has found.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The server's own environment, for `envPolicy`.
    pub environment: Vec<(OsString, OsString)>,
    /// The user's shell from the passwd database, for a terminal's `SHELL`.
    pub login_shell: Option<OsString>,
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
/// `-32603` with the operating system's text.
pub(super) fn launch(
    process: &Arc<Process>,
    params: StartParams,
    host: &Host,
    limits: &Limits,
) -> Result<AbortHandle, RpcError> {
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
    let Child { pid, pidfd, ends, origin } =
        spawn::spawn(&program).map_err(|error| RpcError::internal(error.to_string()))?;
    let since = Instant::now();
    let watch = || -> std::io::Result<_> {
        let exit = register(pidfd, Interest::READABLE)?;
        let output = |fd, stream| Output { fd, stream, full_reads: 0 };
        let stdin = |fd| Stdin::new(fd, limits.queued_write_bytes, limits.queued_writes);
        Ok(match ends {
            Ends::Terminal { master } => {
                let master = Arc::new(register(master, Interest::READABLE | Interest::WRITABLE)?);
                let outputs = [Some(output(Arc::clone(&master), Stream::Pty)), None];
                (exit, outputs, Some(stdin(Arc::clone(&master))), Some(master))
            }
            Ends::Pipes { stdin: input, stdout, stderr } => {
                let pipe = |fd| register(fd, Interest::READABLE).map(Arc::new);
                let outputs = [
                    Some(output(pipe(stdout)?, Stream::Stdout)),
                    Some(output(pipe(stderr)?, Stream::Stderr)),
                ];
                let input = input.map(|fd| register(fd, Interest::WRITABLE)).transpose()?;
                (exit, outputs, input.map(|fd| stdin(Arc::new(fd))), None)
            }
        })
    };
    let (exit, outputs, stdin, terminal) = match watch() {
        Ok(watched) => watched,
        Err(error) => {
            let _ = tree::kill_tree(pid, Signal::KILL);
            tokio::task::spawn_blocking(move || super::reap::wait_for_killed(pid));
            return Err(RpcError::internal(format!("can't watch the program: {error}")));
        }
    };
    process.set_running(pid, since, stdin, terminal);
    let bounded = |ms: Option<u64>| ms.map(|ms| Duration::from_millis(ms).min(limits.longest_wait));
    let watched = Watched {
        pid,
        origin,
        exit,
        outputs,
        timeout: bounded(params.timeout_ms),
        idle_timeout: bounded(params.idle_timeout_ms),
        chunk_bytes: limits.output_chunk_bytes,
    };
    Ok(tokio::spawn(pump::run(Arc::clone(process), watched)).abort_handle())
}
