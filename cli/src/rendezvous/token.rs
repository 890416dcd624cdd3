//! `rendezvous token`: makes access tokens, for a file or for the nodes that share them.

mod shared;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use codex_rendezvous::tokens::{self, Grant, Role, Scope};
use codex_secret::Secret;
use rustix::fs::{FileType, fstat};

use super::broker::BrokerArgs;
use super::usage::wrong_usage;
use crate::output::{self, note};
use crate::setup::Setup;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  codex exec-server rendezvous token --role executor --environment ci-1 >> tokens
  codex exec-server rendezvous token --role harness --environment '*' --name alice"
)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: Option<TokenCommand>,
    #[command(flatten)]
    kind: KindArgs,
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Add a token to those that the nodes of a rendezvous share: it is good at all of them at once. stdout gets the token,
    /// which is kept nowhere.
    Add(AddArgs),
    /// Take shared tokens away: their sockets are closed at all nodes.
    Rm(RmArgs),
    /// List the shared tokens.
    Ls(LsArgs),
}

/// What a token is for.
#[derive(Debug, clap::Args)]
struct KindArgs {
    /// What its bearer may do; may be given several times.
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<RoleArg>,
    /// The environments it is for, with commas between them, or * for all; may be given several times.
    #[arg(long, value_name = "ID", required = true, value_parser = scope)]
    environment: Vec<Scope>,
    /// What people call it.
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex exec-server rendezvous token add --cluster nats://broker:4222 --cluster-secret-file secret --role harness --environment '*'")]
struct AddArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// What its bearer may do; may be given several times.
    #[arg(long, value_name = "ROLE", required_unless_present = "from")]
    role: Vec<RoleArg>,
    /// The environments it is for, with commas between them, or * for all; may be given several times.
    #[arg(long, value_name = "ID", required_unless_present = "from", value_parser = scope)]
    environment: Vec<Scope>,
    /// What people call it.
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// Add the tokens whose lines are in this file, as --tokens has them, instead of a new one.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["role", "environment", "name"])]
    from: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex exec-server rendezvous token rm --cluster nats://broker:4222 --cluster-secret-file secret alice")]
struct RmArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The tokens, each by what `rendezvous token ls` calls it: the beginning of its hash, or its name.
    #[arg(value_name = "TOKEN", required = true)]
    tokens: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  codex exec-server rendezvous token ls --cluster nats://broker:4222 --cluster-secret-file secret")]
struct LsArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Lends a machine.
    Executor,
    /// Uses machines.
    Harness,
    /// Reads the metrics.
    Observer,
}

fn scope(text: &str) -> Result<Scope, String> {
    tokens::scope(text).map_err(|word| {
        format!("{word:?} is no environment; ids are 1 to 256 of A-Z a-z 0-9 - _, or * for all")
    })
}

/// Makes a token, or works on those that nodes share.
pub(super) async fn token(args: TokenArgs, setup: &Setup) -> anyhow::Result<u8> {
    match args.command {
        None => made(&args.kind.role, &args.kind.environment, &args.kind.name),
        Some(TokenCommand::Add(args)) => shared::add(args, setup).await,
        Some(TokenCommand::Rm(args)) => shared::rm(args, setup).await,
        Some(TokenCommand::Ls(args)) => shared::ls(args, setup).await,
    }
}

fn mint(roles: &[RoleArg], environments: &[Scope], name: &str) -> (Secret, Grant) {
    let roles = roles.iter().map(|role| match role {
        RoleArg::Executor => Role::Executor,
        RoleArg::Harness => Role::Harness,
        RoleArg::Observer => Role::Observer,
    });
    tokens::mint(roles.collect(), union(environments), name)
}

fn made(roles: &[RoleArg], environments: &[Scope], name: &str) -> anyhow::Result<u8> {
    if let Some(problem) = nowhere_to_show() {
        return wrong_usage(&problem);
    }
    let (token, grant) = mint(roles, environments, name);
    if !is_file(std::io::stdout()) {
        output::line(token.expose())
            .and_then(|()| output::line(&grant.to_string()))
            .context("can't print the token")?;
        note("The first line is the token, shown this once; the second belongs into the --tokens file.");
        return Ok(0);
    }
    // Most likely the --tokens file, which must not hold the token itself.
    output::line(&grant.to_string()).context("can't print the line for the --tokens file")?;
    note("The token, shown this once; stdout got the line for the --tokens file:");
    note(token.expose());
    Ok(0)
}

/// A token is shown to people or programs, and put into no file.
fn nowhere_to_show() -> Option<anyhow::Error> {
    (is_file(std::io::stdout()) && is_file(std::io::stderr())).then(|| {
        anyhow::anyhow!(
            "stdout and stderr are files, and the token itself is to be kept nowhere; let stderr be a terminal or a pipe"
        )
    })
}

fn is_file(stream: impl AsFd) -> bool {
    fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

fn union(scopes: &[Scope]) -> Scope {
    let mut ids = BTreeSet::new();
    for scope in scopes {
        match scope {
            Scope::All => return Scope::All,
            Scope::Only(more) => ids.extend(more.iter().cloned()),
        }
    }
    Scope::Only(ids)
}
