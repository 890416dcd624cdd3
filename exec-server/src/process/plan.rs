//! Plans a start: what a request comes to on this machine, with everything that it needs opened.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use codex_children::spawn::{Child, Program, SpawnError, spawn_passing};
use codex_children::streams::Stdio;
use codex_children::terminal;
use codex_exec_protocol::process::{LimitsEnforced, LogPlace, ProgramLimits, StartParams};
use codex_exec_protocol::sandbox::{Sandbox, WindowsSandboxLevel};
use codex_exec_protocol::{RpcError, StartFailure};
use codex_tcp_stack::Bounds;

use super::child_env::{add_metadata, child_environment};
use super::groups::{Bounded, Group, Groups};
use super::login_state::{LoginStates, Place};
use super::network_plan::{Gateways, NO_DEVICE, NetworkPlan, Opened, needs_enforcement};
use super::process::Kept;
use super::survival::Survival;
use crate::Limits;
use crate::limits::ProcessLimits;
use crate::logs::Logs;
use crate::network::transparent::Stack;
use crate::network::{Upstream, variables};
use crate::observe::Figures;
use crate::sandbox::{self, Confined, ConfinedProgram, Confiner, PolicyError, StartError, stack};

/// What programs are started from: facts of this machine that the binary has found.
#[derive(Debug, Clone, Default)]
pub struct LaunchContext {
    /// The server's own environment, for `envPolicy`.
    pub environment: Vec<(OsString, OsString)>,
    /// The user's shell from the passwd database, for a terminal's `SHELL`.
    pub login_shell: Option<OsString>,
    /// What enforces sandboxes; without one they are refused.
    pub confiner: Option<Arc<Confiner>>,
    /// Where limits of whole trees of processes may be kept; by default nowhere, and resource limits have to do.
    pub groups: Groups,
    /// Has connections go through the program's proxy without its doing wherever a network is enforced.
    pub transparent_tcp: bool,
    /// What is remembered of login shells.
    pub login_states: LoginStates,
    /// What the proxies of programs go through.
    pub upstream: Upstream,
    /// Where output is kept on disk for who asks; by default nowhere.
    pub logs: Logs,
    /// Where what is to outlive the server is kept; by default nowhere.
    pub survival: Survival,
    /// Where programs are counted, if anywhere.
    pub figures: Option<Arc<Figures>>,
}

/// Refuses what this server can't enforce (ARCHITECTURE.md, invariant 13), as far as the request alone tells.
///
/// # Errors
/// `-32600` with what was asked.
pub(super) fn refuse_unenforced(params: &StartParams, context: &LaunchContext) -> Result<(), RpcError> {
    if params.sandbox.as_ref().is_some_and(is_of_windows) {
        return Err(RpcError::invalid_params("native MXC is unavailable on this executor")
            .of_start(StartFailure::SandboxUnavailable));
    }
    let confined = params.sandbox.as_ref().is_some_and(|asked| needs_enforcement(asked, params));
    if confined && context.confiner.is_none() {
        return Err(no_confiner());
    }
    if params.limits.is_some() && context.confiner.is_none() {
        return Err(RpcError::invalid_request(
            "this server can't bound what a program uses; start the program without limits",
        ));
    }
    if params.log == LogPlace::Disk && !context.logs.are_kept() {
        return Err(RpcError::invalid_request(
            "this server keeps no logs on disk, since it knows no place for them (exec_server.state_dir); \
             start the program with \"log\":\"memory\"",
        ));
    }
    let plan = NetworkPlan::new(params, context.transparent_tcp, &context.upstream)?;
    if confined && params.enforce_managed_network {
        plan.enforced(sandbox::NetworkRight::Closed)?;
    }
    Ok(())
}

/// Whether the client asks for a mechanism that only Windows has (21.9).
fn is_of_windows(asked: &Sandbox) -> bool {
    asked.windows_sandbox_level == WindowsSandboxLevel::Mxc
}

