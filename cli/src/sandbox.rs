//! `codex sandbox`: tries a policy by hand, and says which rule decides.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use anyhow::{Context, bail};
use codex_exec_protocol::path::LocalPath;
use codex_exec_protocol::process::ProgramLimits;
use codex_exec_protocol::sandbox::{
    Access, Entry, EntryPath, FileSystem, Network, Permissions, Profile, Sandbox, Special,
};
use codex_exec_server::process::spawn::{self, Program, Stdio};
use codex_exec_server::sandbox::{Confiner, NamespaceUse, Policy, PolicyBounds, Surroundings};
use tokio::signal::unix::{SignalKind, signal};

use crate::output;

/// This very binary, even if its file was replaced since.
pub(crate) const LAUNCHER: &str = "/proc/self/exe";

/// What a profile's words mean for this user.
pub(crate) fn surroundings(bounds: PolicyBounds) -> Surroundings {
    let tmpdir = std::env::var_os("TMPDIR").map(PathBuf::from);
    Surroundings { tmpdir: tmpdir.filter(|path| path.is_absolute()), bounds }
}

/// The flags of `codex sandbox`.
#[derive(Debug, clap::Args)]
pub(crate) struct SandboxArgs {
    /// What is allowed: read-only, workspace-write, or a file with a permission profile as JSON.
    #[arg(long, value_name = "PROFILE", default_value = "read-only")]
    profile: String,
    /// The working directory, which is also the workspace [default: the current one].
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Another file or directory that may be written. Repeatable.
    #[arg(long, value_name = "PATH")]
    writable: Vec<PathBuf>,
    /// A file or directory that can be neither read nor written. Repeatable.
    #[arg(long, value_name = "PATH")]
    deny: Vec<PathBuf>,
    /// Allow network connections.
    #[arg(long)]
    network: bool,
    /// Say what may be done at this path, and which rule decides, instead of running a program. Repeatable.
    #[arg(long, value_name = "PATH")]
    explain: Vec<PathBuf>,
    /// The program and its arguments.
    #[arg(last = true, value_name = "PROGRAM", required_unless_present = "explain")]
    program: Vec<OsString>,
}

/// Runs the program, or explains. The exit code is the program's, 128 + its signal if one killed it.
pub(crate) fn run(args: SandboxArgs) -> anyhow::Result<u8> {
    let here = std::env::current_dir().context("can't tell the working directory")?;
    let cwd = here.join(args.cwd.as_deref().unwrap_or(Path::new("")));
    let cwd = std::fs::canonicalize(&cwd).with_context(|| format!("can't use {} as --cwd", cwd.display()))?;
    let confiner = Confiner::new(LAUNCHER.into(), surroundings(PolicyBounds::default()), NamespaceUse::Any);
    let policy = confiner.policy(&sandbox(&args, &cwd)?)?;
    for path in &args.explain {
        output::line(&policy.explain(&here.join(path))?.to_string())
            .context("can't print the explanation")?;
    }
    if args.program.is_empty() {
        return Ok(0);
    }
    let status = wait(start(&confiner, &policy, args.program, cwd)?)?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// A running program, with what its sandbox needs on the disk.
struct Running {
    child: Child,
    program: Program,
}

fn start(confiner: &Confiner, policy: &Policy, argv: Vec<OsString>, cwd: PathBuf) -> anyhow::Result<Running> {
    let confined = if policy.allows_everything() {
        None
    } else {
        Some((confiner.launcher().to_owned(), Arc::new(confiner.confine(policy)?)))
    };
    let env = std::env::vars_os().collect();
    let program = Program {
        argv,
        arg0: None,
        cwd,
        env,
        stdio: Stdio::Pipes { stdin: false },
        confined,
        handover: None,
        limits: ProgramLimits::default(),
        group: None,
    };
    Ok(Running { child: spawn::spawn_here(&program)?, program })
}

/// Waits for the end. The terminal's signals reach the program by themselves, and must not end this process before it.
fn wait(Running { mut child, program }: Running) -> anyhow::Result<ExitStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        loop {
            tokio::select! {
                status = &mut ended => return Ok(status.context("can't wait for the program")??),
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
                _ = terminate.recv() => {
                    if let Some(pid) = pid {
                        // It may have ended this very moment.
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                    }
                }
            }
        }
    });
    // Only now is nothing of it needed any more.
    drop(program);
    status
}

/// The sandbox that the flags describe, as a client would send it.
fn sandbox(args: &SandboxArgs, cwd: &Path) -> anyhow::Result<Sandbox> {
    let network = if args.network { Network::Enabled } else { Network::Restricted };
    let mut permissions = match args.profile.as_str() {
        "read-only" => managed(network, vec![special(Special::Root, Access::Read)]),
        "workspace-write" => {
            let writable = [Special::ProjectRoots { subpath: None }, Special::SlashTmp, Special::Tmpdir];
            let writable = writable.into_iter().map(|place| special(place, Access::Write));
            managed(network, [special(Special::Root, Access::Read)].into_iter().chain(writable).collect())
        }
        file => {
            let text = std::fs::read_to_string(file).with_context(|| {
                format!("--profile takes read-only, workspace-write or a file; can't read {file:?}")
            })?;
            serde_json::from_str(&text).with_context(|| format!("{file:?} is no permission profile"))?
        }
    };
    let named = |paths: &[PathBuf], access| -> Vec<Entry> {
        let entry = |path: &PathBuf| Entry {
            path: EntryPath::Path { path: LocalPath(cwd.join(path)) },
            access,
            missing_path_behavior: None,
        };
        paths.iter().map(entry).collect()
    };
    let more: Vec<Entry> =
        named(&args.writable, Access::Write).into_iter().chain(named(&args.deny, Access::Deny)).collect();
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

fn managed(network: Network, entries: Vec<Entry>) -> Permissions {
    let file_system = FileSystem::Restricted { entries, glob_scan_max_depth: None };
    Permissions::Tagged(Profile::Managed { network, file_system })
}

fn special(value: Special, access: Access) -> Entry {
    Entry { path: EntryPath::Special { value }, access, missing_path_behavior: None }
}
