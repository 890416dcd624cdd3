//! Programs of an environment: how one is named, found, started and signalled.

use std::collections::BTreeMap;

use codex_exec_server::client::{Client, ClientError, EnvironmentError, Environments};
use codex_exec_server::protocol::WirePath;
use codex_exec_server::protocol::encode::NoParams;
use codex_exec_server::protocol::environment::{EnvironmentInfo, Info};
use codex_exec_server::protocol::process::{
    EnvPolicy, List, ListParams, ProcessInfo, ProcessState, Signal, SignalName, SignalParams, Start,
    StartParams, Terminate, TerminateParams,
};
use codex_exec_server::protocol::{ProcessId, SessionId};

/// Between SIGTERM and SIGKILL, when a program is ended. Our own pace: nothing outside depends on it.
const END_GRACE_MS: u64 = 5_000;
/// What the page's terminal is.
const TERM: &str = "xterm-256color";
/// Longest id of a program that a person may choose. A safeguard, far from any real use.
const LONGEST_ID: usize = 64;

/// Names a program to every session of the same user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) session: SessionId,
    pub(crate) process: ProcessId,
}

/// Why an environment did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// There is no connection to it.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// It refused, or the connection was lost.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It is no other machine, but a part of this program.
    #[error("the environment {0:?} has no server that could be asked")]
    NoServer(String),
    /// There is no such program.
    #[error("there is no program {0:?} any more: it ended long ago, or its exec-server was started anew")]
    Absent(String),
    /// What was asked for can't be meant.
    #[error("{0}")]
    Usage(String),
    /// Something else has that name.
    #[error("{0}")]
    Taken(String),
}

/// The connection to an environment, made if there is none.
///
/// # Errors
/// There is no such environment, or it can't be reached.
pub(crate) async fn client(environments: &Environments, name: &str) -> Result<Client, ProgramError> {
    environments.client(name).await?.ok_or_else(|| ProgramError::NoServer(name.to_owned()))
}

/// All programs that this user may see, each with the session that has it.
///
/// # Errors
/// The connection is lost.
pub(crate) async fn list(client: &Client) -> Result<Vec<ProcessInfo>, ProgramError> {
    let mut all = client.call::<List>(&ListParams { all_sessions: true }).await?.processes;
    for info in &mut all {
        // Older servers list their own session alone, and do not name it.
        info.session_id.get_or_insert_with(|| client.session_id());
    }
    Ok(all)
}

/// One program.
///
/// # Errors
/// There is none at this place, or the connection is lost.
pub(crate) async fn find(client: &Client, place: &Place) -> Result<ProcessInfo, ProgramError> {
    let is_it = |info: &ProcessInfo| {
        info.process_id == place.process && info.session_id.as_ref() == Some(&place.session)
    };
    let found = list(client).await?.into_iter().find(is_it);
    found.ok_or_else(|| ProgramError::Absent(place.process.to_string()))
}

/// Whether it has not ended.
pub(crate) const fn is_running(info: &ProcessInfo) -> bool {
    matches!(info.state, ProcessState::Starting | ProcessState::Running)
}

/// What the machine is; servers before 0.169 tell it only when asked.
///
/// # Errors
/// As for any call.
pub(crate) async fn info(client: &Client) -> Result<EnvironmentInfo, ClientError> {
    match client.environment_info() {
        Some(info) => Ok(info),
        None => client.call::<Info>(&NoParams).await,
    }
}

/// What somebody wants to start.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// A line for the user's shell there; a login shell without one.
    pub(crate) command: Option<String>,
    /// The directory; the home directory without one.
    pub(crate) cwd: Option<String>,
    /// Its id; one is made up without.
    pub(crate) name: Option<String>,
    /// On a terminal of this size, rows before columns; else on pipes.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// Starts it; it goes on without this program.
///
/// # Errors
/// A name that is taken or that can't be, or what the server says.
pub(crate) async fn start(client: &Client, wanted: Wanted) -> Result<Place, ProgramError> {
    let id = match wanted.name {
        Some(name) => checked_name(client, name).await?,
        None => format!("{:012x}", rand::random::<u64>() >> 16),
    };
    let info = info(client).await?;
    let local = |path: Option<WirePath>| match path {
        Some(WirePath::Local(path)) => Some(path),
        _ => None,
    };
    let cwd = match &wanted.cwd {
        Some(text) => local(WirePath::parse(text).ok()).ok_or_else(|| {
            ProgramError::Usage(format!("{text:?} is no absolute path, and so no directory to begin in"))
        })?,
        None => local(info.user_home_dir).or_else(|| local(info.cwd)).unwrap_or_else(|| "/".into()),
    };
    let (argv, arg0) = match wanted.command {
        Some(line) => (vec![info.shell.path, "-c".to_owned(), line], None),
        // The hyphen makes it a login shell.
        None => (vec![info.shell.path], Some(format!("-{}", info.shell.name))),
    };
    let params = StartParams {
        arg0,
        env: BTreeMap::from([("TERM".to_owned(), TERM.to_owned())]),
        tty: wanted.terminal.is_some(),
        rows: wanted.terminal.map(|(rows, _)| rows),
        cols: wanted.terminal.map(|(_, cols)| cols),
        env_policy: Some(EnvPolicy::inherit_all()),
        pull_only: true,
        ..StartParams::new(id.as_str().into(), argv, cwd)
    };
    let started = client.call::<Start>(&params).await?;
    Ok(Place { session: client.session_id(), process: started.process_id })
}

async fn checked_name(client: &Client, name: String) -> Result<String, ProgramError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST_ID || !name.chars().all(plain) {
        return Err(ProgramError::Usage(format!(
            "{name:?} is no name for a program: it takes 1 to {LONGEST_ID} letters, digits, `-`, `_` and `.`"
        )));
    }
    match list(client).await?.iter().any(|info| info.process_id == *name && is_running(info)) {
        true => Err(ProgramError::Taken(format!("a program {name:?} is running already; take another name"))),
        false => Ok(name),
    }
}

/// Ends a program and its tree, by SIGTERM first.
///
/// # Errors
/// As for any call.
pub(crate) async fn end(client: &Client, place: &Place) -> Result<(), ClientError> {
    let params = TerminateParams {
        process_id: place.process.clone(),
        session_id: Some(place.session.clone()),
        grace_ms: Some(END_GRACE_MS),
    };
    client.call::<Terminate>(&params).await.map(drop)
}

/// Sends a signal to a program's process group.
///
/// # Errors
/// As for any call.
pub(crate) async fn signal(client: &Client, place: &Place, signal: SignalName) -> Result<(), ClientError> {
    let params =
        SignalParams { process_id: place.process.clone(), session_id: Some(place.session.clone()), signal };
    client.call::<Signal>(&params).await.map(drop)
}