fn no_confiner() -> RpcError {
    let refusal = RpcError::invalid_request(
        "this server can't enforce a sandbox, so it does not start the program; \
         send permissions of type \"disabled\" to run it without one",
    );
    refusal.of_start(StartFailure::SandboxUnavailable)
}

/// A sandbox that can't be made (21.1).
fn unprepared(error: PolicyError) -> RpcError {
    let RpcError { code, message, .. } = error.into();
    RpcError::new(code, format!("failed to prepare process sandbox: {message}"))
        .of_start(StartFailure::SandboxPreparation)
}

/// A program that can't be started (21.1).
fn not_spawned(error: &SpawnError) -> RpcError {
    let failure = match error.errno() {
        Some(libc::ENOENT) => StartFailure::SpawnNotFound,
        Some(libc::EACCES) => StartFailure::SpawnPermissionDenied,
        _ => StartFailure::SpawnFailed,
    };
    RpcError::internal(error.to_string()).of_start(failure)
}

/// Whether the request has a sandbox, in whatever form (14.4).
pub(super) fn has_sandbox(params: &StartParams) -> bool {
    params.sandbox.is_some() || !matches!(sandbox::unwrap(&params.argv), Ok(None))
}

/// Prepares the request's sandbox, if there is something to enforce. An older client's wrapper (15.3) is taken off, and
/// what it would have enforced is the sandbox.
fn confine(
    params: &mut StartParams,
    plan: &NetworkPlan,
    context: &LaunchContext,
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
    let Some(asked) = asked.filter(|asked| needs_enforcement(asked, params)) else {
        return Ok(None);
    };
    let confiner = context.confiner.as_ref().ok_or_else(no_confiner)?;
    if plan.transparent
        && let Err(why) = confiner.network_devices()
    {
        return Err(RpcError::invalid_params(format!(
            "{NO_DEVICE} (this server takes /dev/net/tun instead, but: {why})"
        )));
    }
    let mut policy = confiner.policy(&asked).map_err(unprepared)?;
    policy.network = plan.enforced(policy.network)?;
    if policy.allows_everything() {
        return Ok(None);
    }
    let confined = confiner
        .confine(&policy)
        .map_err(|refusal| RpcError::from(refusal).of_start(StartFailure::SandboxUnavailable))?;
    Ok(Some((confiner.launcher().to_owned(), confined)))
}

/// How much a program may have at once of what comes out of its network device.
pub(super) fn stack_bounds(limits: &Limits) -> Bounds {
    let network = &limits.network;
    Bounds { connections: network.network_connections, names: network.network_names }
}

/// The gateways of a program's network, and what its device leads to.
type Led = (Gateways, Option<Stack>);

/// A program that can be started, and what was opened for it.
pub(super) struct Plan {
    program: Program,
    /// The launcher, and what it confines itself to.
    confined: Option<(PathBuf, Confined)>,
    /// What resource limits are to keep.
    limits: ProgramLimits,
    network: Opened,
    /// What bounds it together with its descendants.
    group: Option<Group>,
    /// How its limits are kept.
    enforced: Option<LimitsEnforced>,
    /// The state of a login shell that it reads instead of logging in.
    login_state: Option<Arc<OwnedFd>>,
}

