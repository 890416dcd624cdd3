//! `codex exec-server service`: has systemd run the server, or a rendezvous, for this user.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::codes::FAILURE;
use crate::output;

/// What a server does that is told nothing else. `%t` is the user's directory for sockets.
const SERVER: [&str; 2] = ["--listen", "unix://%t/codex-exec-server.sock"];

/// Flags of `codex exec-server service`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server service install
  codex exec-server service install -- --listen ws://127.0.0.1:4500
  codex exec-server service install --rendezvous -- --listen 0.0.0.0:8443
  codex exec-server service logs --follow")]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    command: ServiceCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ServiceCommand {
    /// Write a unit for your user, start it, and have it started at every login.
    #[command(after_help = "Examples:
  codex exec-server service install
  codex exec-server service install -- --listen ws://127.0.0.1:4500")]
    Install {
        #[command(flatten)]
        which: Which,
        /// The flags of the server or rendezvous, after two hyphens. `%` is systemd's, as in %h for the home directory.
        #[arg(last = true, value_name = "FLAG")]
        flags: Vec<String>,
    },
    /// Stop it, and remove its unit.
    #[command(after_help = "Example:
  codex exec-server service uninstall --rendezvous")]
    Uninstall(Which),
    /// Say whether it runs, as systemctl does.
    #[command(after_help = "Example:
  codex exec-server service status")]
    Status(Which),
    /// Print what it has said, as journalctl does.
    #[command(after_help = "Example:
  codex exec-server service logs -f")]
    Logs {
        #[command(flatten)]
        which: Which,
        /// Go on with what it says from now on.
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// A rendezvous instead of an exec-server.
    #[arg(long)]
    rendezvous: bool,
}

impl Which {
    fn unit(&self) -> &'static str {
        if self.rendezvous { "codex-rendezvous.service" } else { "codex-exec-server.service" }
    }
}

/// Does it; the exit code is that of systemd's own program where one says the rest.
///
/// # Errors
/// The unit can't be written or removed, or there is no systemd.
pub(crate) fn service(args: &ServiceArgs) -> anyhow::Result<u8> {
    match &args.command {
        ServiceCommand::Install { which, flags } => install(which, flags),
        ServiceCommand::Uninstall(which) => uninstall(which),
        ServiceCommand::Status(which) => systemd("systemctl", &["--user", "status", which.unit()]),
        ServiceCommand::Logs { which, follow } => {
            let follow: &[&str] = if *follow { &["--follow"] } else { &[] };
            systemd("journalctl", &[&["--user", "--unit", which.unit()], follow].concat())
        }
    }
}

fn install(which: &Which, flags: &[String]) -> anyhow::Result<u8> {
    let program = std::env::current_exe().context("can't tell where this program's own file is")?;
    let path = units()?.join(which.unit());
    let text = unit(&program, which, flags);
    let written =
        path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
    written.with_context(|| format!("can't write the unit {}", path.display()))?;
    let started = systemd("systemctl", &["--user", "daemon-reload"]).and_then(|code| match code {
        0 => systemd("systemctl", &["--user", "enable", "--now", which.unit()]),
        code => Ok(code),
    });
    let code = started.with_context(|| format!("the unit is in {}, and was not started", path.display()))?;
    if code == 0 {
        output::line(&format!("{} runs from now on", which.unit()))?;
        output::note(
            "It ends with your last session on this machine; `loginctl enable-linger` lets it go on without one.",
        );
    }
    Ok(code)
}

fn uninstall(which: &Which) -> anyhow::Result<u8> {
    let path = units()?.join(which.unit());
    let stopped = systemd("systemctl", &["--user", "disable", "--now", which.unit()])?;
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            output::error(&format!("there is no unit {}", path.display()));
            return Ok(FAILURE);
        }
        Err(error) => return Err(error).with_context(|| format!("can't remove {}", path.display())),
    }
    Ok(stopped.max(systemd("systemctl", &["--user", "daemon-reload"])?))
}

/// Where the units of this user are.
fn units() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = named.or_else(|| dirs::home_dir().map(|home| home.join(".config")));
    Ok(config.context("there is no home directory for the unit")?.join("systemd/user"))
}

/// The unit. It is started again for ever, ever more slowly.
fn unit(program: &Path, which: &Which, flags: &[String]) -> String {
    let own = program.display().to_string().replace('%', "%%");
    let words: Vec<String> = match (which.rendezvous, flags) {
        (true, flags) => [&["exec-server".to_owned(), "rendezvous".to_owned()], flags].concat(),
        (false, []) => ["exec-server"].iter().chain(&SERVER).map(|word| (*word).to_owned()).collect(),
        (false, flags) => [&["exec-server".to_owned()], flags].concat(),
    };
    let line: Vec<String> = std::iter::once(own).chain(words).map(|word| quoted(&word)).collect();
    let what = if which.rendezvous {
        "Lets machines be reached behind firewalls"
    } else {
        "Lends this machine to a coding agent"
    };
    format!(
        "[Unit]\nDescription={what}\nStartLimitIntervalSec=0\n\n\
         [Service]\nExecStart={}\nExecReload=/bin/kill -HUP $MAINPID\nRestart=always\nRestartSec=1\nRestartSteps=8\nRestartMaxDelaySec=60\n\
         Delegate=memory pids\nKillMode=mixed\n\n[Install]\nWantedBy=default.target\n",
        line.join(" ")
    )
}

/// As systemd.service(5) reads a command line: `$` would be a variable.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// Runs a program of systemd's; its exit code.
fn systemd(program: &str, arguments: &[&str]) -> anyhow::Result<u8> {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("this needs systemd, and {program} can't be run"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_holds_the_words_as_systemd_reads_them() {
        let of = |rendezvous, flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let text = unit(Path::new("/opt/100%/codex"), &Which { rendezvous }, &flags);
            text.lines().find_map(|line| line.strip_prefix("ExecStart=").map(str::to_owned)).unwrap()
        };
        assert_eq!(
            of(false, &[]),
            r#""/opt/100%%/codex" "exec-server" "--listen" "unix://%t/codex-exec-server.sock""#
        );
        assert_eq!(
            of(true, &["--listen", "a b"]),
            r#""/opt/100%%/codex" "exec-server" "rendezvous" "--listen" "a b""#
        );
        assert_eq!(of(false, &["$x\"\\"]), r#""/opt/100%%/codex" "exec-server" "$$x\"\\""#);
    }
}
