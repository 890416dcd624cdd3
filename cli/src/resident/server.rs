//! The server that stays: found, replaced by a newer one, or started.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use codex_exec_server::client::{Client, ClientOptions, Endpoint};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::place::Place;
use crate::target::Staying;
use crate::{output, programs};

/// A server that is started says where it listens within this time, also on a busy machine.
const START: Duration = Duration::from_secs(30);
/// A server that is told to end is gone within this time, with the programs that it ends.
const END: Duration = Duration::from_secs(20);
/// Our own pace: nothing outside depends on it.
const PAUSE: Duration = Duration::from_millis(20);
/// What a session leaves behind for the programs of its own machine, and leads nowhere once it is over.
const OF_ONE_SESSION: [&str; 4] = ["SSH_AUTH_SOCK", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY"];

/// A connection to the server that stays here.
///
/// # Errors
/// There is none, and none can be started.
pub(super) async fn find_or_start(place: &Place) -> anyhow::Result<UnixStream> {
    let _lock = place.lock().await?;
    if let Ok(stream) = UnixStream::connect(place.socket()).await {
        match server_of(&stream) {
            Some(pid) if is_another(pid) && gives_way(place).await => end(place, pid).await?,
            // A socket that another user's server left is refused by its mode.
            _ => return Ok(stream),
        }
    }
    start(place).await?;
    let there = || format!("can't connect to {}", place.socket().display());
    UnixStream::connect(place.socket()).await.with_context(there)
}

/// Looks whether a server stays here.
///
/// # Errors
/// Somebody else starts or ends it, and takes too long.
pub(super) async fn look(place: &Place) -> anyhow::Result<Staying> {
    let _lock = place.lock().await?;
    Ok(found(place).await.0)
}

/// Ends the server that stays here; where programs run in it, only with `force`, and then with them.
///
/// # Errors
/// It does not end.
pub(super) async fn stop(place: &Place, force: bool) -> anyhow::Result<Staying> {
    let _lock = place.lock().await?;
    let (mut found, pid) = found(place).await;
    if let Some(pid) = pid.filter(|_| found.programs == 0 || force) {
        end(place, pid).await?;
        found.is_stopped = true;
    }
    Ok(found)
}

async fn found(place: &Place) -> (Staying, Option<Pid>) {
    let Ok(stream) = UnixStream::connect(place.socket()).await else {
        return (Staying { is_there: false, programs: 0, is_stopped: false }, None);
    };
    let pid = server_of(&stream);
    drop(stream);
    // In one that can't be talked to nothing can be found.
    let programs = match client(place).await {
        Some(client) => running(client).await,
        None => 0,
    };
    (Staying { is_there: true, programs, is_stopped: false }, pid)
}

/// The process that listens.
fn server_of(stream: &UnixStream) -> Option<Pid> {
    stream.peer_cred().ok().and_then(|peer| Pid::from_raw(peer.pid()?))
}

async fn client(place: &Place) -> Option<Client> {
    let endpoint = Endpoint::Unix { path: place.socket(), bearer: None };
    let options = ClientOptions { client_name: "codex-resident".into(), ..ClientOptions::default() };
    Client::connect(endpoint, options).await.ok()
}

/// How many programs run; the connection is closed.
async fn running(client: Client) -> usize {
    let all = programs::list(&client).await;
    client.close().await;
    all.map_or(0, |all| all.iter().filter(|info| programs::is_running(info)).count())
}

/// Whether the server was started from another program than this one.
fn is_another(pid: Pid) -> bool {
    let program = |name: &str| -> Option<PathBuf> {
        let path = std::fs::read_link(format!("/proc/{name}/exe")).ok()?;
        let text = path.to_str()?;
        Some(text.strip_suffix(" (deleted)").unwrap_or(text).into())
    };
    let theirs = program(&pid.as_raw_nonzero().to_string());
    theirs.is_some() && theirs != program("self")
}

/// Whether the server is to be replaced: it is not newer than this program, and nothing runs in it.
async fn gives_way(place: &Place) -> bool {
    // One that can't be talked to is no server that anybody could use.
    let Some(client) = client(place).await else { return true };
    let version = client.environment_info().and_then(|info| info.executor_version).unwrap_or_default();
    let running = running(client).await;
    if is_older(env!("CARGO_PKG_VERSION"), &version) {
        return false;
    }
    if running > 0 {
        let programs =
            if running == 1 { "a program runs".to_owned() } else { format!("{running} programs run") };
        output::note(&format!(
            "the server that stays there is another version ({version}), and {programs} in it; it is replaced when they have ended"
        ));
    }
    running == 0
}

/// Whether a version comes before another one.
fn is_older(this: &str, other: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let plain = text.split(['-', '+']).next().unwrap_or_default();
        plain.split('.').map(|part| part.parse().unwrap_or_default()).collect()
    };
    numbers(this) < numbers(other)
}

/// Ends a server, with all that runs in it.
async fn end(place: &Place, pid: Pid) -> anyhow::Result<()> {
    // It may end by itself just now.
    let _ = kill_process(pid, Signal::TERM);
    let deadline = Instant::now() + END;
    while UnixStream::connect(place.socket()).await.is_ok() {
        if Instant::now() > deadline {
            bail!(
                "the server that stays there does not end (process {}); end it with `kill -9`",
                pid.as_raw_nonzero()
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Starts a server that stays, and waits until it listens.
async fn start(place: &Place) -> anyhow::Result<()> {
    let log = place.log();
    let file: File = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&log)
        .with_context(|| format!("can't write {}", log.display()))?;
    let program = std::env::current_exe().context("can't tell where this program's own file is")?;
    let mut command = Command::new(program);
    command.args(["exec-server", "--own-session", "--listen"]);
    command.arg(format!("unix://{}", place.socket().display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    for name in OF_ONE_SESSION {
        command.env_remove(name);
    }
    let mut child = command.spawn().context("can't start the server that stays there")?;
    let Some(stdout) = child.stdout.take() else { bail!("the server's stdout is missing") };
    let mut address = String::new();
    let mut stdout = BufReader::new(stdout);
    let read = tokio::time::timeout(START, stdout.read_line(&mut address)).await;
    if matches!(read, Ok(Ok(count)) if count > 0) {
        return Ok(());
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let last = said.lines().last().unwrap_or("it said nothing");
    bail!("the server that stays there did not start: {last} ({})", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (this, other, older) in [
            ("0.1.0", "0.1.0", false),
            ("0.1.0", "0.2.0", true),
            ("0.9.0", "0.10.0", true),
            ("1.0.0", "0.10.0", false),
            ("0.1.0", "", false),
            ("0.1.0-rc1", "0.1.0", false),
        ] {
            assert_eq!(is_older(this, other), older, "{this} {other}");
        }
    }
}
