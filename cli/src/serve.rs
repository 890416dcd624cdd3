//! `codex exec-server`: listens, serves, and ends cleanly.

mod args;
mod configuration;
mod configured;
mod ending;
mod forward;
mod handed_over;
mod kept;
mod observing;
mod running;
mod stdio;

pub(crate) use args::ServeArgs;
pub(crate) use forward::{ForwardArgs, forward};

use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use codex_children::descriptor;
use codex_children::descriptor_limit;
use codex_children::orphans;
use codex_children::signals::{ChildEnds, ChildSignals};
use codex_children::supervision::{self, Goodbye, Wanted};
use codex_exec_server::environment::LocalConfig;
use codex_exec_server::environment::info::{self, MachineFacts};
use codex_exec_server::network::Upstream;
use codex_exec_server::observe::Observer;
use codex_exec_server::process::{
    Groups, LaunchContext, Leftovers, LoginStates, Survival, login_shell, passwd,
};
use codex_exec_server::sandbox::Confiner;
use codex_exec_server::transport::{Auth, AuthConfig, Bound, ListenAddress};
use codex_exec_server::withheld::inherited;
use codex_exec_server::{Limits, Logs};
use codex_outgoing::{Outgoing, Proxies};

use crate::codes::WRONG_USAGE;
use crate::event_loop::event_loop;
use crate::remote::{Plan, RemoteArgs};
use crate::setup::{Setup, SetupError, or_root, state_directory};
use crate::{output, sandbox};
use args::{LeftoversArg, WsAuth};
use kept::{Below, below_keeper, keep_endings};

/// Where to listen when nothing else is said.
const DEFAULT_LISTEN: &str = "ws://127.0.0.1:0";

/// The last of stdin, stdout and stderr.
const LAST_STREAM: RawFd = 2;

/// Runs the server until a signal, or until its one client on stdio is gone. Before there is a thread or an event loop: what
/// is refused is refused here, and then this process becomes two, the server and its keeper.
pub(crate) fn serve(
    args: ServeArgs,
    remote: RemoteArgs,
    setup: Setup,
    usage: fn(ErrorKind, &str) -> clap::Error,
) -> anyhow::Result<u8> {
    match remote.plan(args.listen.is_some(), |name| std::env::var(name).ok()) {
        Ok(None) => {}
        Ok(Some(plan)) => return serve_remote(plan, args, setup),
        Err(error) => {
            // Nothing can be done about a closed stderr.
            let _ = usage(error.kind, &error.text).print();
            return Ok(WRONG_USAGE);
        }
    }
    let settings = match setup.exec_server(args.decide_access()) {
        Ok(settings) => settings,
        Err(error @ SetupError::OverrideUnclear(_)) => {
            output::error(&error.to_string());
            return Ok(WRONG_USAGE);
        }
        Err(error) => return Err(error.into()),
    };
    let limits = configured::limits(&settings)?;
    let args = args.or(settings);
    let limits = args.bounded(limits)?;
    if args.own_session {
        // Whoever leads its group leads no other session; then it stays where it is.
        let _ = rustix::process::setsid();
    }
    let listen_on = args.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
    let kept = kept::handed_over()?;
    let (socket, address) = match (&kept, ListenAddress::parse(listen_on)?) {
        (Some(_), _) => handed_over::by_keeper().map(|(socket, address)| (Some(socket), address))?,
        (None, ListenAddress::Inherited) => {
            let (socket, address) = handed_over::socket()?;
            (Some(socket), address)
        }
        (None, address) => (None, address),
    };
    if let Some(contradiction) = contradiction(&args, listen_on, &address) {
        output::error(&contradiction);
        return Ok(WRONG_USAGE);
    }
    // Each server reads the secrets anew: none is kept where nobody needs it.
    drop(auth(&args)?);
    if matches!(address, ListenAddress::Stdio) {
        let children = keep_endings()?;
        return event_loop(running::serve_stdio(args, limits, setup, children));
    }
    if kept.is_none() {
        descriptor::close_inherited(socket.as_ref().map_or(LAST_STREAM, AsRawFd::as_raw_fd));
    }
    let bound = match socket {
        Some(socket) => Bound::inherit(socket)?,
        None => Bound::bind(&address)?,
    };
    if kept.is_some() {
        let below = Below::new(kept)?;
        return event_loop(running::listen(args, limits, setup, bound, below));
    }
    let (keeper, bound) = match below_keeper(!args.no_keeper, args.state_dir.as_deref(), bound)? {
        ControlFlow::Continue(kept) => kept,
        ControlFlow::Break(code) => return Ok(code),
    };
    let below = Below::new(keeper)?;
    event_loop(running::listen(args, limits, setup, bound, below))
}