impl Plan {
    /// Plans the start that is asked for, and confines it. What the request has of the program is moved.
    ///
    /// # Errors
    /// `-32600` for a sandbox that can't be enforced, `-32603` when the system is out of something.
    pub(super) fn new(
        params: &mut StartParams,
        context: &LaunchContext,
        limits_of_states: &ProcessLimits,
    ) -> Result<Self, RpcError> {
        let asked = NetworkPlan::new(params, context.transparent_tcp, &context.upstream)?;
        let mut confined = confine(params, &asked, context)?;
        let network =
            asked.open(confined.as_ref().is_some_and(|(_, confined)| confined.has_own_network()))?;
        network.listen_in(confined.as_mut().map(|(_, confined)| confined));
        if let (None, Some(_), Some(confiner)) = (&confined, params.limits, &context.confiner) {
            confined = Some((confiner.launcher().to_owned(), Confiner::unconfined()));
        }
        let Bounded { group, rest: limits, enforced } =
            params.limits.map(|limits| context.groups.bound(limits)).unwrap_or_default();
        let mut env = child_environment(
            &context.environment,
            params.env_policy.as_ref(),
            &params.env,
            params.tty,
            context.login_shell.as_deref(),
        );
        let login_state = Place::of(confined.as_ref())
            .and_then(|place| context.login_states.apply(params, &env, place, limits_of_states));
        if let Some(metadata) = &params.metadata {
            add_metadata(&mut env, metadata);
        }
        if let Some(port) = network.proxy_port() {
            let (socks, local) = asked.socks_and_local();
            variables::point_at(&mut env, port, socks, local);
        }
        let program = program(params, env);
        Ok(Self { program, confined, limits, network, group, enforced, login_state })
    }

    /// Spawns the program, through its launcher if it is confined. With it come the listeners of a network of its own.
    ///
    /// # Errors
    /// `-32603` with the operating system's text.
    pub(super) fn spawn(&self) -> Result<(Child, Vec<OwnedFd>), RpcError> {
        let state = self.login_state.as_ref().map(|state| state.as_fd());
        let Some((launcher, confined)) = &self.confined else {
            let child =
                spawn_passing(&self.program, state.as_slice()).map_err(|error| not_spawned(&error))?;
            return Ok((child, Vec::new()));
        };
        let entrance = self.group.as_ref().map(Group::entrance);
        let program = ConfinedProgram {
            program: &self.program,
            launcher,
            confined,
            limits: &self.limits,
            group: entrance.as_deref(),
            passed: state,
        };
        program.spawn().map_err(|error| match error {
            StartError::Spawn(error) => not_spawned(&error),
            other => RpcError::internal(other.to_string()).of_start(StartFailure::SandboxPreparation),
        })
    }

    /// Whether its network is a proxy of ours, which ends with this server.
    pub(super) fn has_proxy(&self) -> bool {
        self.network.proxy_port().is_some()
    }

    /// What is still needed once the program runs: the gateways of its network, to be opened now, and what stays as long as it
    /// does.
    pub(super) fn into_kept(
        self,
        handed: Vec<OwnedFd>,
        limits: &Limits,
    ) -> (impl FnOnce() -> io::Result<Led>, Kept) {
        let Self { confined, network, group, enforced, .. } = self;
        let by = confined
            .as_ref()
            .and_then(|(launcher, confined)| Some((launcher.clone(), confined.for_stack()?)));
        let leaves_names = confined.as_ref().is_some_and(|(_, confined)| confined.leaves_names_unprotected());
        let confined = confined.map(|(_, confined)| Arc::new(confined));
        let bounds = stack_bounds(limits);
        let open = move || {
            let mut gateways = network.gateways(handed)?;
            let stack = match gateways.device.take().zip(by) {
                Some((given, (launcher, walls))) => {
                    let (link, process) = stack::start(&launcher, walls, &given, bounds)?;
                    Some(Stack { link, process })
                }
                None => None,
            };
            Ok((gateways, stack))
        };
        (open, Kept { confined, leaves_names, group, enforced })
    }
}

fn program(params: &mut StartParams, env: Vec<(OsString, OsString)>) -> Program {
    Program {
        env,
        argv: std::mem::take(&mut params.argv).into_iter().map(OsString::from).collect(),
        arg0: params.arg0.take().map(OsString::from),
        cwd: std::mem::take(&mut params.cwd.0),
        stdio: if params.tty {
            Stdio::Terminal {
                rows: params.rows.unwrap_or(terminal::DEFAULT_ROWS),
                cols: params.cols.unwrap_or(terminal::DEFAULT_COLS),
            }
        } else {
            Stdio::Pipes { stdin: params.pipe_stdin }
        },
    }
}
