//! `codex exec-server shell`: a login shell on a terminal, which one may leave and find again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use codex_exec_server::client::{Client, ClientError};
use codex_exec_server::protocol::WirePath;
use codex_exec_server::protocol::encode::NoParams;
use codex_exec_server::protocol::environment::{EnvironmentInfo, Info};
use codex_exec_server::protocol::process::{EnvPolicy, Start, StartParams};

use crate::attach::{Ended, Keys, Session, Way, finish};
use crate::codes::FAILURE;
use crate::console::io::say;
use crate::console::signals::Signals;
use crate::console::terminal;
use crate::programs::{self, Place};
use crate::setup::{ConfigArgs, Setup};
use crate::target::{TargetArgs, TargetError};

/// Opens the user's login shell on a terminal of an environment. It can be left running and taken up again; a lost
/// connection comes back by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server shell box
  codex exec-server shell -E box --name work
  codex exec-server attach work

Ctrl-\\ leaves the shell running (twice: the shell gets it), as does ~d at the start of a line; ~. ends it, and ~? lists these keys.")]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// The environment's name, as -E takes it.
    #[arg(value_name = "ENVIRONMENT", conflicts_with_all = ["environment", "url", "registry"])]
    environment_name: Option<String>,
    /// The id of the shell, at most 64 letters, digits, `-`, `_` and `.` [default: one that is made up].
    #[arg(long, value_name = "NAME", value_parser = crate::values::name)]
    name: Option<String>,
    /// The directory to begin in [default: the user's home directory there].
    #[arg(short = 'w', long, alias = "workdir", value_name = "DIR")]
    cwd: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
}

/// Opens it; gives its exit code, 0 when it was left running, and 255 when it can't be reached.
///
/// # Errors
/// Only what keeps this side from working at all, such as a terminal that can't be set.
pub(crate) async fn shell(args: ShellArgs, setup: Setup) -> anyhow::Result<u8> {
    let target = match &args.environment_name {
        Some(name) => TargetArgs::named(name),
        None => args.target.clone(),
    };
    let way = Way::new(&target, &setup);
    let (client, remote) = match connect(&target, &setup, &way).await {
        Ok(connected) => connected,
        Err(error) => {
            if let Some(sentence) = error.unsaid() {
                say("shell", &sentence);
            }
            return Ok(error.code_of_program());
        }
    };
    let id = args.name.clone().unwrap_or_else(programs::new_id);
    if let Err(why) = start(&client, &args, &id).await {
        say("shell", &why);
        client.close().await;
        return Ok(FAILURE);
    }
    let place = Place { session: client.session_id(), process: id.as_str().into() };
    let mut signals = Signals::new()?;
    let mut session = Session::new(way, client, place, true, args.keys.character());
    if !remote {
        session.stays();
    }
    let ended = session.run(&mut signals).await?;
    match &ended {
        Ended::Cut => {
            session.terminate().await;
            session.into_client().close().await;
        }
        // The session has only this shell: it waits with it.
        Ended::Detached | Ended::Gone(_) => session.into_client().leave().await,
        Ended::Program(_) | Ended::Unread => session.into_client().close().await,
    }
    Ok(finish("shell", &ended, &id))
}

/// Connects; tells whether the shell can be left there.
async fn connect(target: &TargetArgs, setup: &Setup, way: &Way<'_>) -> Result<(Client, bool), TargetError> {
    let found = target.find(setup)?;
    if !found.outlives_connection() {
        return Ok((found.connect().await?, false));
    }
    Ok((way.connect(|options| options.detached_time = Some(programs::KEPT)).await?, true))
}

/// Starts the shell as one that was logged in to.
async fn start(client: &Client, args: &ShellArgs, id: &str) -> Result<(), String> {
    programs::refuse_second(client, id).await.map_err(|error| error.to_string())?;
    let info = info(client).await.map_err(|error| error.to_string())?;
    let path = |path: Option<WirePath>| match path {
        Some(WirePath::Local(path)) => Some(path),
        _ => None,
    };
    let cwd = match &args.cwd {
        Some(cwd) if !cwd.is_absolute() => {
            return Err(format!(
                "--cwd {} is not absolute; it is a path of the environment's machine",
                cwd.display()
            ));
        }
        Some(cwd) => cwd.clone(),
        None => path(info.user_home_dir).or_else(|| path(info.cwd)).unwrap_or_else(|| "/".into()),
    };
    let size = terminal::size();
    let term = std::env::var("TERM").unwrap_or_else(|_| "xterm-256color".into());
    let params = StartParams {
        // The hyphen makes it a login shell.
        arg0: Some(format!("-{}", info.shell.name)),
        env: BTreeMap::from([("TERM".to_owned(), term)]),
        tty: true,
        env_policy: Some(EnvPolicy::inherit_all()),
        rows: size.map(|(rows, _)| rows),
        cols: size.map(|(_, cols)| cols),
        real_terminal: terminal::is_real(),
        pull_only: true,
        ..StartParams::new(id.into(), vec![info.shell.path], cwd)
    };
    client
        .call::<Start>(&params)
        .await
        .map(drop)
        .map_err(|error| format!("can't start a shell there: {error}"))
}

/// What the machine is; servers before 0.169 tell it only when asked.
async fn info(client: &Client) -> Result<EnvironmentInfo, ClientError> {
    match client.environment_info() {
        Some(info) => Ok(info),
        None => client.call::<Info>(&NoParams).await,
    }
}