/// Serves what a rendezvous sends, until a signal or a failure for good.
fn serve_remote(plan: Plan, args: ServeArgs, setup: Setup) -> anyhow::Result<u8> {
    let (home, settings) = setup.load()?;
    settings.warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
    let limits = configured::limits(&settings.exec_server)?;
    let args = args.or(settings.exec_server.clone());
    let limits = args.bounded(limits)?;
    if let Some(kept) = kept::handed_over()? {
        let below = Below::new(Some(kept))?;
        return event_loop(running::attach(plan, args, limits, home, settings, below));
    }
    descriptor::close_inherited(LAST_STREAM);
    // What stdin held is read once, so no other server could begin as this one does.
    let wanted = !args.no_keeper && !plan.takes_a_secret_from_stdin();
    let (keeper, ()) = match below_keeper(wanted, args.state_dir.as_deref(), ())? {
        ControlFlow::Continue(kept) => kept,
        ControlFlow::Break(code) => return Ok(code),
    };
    let below = Below::new(keeper)?;
    event_loop(running::attach(plan, args, limits, home, settings, below))
}

fn config(
    args: &ServeArgs,
    limits: Limits,
    groups: Groups,
    home: Option<PathBuf>,
    observer: &Observer,
) -> anyhow::Result<LocalConfig> {
    let account = passwd::account().unwrap_or_else(|error| {
        tracing::warn!(%error, "can't read the user's entry in the passwd database");
        None
    });
    let login = account.as_ref().map(|account| account.shell.as_os_str());
    let shells = login_shell::choose(login, std::env::var_os("PATH").as_deref());
    let confiner = args.sandbox.apply(args.mechanisms.confiner((&limits).into()));
    let unlimited = warn_of_limits(&confiner);
    let transparent = unlimited && confiner.may_have_network_devices();
    let host = LaunchContext {
        environment: inherited(std::env::vars_os()).collect(),
        login_shell: Some(shells.on_terminals),
        confiner: Some(Arc::new(confiner)),
        groups,
        transparent_tcp: args.linux_sandbox_transparent_tcp,
        login_states: LoginStates::default(),
        upstream: upstream(args),
        logs: logs(args, &limits),
        survival: Survival::default(),
        figures: observer.figures.clone(),
    };
    let facts = MachineFacts {
        shell: Some(shells.announced),
        cwd: or_root(std::env::current_dir()).context("can't tell the working directory")?,
        // A relative one names another place for every program.
        home: dirs::home_dir()
            .filter(|home| home.is_absolute())
            .or_else(|| account.map(|account| account.home)),
        temp_dir: Some(std::env::temp_dir()).map(|directory| match directory.as_os_str().is_empty() {
            true => "/tmp".into(),
            false => directory,
        }),
        temporary_directories: std::env::var_os("TMPDIR")
            .filter(|directory| !directory.is_empty())
            .map(PathBuf::from)
            .into_iter()
            .collect(),
        prepend_path_dirs: args.prepend_path_dirs.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let leftovers = match args.leftovers {
        None | Some(LeftoversArg::Keep) => Leftovers::Keep,
        Some(LeftoversArg::Kill) => Leftovers::Kill,
    };
    let user_home = facts.home.clone();
    let files = home.and_then(|home| configuration::Files::new(home, user_home));
    let configuration = files.map(|files| Arc::new(files) as _);
    let mut info = info::describe(facts);
    // Handles under a sandbox (10.10): where sandboxes of every kind are enforced.
    info.capabilities.sandboxed_file_streaming = unlimited;
    // Skills and plugins under one (12.2, 12.3).
    info.capabilities.capability_discovery_sandbox = unlimited;
    // Programs with a proxy, and under a sandbox with no way around it (13).
    info.capabilities.network_proxy_launch = unlimited;
    // Hosts that are asked about though a rule allows them.
    info.capabilities.network_proxy_review_domains = unlimited;
    // Where everything may be written, devices are devices, and what a rule takes away stays away, behind symlinks too (14.2).
    info.capabilities.linux_root_write_preserves_devices = unlimited;
    info.capabilities.linux_approved_root_write_preserves_restrictions = unlimited;
    // Connections that go through the proxy though the program knows of none (21.3).
    info.capabilities.network_proxy_transparent_tcp = transparent;
    Ok(LocalConfig { limits, host, info, leftovers, configuration })
}

/// Where output is kept on disk: where the configuration says, else in the user's directory for such things.
fn logs(args: &ServeArgs, limits: &Limits) -> Logs {
    state_directory(args.state_dir.as_deref())
        .map_or_else(Logs::default, |path| Logs::new(path, &limits.logs))
}

/// The proxies that those of programs go through.
fn upstream(args: &ServeArgs) -> Upstream {
    let tcp = args.tcp_upstream_proxy.as_ref().map(|proxy| {
        let proxies = Proxies { https: Some(format!("http://{proxy}")), ..Proxies::default() };
        Outgoing::new(None, proxies)
    });
    let environment = Outgoing::from_lookup(|name| std::env::var(name).ok());
    Upstream { environment, tcp, private: args.proxy_private_ips_via_upstream }
}

/// Says on stderr, once, what sandboxes can't do here, as far as a glance tells. True if there is nothing to say.
fn warn_of_limits(confiner: &Confiner) -> bool {
    let limits = confiner.glance();
    for limit in &limits {
        tracing::warn!("sandboxes are limited here: {}; `codex doctor` tells more", limit.reason);
        for command in &limit.commands {
            tracing::warn!("to paste: {command}");
        }
    }
    limits.is_empty()
}

/// Flags that do not go together. Half an authentication is told by [`auth`]: released servers exit with 1 for it (2.4).
fn contradiction(args: &ServeArgs, listen_on: &str, address: &ListenAddress) -> Option<String> {
    let token_flags = args.ws_token_file.is_some() || args.ws_token_sha256.is_some();
    match (address, args.ws_auth) {
        (ListenAddress::Stdio, Some(_)) => Some(
            "--ws-auth does not go with --listen stdio: there is one client, whoever started the server, and it has \
             no way to show a token; leave --ws-auth out"
                .into(),
        ),
        (address, None) if !address.is_loopback() => Some(format!(
            "{listen_on} can be reached from other machines, and whoever connects has a shell here; \
             add --ws-auth capability-token or signed-bearer-token, or --ws-auth none to allow everybody"
        )),
        (_, Some(WsAuth::SignedBearerToken)) if token_flags => Some(
            "--ws-token-file and --ws-token-sha256 do not go with --ws-auth signed-bearer-token; \
             it takes --ws-shared-secret-file"
                .into(),
        ),
        _ => None,
    }
}

fn auth(args: &ServeArgs) -> anyhow::Result<Auth> {
    let token_flags = args.ws_token_file.is_some() || args.ws_token_sha256.is_some();
    let jwt_flags = args.ws_shared_secret_file.is_some()
        || args.ws_issuer.is_some()
        || args.ws_audience.is_some()
        || args.ws_max_clock_skew_seconds.is_some();
    match args.ws_auth {
        None | Some(WsAuth::None) if token_flags || jwt_flags => {
            bail!("the other --ws-… flags need --ws-auth capability-token or --ws-auth signed-bearer-token")
        }
        None | Some(WsAuth::None) => Ok(Auth::open()),
        Some(WsAuth::CapabilityToken) if jwt_flags => {
            bail!(
                "--ws-shared-secret-file and the flags of signed tokens do not go with --ws-auth capability-token"
            )
        }
        Some(WsAuth::CapabilityToken) => match (&args.ws_token_file, &args.ws_token_sha256) {
            (Some(file), None) => Ok(Auth::new(AuthConfig::token_file(file)?)?),
            (None, Some(hash)) => Ok(Auth::new(AuthConfig::CapabilitySha256(hash.clone()))?),
            _ => {
                bail!("--ws-auth capability-token needs exactly one of --ws-token-file and --ws-token-sha256")
            }
        },
        Some(WsAuth::SignedBearerToken) => {
            let Some(file) = &args.ws_shared_secret_file else {
                bail!("--ws-auth signed-bearer-token needs --ws-shared-secret-file")
            };
            let config = AuthConfig::secret_file(
                file,
                args.ws_issuer.clone(),
                args.ws_audience.clone(),
                args.ws_max_clock_skew_seconds.map(Duration::from_secs),
            )?;
            Ok(Auth::new(config)?)
        }
    }
}

/// A running program takes three descriptors or four.
fn allow_many_descriptors() {
    if let Err(error) = descriptor_limit::raise() {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
}

/// Programs end when this process is killed, and their orphans are found and reaped.
fn supervision() -> Goodbye {
    supervision::want(Wanted { guard: Some(sandbox::LAUNCHER.into()), orphans: true })
}

/// Has the watch over programs begin on a thread of its own, now that nobody waits for the address any more. A program that
/// is to start sooner waits for that.
fn supervise_beside() {
    let thread = std::thread::Builder::new().name("supervision".into());
    if thread.spawn(supervise).is_err() {
        supervise();
    }
}

fn supervise() {
    let Some(established) = supervision::establish() else { return };
    if let Some(error) = established.no_guard() {
        tracing::warn!(%error, "programs will outlive this server if it is killed");
    }
    if let Some(error) = established.no_orphans() {
        tracing::warn!(%error, "can't take care of orphans");
    }
}

/// How often, at most, the list of adopted orphans is looked through. Our own pace: nothing outside depends on it.
const REAPING_PAUSE: Duration = Duration::from_millis(100);

/// Reaps orphans of ended programs, so that none stays a zombie.
fn reaping(children: ChildSignals, groups: &Groups) -> anyhow::Result<AbortOnDrop> {
    let children = children.listen().context("can't have the ends of programs reported")?;
    Ok(AbortOnDrop(tokio::spawn(reap_orphans(children, groups.clone()))))
}

async fn reap_orphans(mut children: ChildEnds, groups: Groups) {
    while children.next().await.is_ok() {
        match orphans::reap_adopted() {
            Ok(reaped) if reaped.is_empty() => {}
            // The last of a group may be among them.
            Ok(_) => groups.tidy(),
            Err(error) => tracing::warn!(%error, "can't reap orphans"),
        }
        tokio::time::sleep(REAPING_PAUSE).await;
    }
}

/// Ends a task with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
