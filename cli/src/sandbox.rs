//! `codex sandbox`: tries a policy by hand, and says which rule decides.

mod relay;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use codex_children::signals::{self, EndRequest, EndSignals};
use codex_children::spawn::{ForegroundChild, Program, SpawnError, spawn_here};
use codex_children::streams::Stdio;
use codex_children::supervision::{self, Established, Wanted};
use codex_children::{groups, tree};
use codex_exec_protocol::path::LocalPath;
use codex_exec_protocol::process::ProgramLimits;
use codex_exec_protocol::sandbox::{
    Access, Entry, EntryPath, FileSystem, Network, Permissions, Profile, Sandbox,
};
use codex_exec_server::process::ForegroundNetwork;
use codex_exec_server::sandbox::{
    Confined, ConfinedProgram, Confiner, NamespaceUse, NetworkRight, PidNamespace, Policy, PolicyBounds,
    StartError, Surroundings, Without, WithoutNamespaces,
};
use codex_exec_server::withheld::inherited;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::codes::{NOT_EXECUTABLE, NOT_FOUND, WRONG_USAGE};
use crate::output;
use relay::Relays;

/// This very binary, even if its file was replaced since.
pub(crate) const LAUNCHER: &str = "/proc/self/exe";

/// What a profile's words mean for this user.
fn surroundings(bounds: PolicyBounds) -> Surroundings {
    let tmpdir = std::env::var_os("TMPDIR").map(PathBuf::from);
    Surroundings { tmpdir: tmpdir.filter(|path| path.is_absolute()), bounds }
}

/// Which mechanisms sandboxes may use; but for process numbers for tests, which see what holds a promise then. No client can
/// say it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct MechanismArgs {
    /// Which namespaces sandboxes may use; for tests.
    #[arg(long, value_name = "WHICH", hide = true)]
    sandbox_namespaces: Option<NamespacesArg>,
    /// Mechanisms to do without, with commas: landlock, landlock=N, network-namespace, pid-namespace, seccomp; for tests.
    #[arg(long, value_name = "MECHANISMS", default_value = "", hide = true)]
    sandbox_without: Without,
    /// Whose process numbers sandboxed programs have [default: isolate].
    #[arg(long, value_name = "WHICH")]
    linux_sandbox_pid_namespace: Option<PidNamespaceArg>,
}

