//! Turns a start request into a running program.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_protocol::RpcError;
use codex_exec_protocol::process::{StartParams, Stream};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::task::AbortHandle;

use super::child_env::child_environment;
use super::groups::{Bounded, Group, Groups};
use super::network;
use super::output::Output;
use super::pump::{self, Watched};
use super::record::{Kept, Process};
use super::stdin::Stdin;
use crate::Limits;
use crate::blocking;
use crate::network::{Network, proxy, variables};
use crate::sandbox::{self, Confined, ConfinedProgram, Confiner};
use codex_children::descriptor::register;
use codex_children::spawn::{Child, Program, spawn};
use codex_children::streams::{Ends, Stdio};
use codex_children::{reap, tree};

/// What programs are started from: facts of this machine that the binary has found.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The server's own environment, for `envPolicy`.
    pub environment: Vec<(OsString, OsString)>,
    /// The user's shell from the passwd database, for a terminal's `SHELL`.
    pub login_shell: Option<OsString>,
    /// What enforces sandboxes; without one they are refused.
    pub confiner: Option<Arc<Confiner>>,
    /// Where limits of whole trees of processes may be kept; by default nowhere, and resource limits have to do.
    pub groups: Groups,
}

/// Refuses what this server can't enforce (ARCHITECTURE.md, invariant 13), as far as the request alone tells.
///
/// # Errors
/// `-32600` with what was asked.
pub(super) fn refuse_unenforced(params: &StartParams, host: &Host) -> Result<(), RpcError> {
    let confined = params.sandbox.as_ref().is_some_and(|asked| network::needs_enforcement(asked, params));
    if confined && host.confiner.is_none() {
        return Err(no_confiner());
    }
    if params.limits.is_some() && host.confiner.is_none() {
        return Err(RpcError::invalid_request(
            "this server can't bound what a program uses; start the program without limits",
        ));
    }
    let plan = network::Plan::new(params)?;
    if confined && params.enforce_managed_network {
        plan.enforced(sandbox::Network::Closed)?;
    }
    Ok(())
}

fn no_confiner() -> RpcError {
    RpcError::invalid_request(
        "this server can't enforce a sandbox, so it does not start the program; \
         send permissions of type \"disabled\" to run it without one",
    )
}

/// Whether the request has a sandbox, in whatever form (14.4).
pub(super) fn has_sandbox(params: &StartParams) -> bool {
    params.sandbox.is_some() || !matches!(sandbox::unwrap(&params.argv), Ok(None))
}

/// Prepares the request's sandbox, if there is something to enforce. An older client's wrapper (15.3) is taken off, and
/// what it would have enforced is the sandbox.
fn confine(
    params: &mut StartParams,
    plan: &network::Plan,
    host: &Host,
) -> Result<Option<(PathBuf, Confined)>, RpcError> {
    let mut asked = params.sandbox.take();
    if let Some(unwrapped) = sandbox::unwrap(&params.argv)? {
        if asked.is_some() {
            return Err(RpcError::invalid_request(
                "the program has a sandbox and is itself a sandbox's wrapper; send one of the two",
            ));
        }
        asked = Some(unwrapped.sandbox);
        params.argv = unwrapped.argv;
        params.arg0 = None;
        if let Some(cwd) = unwrapped.cwd {
            params.cwd.0 = cwd;
        }
    }
    let Some(asked) = asked.filter(|asked| network::needs_enforcement(asked, params)) else {
        return Ok(None);
    };
    let confiner = host.confiner.as_ref().ok_or_else(no_confiner)?;
    let mut policy = confiner.policy(&asked).map_err(RpcError::from)?;
    policy.network = plan.enforced(policy.network)?;
    if policy.allows_everything() {
        return Ok(None);
    }
    let confined = confiner.confine(&policy).map_err(RpcError::from)?;
    Ok(Some((confiner.launcher().to_owned(), confined)))
}

