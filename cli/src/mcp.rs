//! `codex exec-server mcp`: an environment as tools for agents that speak the Model Context Protocol.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use codex_exec_server::client::{Dial, Rest};
use codex_exec_server::protocol::sandbox::{Network, Permissions};
use codex_mcp::{
    Agent, Confinement, Environments, HttpAccess, Lender, Limits, Way, print_config, serve_http, serve_stdio,
};
use codex_outgoing::file;
use codex_secret::Secret;
use tokio::signal::unix::{SignalKind, signal};

use crate::codes::WRONG_USAGE;
use crate::output;
use crate::reach::ReachArgs;
use crate::setup::Setup;
use crate::table;
use crate::target::{TargetArgs, rest_of, tell};

/// Holds the token that clients over HTTP have to show; never handed on to programs.
const TOKEN_VARIABLE: &str = "CODEX_EXEC_SERVER_MCP_TOKEN";

/// Lends an environment to an agent that speaks MCP: its programs, files and HTTP as tools, over stdin and stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server mcp -E box --root /srv/app --sandbox workspace-write
  codex exec-server mcp -E box --print-config claude
  codex exec-server mcp -E box --also ci --http 127.0.0.1:8090")]
pub(crate) struct McpArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Another environment that the tools may use, by its name. May be given several times.
    #[arg(long, value_name = "NAME")]
    also: Vec<String>,
    /// Where relative paths begin and programs start, on the environment's machine [default: the first --root, else where
    /// its server works].
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// A directory that the file tools stay in and that programs start in. May be given several times. Programs go where they like unless
    /// --sandbox holds them.
    #[arg(long = "root", value_name = "DIR")]
    roots: Vec<PathBuf>,
    /// What programs and the file tools may touch, enforced by the kernel of the environment's machine: read-only,
    /// workspace-write (the roots, or --cwd), or a file with a permission profile as JSON.
    #[arg(long, value_name = "PROFILE")]
    sandbox: Option<String>,
    /// Serve many clients over HTTP at this address, at /mcp, instead of one over stdin and stdout. Elsewhere than on
    /// loopback, clients need a token.
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// File that holds the token that clients over HTTP have to show; without it, CODEX_EXEC_SERVER_MCP_TOKEN is used if it is set.
    #[arg(long, value_name = "PATH", requires = "http")]
    http_token_file: Option<PathBuf>,
    /// A web origin whose pages may use the tools over HTTP, as https://HOST:PORT. Repeatable; all others are refused.
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    allow_origin: Vec<String>,
    /// Print the block that makes an agent use this very command, for its configuration, and end.
    #[arg(long, value_name = "AGENT")]
    print_config: Option<AgentArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AgentArg {
    /// Claude Code and Claude Desktop.
    Claude,
    /// Codex.
    Codex,
    /// Cursor.
    Cursor,
    /// Visual Studio Code.
    Vscode,
    /// Gemini CLI.
    Gemini,
    /// Windsurf.
    Windsurf,
}

/// Serves until the client goes, or until it is told to end.
///
/// # Errors
/// What keeps it from serving at all.
pub(crate) async fn mcp(args: McpArgs, setup: Setup) -> anyhow::Result<u8> {
    if let Some(agent) = args.print_config {
        return print(&args, agent);
    }
    let token = http_token(&args)?;
    if let Some(address) = args.http.filter(|address| token.is_none() && !address.ip().is_loopback()) {
        output::error(&format!(
            "--http {address} is open to other machines: give a token with --http-token-file or in {TOKEN_VARIABLE}"
        ));
        return Ok(WRONG_USAGE);
    }
    // A slip in the flags is told now, not to the first caller of a tool.
    let target = match args.reach.target.find(&setup) {
        Ok(target) => target,
        Err(error) => return Ok(tell(&error)),
    };
    let confinement = match confinement(&args, target.is_remote()) {
        Ok(confinement) => confinement,
        Err(error) => {
            output::error(&output::sentence(&error));
            return Ok(WRONG_USAGE);
        }
    };
    let is_named = target.name().is_some();
    let name = target.name().unwrap_or(if target.is_remote() { "remote" } else { "local" }).to_owned();
    let lender = Lender::new(
        environments(&args, name, is_named, Arc::new(setup))?,
        confinement,
        Limits::default(),
        env!("CARGO_PKG_VERSION"),
    );
    // Before an address is printed: who reads it may end us.
    let told = told_to_end()?;
    let served = tokio::select! {
        served = serve(&args, token, lender.clone()) => served,
        () = told => Ok(()),
    };
    lender.close().await;
    served.map(|()| 0)
}

