//! `codex exec-server forward`: offers a server that runs already to a registry, with no server of its own.

use std::path::PathBuf;

use anyhow::Context;
use clap::error::ErrorKind;
use codex_exec_server::remote::{Forward, Lent};
use codex_outgoing::{Outgoing, file};
use codex_secret::Secret;

use super::configured;
use super::ending::Signals;
use crate::codes::WRONG_USAGE;
use crate::output;
use crate::remote::{self, RemoteArgs, WrongUsage};
use crate::setup::{ConfigArgs, Setup};

/// Holds the token for a server with --ws-auth.
const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_TOKEN";

/// The flags of `codex exec-server forward`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex exec-server forward --connect ws://127.0.0.1:4500 --remote https://registry.example --environment-id ci-1")]
pub(crate) struct ForwardArgs {
    /// The server that runs already: a ws:// or wss:// URL. Each stream of the registry's rendezvous gets a connection of its
    /// own there.
    #[arg(long, value_name = "URL")]
    connect: String,
    /// File that holds the token for a server with --ws-auth; without it CODEX_EXEC_SERVER_TOKEN is looked at.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Treat every problem of the configuration, unknown keys included, as an error.
    #[arg(long)]
    pub(crate) strict_config: bool,
}

/// Forwards until a signal or a failure for good.
pub(crate) async fn forward(
    args: ForwardArgs,
    setup: Setup,
    usage: fn(ErrorKind, &str) -> clap::Error,
) -> anyhow::Result<u8> {
    let plan = args.remote.plan(false, |name| std::env::var(name).ok()).and_then(|plan| {
        plan.ok_or_else(|| WrongUsage {
            kind: ErrorKind::MissingRequiredArgument,
            text: "the following required arguments were not provided:\n  --remote <URL>".to_owned(),
        })
    });
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            // Nothing can be done about a closed stderr.
            let _ = usage(error.kind, &error.text).print();
            return Ok(WRONG_USAGE);
        }
    };
    let token = token(args.token_file)?;
    let (home, settings) = setup.load()?;
    settings.warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
    let limits = configured::limits(&settings.exec_server)?;
    let outgoing = Outgoing::from_lookup(|name| std::env::var(name).ok());
    let forward = match Forward::new(&args.connect, token.as_ref(), outgoing, limits) {
        Ok(forward) => forward,
        Err(problem) => {
            output::error(&format!("--connect can't be used: {problem}"));
            return Ok(WRONG_USAGE);
        }
    };
    let mut signals = Signals::new(None).context("can't listen for signals")?;
    Ok(remote::attach(plan, &home, &settings, Lent::Forward(forward), signals.end()).await)
}

/// The token of the server, from the file or else from the environment.
fn token(path: Option<PathBuf>) -> anyhow::Result<Option<Secret>> {
    let Some(path) = path else {
        return Ok(std::env::var(TOKEN_VARIABLE).ok().map(Secret::new).filter(|token| !token.is_blank()));
    };
    let token =
        file::read_secret(&path).with_context(|| format!("can't read the token from {}", path.display()))?;
    anyhow::ensure!(!token.is_blank(), "the token file {} is empty", path.display());
    Ok(Some(token))
}
