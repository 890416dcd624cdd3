//! The `codex` binary: the argument tree, and one file for each subcommand.

mod doctor;
mod launch;
mod output;
mod run;
mod sandbox;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Lends a machine to a coding agent.
#[derive(Debug, Parser)]
#[command(name = "codex", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve programs, files and HTTP of this machine to an agent, or run a program through such a server.
    ExecServer(ExecServer),
    /// Run a program under a sandbox, as an exec-server would, to try a policy out.
    Sandbox(sandbox::SandboxArgs),
    /// Say what this machine lets an exec-server do: which sandboxes it can enforce.
    Doctor,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
struct ExecServer {
    #[command(subcommand)]
    command: Option<ExecServerCommand>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum ExecServerCommand {
    /// Run a program through an exec-server, as if it ran here.
    Run(run::RunArgs),
}

fn main() -> ExitCode {
    // Before anything else: a launcher has no time, and no rights to lose.
    if let Some(code) = launch::launched() {
        return code;
    }
    let command = Cli::parse().command;
    output::start_logging();
    let exec_server = match command {
        Command::ExecServer(exec_server) => exec_server,
        Command::Sandbox(args) => return ended(sandbox::run(args)),
        Command::Doctor => return ended(doctor::run()),
    };
    let work = async {
        match exec_server.command {
            Some(ExecServerCommand::Run(args)) => run::run(args).await,
            None => serve::serve(exec_server.serve).await,
        }
    };
    // One thread: a wake-up on another core costs more than most requests (design.md).
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&format!("can't start the event loop: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = ended(runtime.block_on(work));
    // A worker thread may hang in a file system for good; it must not keep the process.
    runtime.shutdown_background();
    code
}

/// The exit code; an error is told first.
fn ended(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&output::sentence(&error));
            ExitCode::FAILURE
        }
    }
}
