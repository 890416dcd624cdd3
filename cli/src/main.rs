//! The `codex` binary: the argument tree, and one file for each subcommand.

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
    let Command::ExecServer(exec_server) = Cli::parse().command;
    output::start_logging();
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
    let code = match runtime.block_on(work) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&output::sentence(&error));
            ExitCode::FAILURE
        }
    };
    // A worker thread may hang in a file system for good; it must not keep the process.
    runtime.shutdown_background();
    code
}