fn environments(
    args: &McpArgs,
    name: String,
    is_named: bool,
    setup: Arc<Setup>,
) -> anyhow::Result<Environments> {
    let mut environments = Environments::default();
    let others =
        args.also.iter().filter(|also| **also != name).map(|also| (also.clone(), TargetArgs::named(also)));
    let first = (name.clone(), args.reach.target.clone());
    for (index, (name, target)) in [first].into_iter().chain(others).enumerate() {
        // One that is given by its address has no mark.
        let rest = if index > 0 || is_named { rest_of(&setup, &name) } else { Rest::default() };
        let setup = Arc::clone(&setup);
        let dial = Dial::new(move || match target.find(&setup) {
            Ok(found) => Ok(found.into_parts()),
            Err(error) => Err(error.to_string()),
        });
        environments.add(name, dial.resting_while(rest))?;
    }
    Ok(environments)
}

async fn serve(args: &McpArgs, token: Option<Secret>, lender: Lender) -> anyhow::Result<()> {
    let Some(address) = args.http else { return Ok(serve_stdio(lender).await?) };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen at --http {address}"))?;
    let bound = listener.local_addr().context("can't tell the address that was bound")?;
    output::line(&format!("http://{bound}/mcp")).context("can't write to stdout")?;
    serve_http(listener, lender, HttpAccess { token, origins: args.allow_origin.clone() }).await;
    Ok(())
}

/// Listens from the call on; what is returned waits for SIGTERM or Ctrl-C.
fn told_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("can't listen for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn http_token(args: &McpArgs) -> anyhow::Result<Option<Secret>> {
    let Some(path) = &args.http_token_file else {
        return Ok(std::env::var(TOKEN_VARIABLE).ok().map(Secret::new).and_then(Secret::trimmed));
    };
    let token =
        file::read_secret(path).with_context(|| format!("can't read the token from {}", path.display()))?;
    token.trimmed().map(Some).with_context(|| format!("the token file {} is empty", path.display()))
}

/// What the flags confine the tools to; paths of this machine may be relative.
fn confinement(args: &McpArgs, remote: bool) -> anyhow::Result<Confinement> {
    let whole = |flag: &str, path: &PathBuf| {
        if path.is_absolute() {
            return Ok(path.clone());
        }
        if remote {
            bail!("{flag} {} is not absolute; it is a path of the environment's machine", path.display());
        }
        std::path::absolute(path).with_context(|| format!("can't tell where {flag} {} is", path.display()))
    };
    let roots = args.roots.iter().map(|root| whole("--root", root)).collect::<anyhow::Result<Vec<_>>>()?;
    if args.cwd.is_some() && !roots.is_empty() {
        bail!("--cwd and --root don't go together: relative paths begin at the first --root");
    }
    let cwd = args.cwd.as_ref().map(|cwd| whole("--cwd", cwd)).transpose()?;
    let permissions = args.sandbox.as_deref().map(permissions).transpose()?;
    Ok(Confinement { roots, cwd, permissions })
}

fn permissions(profile: &str) -> anyhow::Result<Permissions> {
    Ok(match profile {
        "read-only" => Permissions::read_only(Network::Restricted),
        "workspace-write" => Permissions::workspace_write(Network::Restricted),
        path => {
            let text = std::fs::read_to_string(Path::new(path)).with_context(|| {
                format!("--sandbox takes read-only, workspace-write or a file; can't read {path:?}")
            })?;
            serde_json::from_str(&text).with_context(|| format!("{path:?} is no permission profile"))?
        }
    })
}

fn print(args: &McpArgs, agent: AgentArg) -> anyhow::Result<u8> {
    let way = match args.http {
        Some(address) => Way::Http {
            url: format!("http://{address}/mcp"),
            token_variable: http_token(args)?.is_some().then_some(TOKEN_VARIABLE),
        },
        None => {
            let program = std::env::current_exe().context("can't tell where this program's own file is")?;
            Way::Program { command: program.to_string_lossy().into_owned(), args: own_arguments() }
        }
    };
    let agent = match agent {
        AgentArg::Claude => Agent::Claude,
        AgentArg::Codex => Agent::Codex,
        AgentArg::Cursor => Agent::Cursor,
        AgentArg::Vscode => Agent::VsCode,
        AgentArg::Gemini => Agent::Gemini,
        AgentArg::Windsurf => Agent::Windsurf,
    };
    Ok(table::printed(output::bytes(print_config(agent, &way).as_bytes())))
}

/// The arguments of this command, without the wish for a block.
fn own_arguments() -> Vec<String> {
    let mut arguments = Vec::new();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--print-config" => drop(given.next()),
            other if other.starts_with("--print-config=") => {}
            _ => arguments.push(argument),
        }
    }
    arguments
}
