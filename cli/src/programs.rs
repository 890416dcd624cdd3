//! Programs of an environment, whichever session they belong to: how commands find one, and follow it.

use std::fmt;
use std::time::Duration;

use codex_exec_server::client::{Client, ClientError, ClientOptions};
use codex_exec_server::protocol::process::{List, ListParams, ProcessInfo, ProcessState};
use codex_exec_server::protocol::{ProcessId, SessionId};

use crate::codes::FAILURE;
use crate::output;
use crate::setup::Setup;
use crate::target::{self, Target, TargetArgs, TargetError};

/// How long programs wait for somebody to come back, where nobody says it.
pub(crate) const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// One program: what names it to every session of the same user.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) session: SessionId,
    pub(crate) process: ProcessId,
}

/// Why a command that works on programs can't go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// There is no connection.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The server refused, or the connection was lost.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no such program.
    #[error("{0}")]
    Absent(String),
    /// More than one may be meant, or what was found does not do.
    #[error("{0}")]
    Unknown(String),
}

impl ProgramError {
    /// Tells it; gives the exit code of a command that is no program's.
    pub(crate) fn tell(&self) -> u8 {
        match self {
            Self::Target(error) => target::tell(error),
            other => {
                output::error(&other.to_string());
                FAILURE
            }
        }
    }
}

/// Finds an environment that programs can be left in, and connects to it.
///
/// # Errors
/// There is none, or it can't be reached, or its server is too old for this.
pub(crate) async fn reach(args: &TargetArgs, setup: &Setup) -> Result<Client, TargetError> {
    reach_with(args.find(setup)?, |_| {}).await
}

/// The same, with other waits and bounds.
///
/// # Errors
/// As for [`reach`].
pub(crate) async fn reach_with(
    mut target: Target,
    adjust: impl FnOnce(&mut ClientOptions),
) -> Result<Client, TargetError> {
    if !target.is_remote() {
        return Err(TargetError::Here(
            "no environment is in use, and a server that is started for one command keeps no programs: name one with -E or \
             --url (`codex exec-server env` names machines)"
                .into(),
        ));
    }
    if !target.outlives_connection() {
        return Err(TargetError::Here(
            "the server of this environment ends with each connection, so nothing goes on there: add it with --resident \
             (`codex exec-server env add`), or use an address where a server listens"
                .into(),
        ));
    }
    adjust(target.options_mut());
    let client = target.connect().await?;
    if keeps_programs(&client) {
        return Ok(client);
    }
    client.close().await;
    Err(TargetError::Unreachable(
        "this exec-server does not keep programs for whoever comes back (it lacks the capability detachedSessions); a newer \
         one does"
            .into(),
    ))
}

/// Whether the server knows of other sessions' programs, and of sessions that wait for long.
pub(crate) fn keeps_programs(client: &Client) -> bool {
    client.environment_info().is_some_and(|info| info.capabilities.detached_sessions)
}

/// All programs that this user may see.
///
/// # Errors
/// The connection is lost.
pub(crate) async fn list(client: &Client) -> Result<Vec<ProcessInfo>, ClientError> {
    Ok(client.call::<List>(&ListParams { all_sessions: true }).await?.processes)
}

/// Whether it has not ended.
pub(crate) const fn is_running(info: &ProcessInfo) -> bool {
    matches!(info.state, ProcessState::Starting | ProcessState::Running)
}

/// The program with this id, or with the only id that begins so; of several with one id, the only one that runs.
///
/// # Errors
/// None or several, with what there is.
pub(crate) async fn find(client: &Client, id: &str) -> Result<(Place, ProcessInfo), ProgramError> {
    let all = list(client).await?;
    let found = choose(&all, id)?;
    let place =
        Place { session: found.session_id.clone().unwrap_or_default(), process: found.process_id.clone() };
    Ok((place, found.clone()))
}

fn choose<'a>(all: &'a [ProcessInfo], id: &str) -> Result<&'a ProcessInfo, ProgramError> {
    let same: Vec<_> = all.iter().filter(|info| info.process_id == *id).collect();
    let like: Vec<_> = match same.is_empty() && !id.is_empty() {
        true => all.iter().filter(|info| info.process_id.starts_with(id)).collect(),
        false => same,
    };
    let running: Vec<_> = like.iter().copied().filter(|info| is_running(info)).collect();
    match (like.as_slice(), running.as_slice()) {
        ([one], _) | (_, [one]) => Ok(one),
        ([], _) => {
            let running = all.iter().filter(|info| is_running(info));
            Err(ProgramError::Absent(format!(
                "there is no program {id:?}; {}",
                Running(running.map(|info| &*info.process_id).collect())
            )))
        }
        (several, _) => Err(ProgramError::Unknown(format!(
            "{id:?} may be any of {}; give more of its id{}",
            several.iter().map(|info| info.process_id.as_str()).collect::<Vec<_>>().join(", "),
            if several.iter().all(|info| info.process_id == *id) {
                ", which several sessions use: only a program with a name of its own can be told apart"
            } else {
                ""
            }
        ))),
    }
}

/// Says what runs.
struct Running<'a>(Vec<&'a str>);

impl fmt::Display for Running<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => out.write_str("nothing runs there"),
            ids => write!(out, "running are: {}", ids.join(", ")),
        }
    }
}

/// Refuses a name that a running program has, whoever started it: it could not be told from that one.
///
/// # Errors
/// There is one.
pub(crate) async fn refuse_second(client: &Client, id: &str) -> Result<(), ProgramError> {
    match list(client).await?.iter().any(|info| info.process_id == *id && is_running(info)) {
        true => Err(ProgramError::Unknown(format!("a program {id:?} is running already; take another name"))),
        false => Ok(()),
    }
}

/// A name for a program that got none: short enough to type, and like no other.
pub(crate) fn new_id() -> String {
    format!("{:012x}", rand::random::<u64>() >> 16)
}