/// What is enforced less than a profile says, because this machine's owner says so.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SandboxFlags {
    /// What is done where the system allows no namespaces, as in containers, and a profile lets a workspace be written
    /// [default: refuse].
    #[arg(long, value_name = "WHAT")]
    without_namespaces: Option<WithoutNamespacesArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PidNamespaceArg {
    /// Their own: they see no other process.
    Isolate,
    /// The server's: they see all processes, and signal and trace only their own. Takes Landlock 6 (Linux 6.12).
    Inherit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WithoutNamespacesArg {
    /// The profile is refused.
    Refuse,
    /// It is enforced, but `.git`, `.codex` and `.agents` of the workspace are not protected.
    UnprotectedNames,
}

impl SandboxFlags {
    /// Fills from the configuration what no flag says.
    pub(crate) fn fill(&mut self, settings: &codex_config::SandboxConfig) {
        use codex_config::WithoutNamespaces as Setting;
        let configured = settings.without_namespaces.map(|setting| match setting {
            Setting::Refuse => WithoutNamespacesArg::Refuse,
            Setting::UnprotectedNames => WithoutNamespacesArg::UnprotectedNames,
        });
        self.without_namespaces = self.without_namespaces.or(configured);
    }

    /// Tells it to what prepares confinements.
    pub(crate) fn apply(&self, confiner: Confiner) -> Confiner {
        confiner.without_namespaces(match self.without_namespaces {
            None | Some(WithoutNamespacesArg::Refuse) => WithoutNamespaces::Refuse,
            Some(WithoutNamespacesArg::UnprotectedNames) => WithoutNamespaces::UnprotectedNames,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NamespacesArg {
    /// Whatever works.
    Any,
    /// Only those that an ordinary user could have.
    User,
    /// None.
    Off,
}

impl MechanismArgs {
    /// What prepares confinements with these.
    pub(crate) fn confiner(&self, bounds: PolicyBounds) -> Confiner {
        let namespaces = match self.sandbox_namespaces {
            None | Some(NamespacesArg::Any) => NamespaceUse::Any,
            Some(NamespacesArg::User) => NamespaceUse::UserOnly,
            Some(NamespacesArg::Off) => NamespaceUse::Off,
        };
        let numbers = match self.linux_sandbox_pid_namespace {
            None | Some(PidNamespaceArg::Isolate) => PidNamespace::Isolate,
            Some(PidNamespaceArg::Inherit) => PidNamespace::Inherit,
        };
        let confiner = Confiner::new(LAUNCHER.into(), surroundings(bounds), namespaces);
        confiner.without(self.sandbox_without).process_numbers(numbers)
    }
}

/// The flags of `codex sandbox`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex sandbox -- touch here                        # is refused: nothing may be written
  codex sandbox --profile workspace-write -- make
  codex sandbox --transparent-tcp --allow-host crates.io -- cargo fetch
  codex sandbox --deny ~/.ssh --explain ~/.ssh/id_ed25519")]
pub(crate) struct SandboxArgs {
    /// What is allowed: read-only, workspace-write, or a file with a permission profile as JSON.
    #[arg(long, value_name = "PROFILE", default_value = "read-only")]
    profile: String,
    /// The working directory, which is also the workspace [default: the current one].
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Another file or directory that may be written. May be given several times.
    #[arg(long, value_name = "PATH")]
    writable: Vec<PathBuf>,
    /// A file or directory that can be neither read nor written; to root, who needs no permission, it looks empty.
    /// May be given several times.
    #[arg(long, value_name = "PATH")]
    deny: Vec<PathBuf>,
    /// Allow network connections.
    #[arg(long)]
    network: bool,
    /// Let TCP connections out through a filter, by name and whatever the program knows of proxies: to public hosts that
    /// --allow-host names, or to all of them. This machine and its network stay closed.
    #[arg(long, conflicts_with = "network")]
    transparent_tcp: bool,
    /// With --transparent-tcp, a host that may be reached, such as crates.io or **.github.com. May be given several times.
    #[arg(long, value_name = "HOST", requires = "transparent_tcp")]
    allow_host: Vec<String>,
    /// Say what may be done at this path, and which rule decides, instead of running a program. May be given several times.
    #[arg(long, value_name = "PATH")]
    explain: Vec<PathBuf>,
    #[command(flatten)]
    sandbox: SandboxFlags,
    #[command(flatten)]
    mechanisms: MechanismArgs,
    /// The program and its arguments.
    #[arg(last = true, value_name = "PROGRAM", required_unless_present = "explain")]
    program: Vec<OsString>,
}

/// Runs the program, or explains. The exit code is the program's, 128 + its signal if one killed it, 127 or 126 if it was
/// not found or can't be run.
pub(crate) fn run(args: SandboxArgs) -> anyhow::Result<u8> {
    let absolute = |path: &Path| match path.is_absolute() {
        true => Ok(path.to_owned()),
        false => std::env::current_dir()
            .map(|here| here.join(path))
            .context("can't tell the working directory; give --cwd and absolute paths"),
    };
    let cwd = absolute(args.cwd.as_deref().unwrap_or(Path::new("")))?;
    let cwd = std::fs::canonicalize(&cwd).with_context(|| format!("can't use {} as --cwd", cwd.display()))?;
    let confiner = args.sandbox.apply(args.mechanisms.confiner(PolicyBounds::default()));
    let Some(permissions) = permissions(&args)? else { return Ok(WRONG_USAGE) };
    let mut policy = confiner.policy(&sandbox(&args, permissions, &cwd)?)?;
    for path in &args.explain {
        output::line(&policy.explain(&absolute(path)?)?.to_string())
            .context("can't print the explanation")?;
    }
    if args.program.is_empty() {
        return Ok(0);
    }
    let transparent = args.transparent_tcp;
    if transparent {
        if let Err(why) = confiner.network_devices() {
            bail!("--transparent-tcp takes /dev/net/tun and a network namespace, but: {why}");
        }
        policy.network = NetworkRight::Filtered;
    }
    let end_signals = signals::catch_end_requests().context("can't listen for signals")?;
    // Ends the program if this process is killed.
    let _goodbye = supervision::want(Wanted { guard: Some(LAUNCHER.into()), orphans: false });
    if let Some(error) = supervision::establish().and_then(Established::no_guard) {
        output::note(&format!("warning: the program will outlive this command if it is killed: {error}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hosts = transparent.then_some(args.allow_host);
    let running = match start(&confiner, &policy, args.program, cwd, hosts) {
        Ok(running) => running,
        Err(error) => return not_started(error),
    };
    let status = wait(running, end_signals, &confiner, &runtime)?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The exit code of a program that was not there to be run, as a shell gives it.
fn not_started(error: anyhow::Error) -> anyhow::Result<u8> {
    let spawn = match error.downcast_ref() {
        Some(StartError::Spawn(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    let code = match spawn {
        Some(SpawnError::NotFound { .. }) => NOT_FOUND,
        Some(SpawnError::NotExecutable { .. }) => NOT_EXECUTABLE,
        // It was there a moment ago.
        Some(SpawnError::Cwd { .. }) => {
            bail!(
                "{error}; the profile may not let it be read: ask with --explain, or give --cwd another one"
            )
        }
        _ => return Err(error),
    };
    output::error(&output::sentence(&error));
    Ok(code)
}

/// A running program, with what its sandbox needs on the disk.
struct Running {
    program: ForegroundChild,
    /// Its network, if it has a filtered one, with what its launcher made.
    network: Option<(ForegroundNetwork, Vec<OwnedFd>)>,
    relays: relay::Running,
    confined: Option<Confined>,
}

/// Starts the program; with `hosts` it has a network of its own that leads to those.
fn start(
    confiner: &Confiner,
    policy: &Policy,
    argv: Vec<OsString>,
    cwd: PathBuf,
    hosts: Option<Vec<String>>,
) -> anyhow::Result<Running> {
    let mut confined = if policy.allows_everything() { None } else { Some(confiner.confine(policy)?) };
    if confined.as_ref().is_some_and(Confined::leaves_names_unprotected) {
        output::note(
            "warning: there are no namespaces, so .git, .codex and .agents of the workspace are not protected",
        );
    }
    let mut env = inherited(std::env::vars_os()).collect();
    let network = match (hosts, &mut confined) {
        (Some(hosts), Some(confined)) => {
            let hosts = if hosts.is_empty() { vec!["*".to_owned()] } else { hosts };
            let network = ForegroundNetwork::new(&hosts, confined, &mut env);
            Some(network.map_err(|error| anyhow!(error.message)).context("--allow-host")?)
        }
        _ => None,
    };
    let program = Program { argv, arg0: None, cwd, env, stdio: Stdio::Pipes { stdin: false } };
    let mut relays = Relays::of(policy).context("can't look at stdout and stderr")?;
    let (started, handed) = match &confined {
        None => (spawn_here(&program)?, Vec::new()),
        Some(confined) => {
            let (launcher, limits) = (confiner.launcher(), &ProgramLimits::default());
            let program = &program;
            ConfinedProgram { program, launcher, confined, limits, group: None, passed: None }
                .spawn_here(std::mem::take(&mut relays.outputs))?
        }
    };
    let relays = relays.start().context("can't carry the program's output to its file")?;
    Ok(Running { program: started, network: network.map(|network| (network, handed)), relays, confined })
}

/// Waits for the end, and hands on what asks for it.
fn wait(
    Running { program, network, relays, confined }: Running,
    end_signals: EndSignals,
    confiner: &Confiner,
    runtime: &Runtime,
) -> anyhow::Result<ExitStatus> {
    let origin = program.origin;
    let status = runtime.block_on(async {
        let open = |(network, handed): (ForegroundNetwork, _)| {
            let confined = confined.as_ref().context("it has no sandbox")?;
            Ok::<_, anyhow::Error>(network.open(handed, confiner.launcher(), confined, origin)?)
        };
        let _network = network.map(open).transpose().context("can't serve the program's network")?;
        end_of(program, end_signals).await
    });
    let asked_for = match &status {
        Ok((status, was_asked)) => *was_asked || status.signal().is_some(),
        Err(_) => true,
    };
    // What a program leaves behind on purpose goes on, as under a shell; but not when it was made to end.
    if asked_for {
        tree::kill_descendants(origin).context("can't end what the program has started")?;
    }
    // Only now is nothing of it needed any more.
    drop(confined);
    relays.finish().context("can't write the program's output to its file")?;
    Ok(status?.0)
}

/// The program's end, and whether somebody asked for it.
async fn end_of(program: ForegroundChild, end_signals: EndSignals) -> anyhow::Result<(ExitStatus, bool)> {
    let mut requests = end_signals.listen().context("can't listen for signals")?;
    let pid = program.pid;
    let mut was_asked = false;
    let mut ended = tokio::task::spawn_blocking(move || program.wait());
    loop {
        tokio::select! {
            status = &mut ended => return Ok((status.context("can't wait for the program")??, was_asked)),
            request = requests.next() => was_asked |= hand_on(request?, pid),
        }
    }
}

/// Gives the program a signal that came here, unless it has it from its terminal already. Whether it asks for the end:
/// programs take SIGINT as a wish to stop what they just do, too.
fn hand_on(request: EndRequest, program: Pid) -> bool {
    if !request.from_terminal || !groups::is_beside_us(program) {
        // It may have ended this very moment.
        let _ = kill_process(program, request.signal);
    }
    request.signal != Signal::INT
}

/// What `--profile` allows; none, and said so, if it is no profile's name.
fn permissions(args: &SandboxArgs) -> anyhow::Result<Option<Permissions>> {
    let network = if args.network { Network::Enabled } else { Network::Restricted };
    Ok(Some(match args.profile.as_str() {
        "read-only" => Permissions::read_only(network),
        "workspace-write" => Permissions::workspace_write(network),
        file => {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) => {
                    output::error(&format!(
                        "--profile takes read-only, workspace-write or a file; can't read {file:?}: {error}"
                    ));
                    return Ok(None);
                }
            };
            serde_json::from_str(&text).with_context(|| format!("{file:?} is no permission profile"))?
        }
    }))
}

/// The sandbox that the flags describe, as a client would send it.
fn sandbox(args: &SandboxArgs, mut permissions: Permissions, cwd: &Path) -> anyhow::Result<Sandbox> {
    let named = |flag: &str, paths: &[PathBuf], access| -> Vec<Entry> {
        let entry = |path: &PathBuf| Entry {
            path: EntryPath::Path { path: place(flag, &cwd.join(path)).into() },
            access,
            missing_path_behavior: None,
        };
        paths.iter().map(entry).collect()
    };
    let mut more = named("--writable", &args.writable, Access::Write);
    more.extend(named("--deny", &args.deny, Access::Deny));
    match &mut permissions {
        Permissions::Tagged(Profile::Managed {
            network: of_profile,
            file_system: FileSystem::Restricted { entries, .. },
        }) => {
            entries.extend(more);
            if args.network {
                *of_profile = Network::Enabled;
            }
        }
        _ if more.is_empty() && !args.network => {}
        _ => {
            bail!("--writable, --deny and --network go with a profile of type `managed` that restricts files")
        }
    }
    Ok(Sandbox::new(permissions, LocalPath(cwd.to_owned())))
}

/// The place that a flag names, without `..`, which no policy takes. One that is not there may be a slip.
fn place(flag: &str, path: &Path) -> PathBuf {
    if path.symlink_metadata().is_err() {
        output::note(&format!("warning: {flag} names {}, which does not exist", path.display()));
    }
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return path.canonicalize().unwrap_or_else(|_| path.to_owned());
    };
    // The name itself may be a link, which the policy looks at.
    parent.canonicalize().map_or_else(|_| path.to_owned(), |parent| parent.join(name))
}