/// Starts the program and the task that watches it.
///
/// # Errors
/// `-32603` with the operating system's text, `-32600` for a sandbox that can't be enforced.
pub(super) fn launch(
    process: &Arc<Process>,
    mut params: StartParams,
    host: &Host,
    limits: &Arc<Limits>,
    network: &Network,
) -> Result<AbortHandle, RpcError> {
    let plan = network::Plan::new(&params)?;
    let mut confined = confine(&mut params, &plan, host)?;
    let opened = plan.open(confined.as_ref().is_some_and(|(_, confined)| confined.has_own_network()))?;
    let (handed, handover) = opened.handover(confined.as_mut().map(|(_, confined)| confined))?;
    if let (None, Some(_), Some(confiner)) = (&confined, params.limits, &host.confiner) {
        confined = Some((confiner.launcher().to_owned(), Confiner::unconfined()));
    }
    let Bounded { group, rest, enforced } =
        params.limits.map(|limits| host.groups.bound(limits)).unwrap_or_default();
    let tty = params.tty;
    let mut env = child_environment(
        &host.environment,
        params.env_policy.as_ref(),
        &params.env,
        tty,
        host.login_shell.as_deref(),
    );
    if let Some(port) = opened.proxy_port() {
        let (socks, local) = plan.socks_and_local();
        variables::point_at(&mut env, port, socks, local);
    }
    let program = Program {
        env,
        argv: params.argv.into_iter().map(OsString::from).collect(),
        arg0: params.arg0.map(OsString::from),
        cwd: params.cwd.0,
        stdio: if tty {
            Stdio::Terminal { rows: params.rows.unwrap_or(24), cols: params.cols.unwrap_or(80) }
        } else {
            Stdio::Pipes { stdin: params.pipe_stdin }
        },
    };
    let entrance = group.as_ref().map(Group::entrance);
    let child = match &confined {
        None => spawn(&program).map_err(|error| RpcError::internal(error.to_string())),
        Some((launcher, confined)) => {
            let handover = handover.as_deref().map(AsFd::as_fd);
            let group = entrance.as_deref();
            let program =
                ConfinedProgram { program: &program, launcher, confined, handover, limits: &rest, group };
            program.spawn().map_err(|error| RpcError::internal(error.to_string()))
        }
    };
    let Child { pid, pidfd, ends, origin } = child?;
    let since = Instant::now();
    let watch = || -> std::io::Result<_> {
        let doors = opened.doors(handed)?;
        let lease = if doors.is_empty() { None } else { Some(proxy::open(doors, network, limits, origin)?) };
        process.keep_network(lease);
        let exit = register(pidfd, Interest::READABLE)?;
        let stdin = |fd| Stdin::new(fd, limits.queued_write_bytes, limits.queued_writes);
        Ok(match ends {
            Ends::Terminal { master } => {
                let master = Arc::new(register(master, Interest::READABLE | Interest::WRITABLE)?);
                let outputs = vec![Output::terminal(Arc::clone(&master))];
                (exit, outputs, Some(stdin(Arc::clone(&master))), Some(master))
            }
            Ends::Pipes { stdin: input, stdout, stderr } => {
                let outputs =
                    vec![Output::pipe(stdout, Stream::Stdout)?, Output::pipe(stderr, Stream::Stderr)?];
                let input = input.map(|fd| register(fd, Interest::WRITABLE)).transpose()?;
                (exit, outputs, input.map(|fd| stdin(Arc::new(fd))), None)
            }
        })
    };
    let (exit, outputs, stdin, terminal) = match watch() {
        Ok(watched) => watched,
        Err(error) => {
            let _ = tree::kill_tree(pid, Signal::KILL);
            blocking::spawn(move || reap::wait_for_killed(pid)).detach();
            return Err(RpcError::internal(format!("can't watch the program: {error}")));
        }
    };
    let kept = Kept { confined: confined.map(|(_, confined)| Arc::new(confined)), group, enforced };
    process.set_running(pid, since, stdin, terminal, kept);
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
