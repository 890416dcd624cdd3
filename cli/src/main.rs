//! The `codex` binary: the argument tree, and one file for each subcommand.

mod attach;
mod cat;
mod closed_stdout;
mod codes;
mod command_line;
mod completion;
mod conformance;
mod connect;
mod console;
mod cp;
mod doctor;
mod edit;
mod env;
mod event_loop;
mod exit_codes;
mod hidden_entry;
mod kill;
mod login;
mod logout;
mod logs;
mod ls;
mod man;
mod mcp;
mod output;
mod play;
mod port_forward;
mod probe;
mod programs;
mod ps;
mod reach;
mod rec;
mod remote;
mod rendezvous;
mod resident;
mod resident_memory;
mod run;
mod sandbox;
mod serve;
mod service;
mod setup;
mod shell;
#[cfg(test)]
mod snapshots;
mod table;
mod target;
mod there;
mod top;
mod upgrade;
mod values;
mod wait;
mod web_console;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};

use codex_children::signals;
use command_line::words;
use event_loop::event_loop;
use setup::{ConfigArgs, Setup, Surroundings};

/// Lends a machine to a coding agent.
#[derive(Debug, Parser)]
#[command(
    name = "codex",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  codex exec-server run -- make test
  codex exec-server --listen ws://127.0.0.1:4500
  codex doctor"
)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    /// Treat unknown keys of the configuration as errors; for exec-server only.
    #[arg(long)]
    strict_config: bool,
    /// Only for the agent's own commands; the commands here refuse it.
    #[arg(short, long, value_name = "NAME", hide = true)]
    profile: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve programs, files and HTTP of this machine to an agent, or run a program through such a server.
    ExecServer(Box<ExecServer>),
    /// Sign in, or tell who is signed in.
    Login(login::LoginArgs),
    /// Sign out: revoke and remove the stored credentials.
    Logout(logout::LogoutArgs),
    /// Print a script that completes commands and flags in a shell.
    Completion(completion::CompletionArgs),
    /// Write the manual, one page for each command.
    Man(man::ManArgs),
    /// Run a program under a sandbox, as an exec-server does, to try a policy out.
    Sandbox(sandbox::SandboxArgs),
    /// Check this machine, and the way to an environment, and say how to mend what is broken.
    Doctor(Box<doctor::DoctorArgs>),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server                                       # serve on a free port of loopback
  codex exec-server --listen unix:///run/user/1000/exec.sock
  codex exec-server --remote https://registry.example --environment-id ci-1
  codex exec-server env add box ssh://me@box.example      # and use it:
  codex exec-server shell box")]
struct ExecServer {
    #[command(subcommand)]
    command: Option<ExecServerCommand>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Treat every problem of the configuration, unknown keys included, as an error.
    #[arg(long)]
    strict_config: bool,
    #[command(flatten)]
    remote: remote::RemoteArgs,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Debug, Subcommand)]
enum ExecServerCommand {
    /// Run a program through an exec-server, as if it ran here.
    Run(run::RunArgs),
    /// Open a login shell in an environment, which can be left running and attached to again.
    Shell(shell::ShellArgs),
    /// Attach this terminal to a running program.
    Attach(attach::AttachArgs),
    /// List programs.
    Ps(ps::PsArgs),
    /// Show the CPU time and memory that programs use.
    Top(top::TopArgs),
    /// Print what a program has printed.
    Logs(logs::LogsArgs),
    /// Record what a program has printed, for `play` and asciinema.
    Rec(rec::RecArgs),
    /// Play a recording.
    Play(play::PlayArgs),
    /// Wait until programs have ended.
    Wait(wait::WaitArgs),
    /// End programs, or send them a signal.
    #[command(alias = "stop")]
    Kill(kill::KillArgs),
    /// Name machines once, for -E NAME everywhere, and say which one is in use.
    Env(env::EnvArgs),
    /// Copy files and trees to and from environments, and between them.
    Cp(cp::CpArgs),
    /// List files of an environment.
    Ls(ls::LsArgs),
    /// Print files of an environment.
    Cat(cat::CatArgs),
    /// Edit a file of an environment with the editor of this machine.
    Edit(edit::EditArgs),
    /// Make ports of an environment reachable on this machine, or ports of this machine in an environment.
    PortForward(port_forward::PortForwardArgs),
    /// Lend an environment to an agent that speaks MCP: its programs, files and HTTP as tools.
    Mcp(Box<mcp::McpArgs>),
    /// Speak the protocol of an environment over stdin and stdout, whatever way leads to it.
    Connect(connect::ConnectArgs),
    /// Test any exec-server against the protocol, rule by rule, and print which rules it keeps.
    Conformance(conformance::ConformanceArgs),
    /// Show all environments on a web page: programs, live terminals, logs, files and forwards.
    Console(Box<web_console::ConsoleArgs>),
    /// Run a registry and rendezvous: machines behind any firewall dial in, and agents reach them through it.
    Rendezvous(rendezvous::RendezvousArgs),
    /// Have systemd run the server, or a rendezvous, for your user.
    Service(service::ServiceArgs),
    /// Have a running server give way to another binary; what runs below it goes on.
    Upgrade(upgrade::UpgradeArgs),
    /// Register a server that runs already, so that agents reach it through the registry.
    Forward(Box<serve::ForwardArgs>),
    /// Lead stdin and stdout to the server that stays on a machine where this program was brought.
    #[command(hide = true)]
    Resident(resident::ResidentArgs),
    /// Print this help, or that of a subcommand; `help exit-codes` tells what every exit code means.
    Help {
        /// The subcommand to explain, or exit-codes.
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
}

fn main() -> ExitCode {
    // Before anything else: a launcher has no time, and no rights to lose.
    if let Some(code) = hidden_entry::run() {
        return code;
    }
    signals::unblock();
    resident_memory::keep_freed_memory();
    // Before anything else reads the environment, and before there is a second thread.
    let surroundings = Surroundings::enter();
    match parse() {
        Ok(cli) => dispatch(cli, surroundings),
        Err(error) => error.exit(),
    }
}

/// The whole argument tree, with the exit codes in each help.
fn tree() -> clap::Command {
    exit_codes::told_by(Cli::command())
}

fn parse() -> Result<Cli, clap::Error> {
    let matches = tree().try_get_matches_from(words(std::env::args_os()))?;
    refuse_server_flags_for_subcommands(&matches)?;
    Cli::from_arg_matches(&matches)
}

/// The server's own flags mean nothing to a subcommand. (clap could refuse them by itself, but it would refuse -c and --strict-config as well.)
fn refuse_server_flags_for_subcommands(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some(exec_server) = matches.subcommand_matches("exec-server") else { return Ok(()) };
    let Some(name) = exec_server.subcommand_name() else { return Ok(()) };
    let flags = remote::RemoteArgs::augment_args(serve::ServeArgs::augment_args(clap::Command::new("")));
    let given = |id: &str| exec_server.value_source(id) == Some(ValueSource::CommandLine);
    if flags.get_arguments().any(|flag| given(flag.get_id().as_str())) {
        return Err(Cli::command().error(
            ErrorKind::ArgumentConflict,
            format!("flags of the server cannot be used with the subcommand '{name}'"),
        ));
    }
    Ok(())
}

/// An error of `codex exec-server`, as the parser words one.
fn wrong_usage(kind: ErrorKind, text: &str) -> clap::Error {
    let mut command = Cli::command();
    command.build();
    match command.find_subcommand_mut("exec-server") {
        Some(exec_server) => exec_server.error(kind, text),
        None => command.error(kind, text),
    }
}

/// The same of `codex exec-server forward`.
fn wrong_usage_of_forward(kind: ErrorKind, text: &str) -> clap::Error {
    let mut command = Cli::command();
    command.build();
    let exec_server = command.find_subcommand_mut("exec-server");
    match exec_server.and_then(|exec_server| exec_server.find_subcommand_mut("forward")) {
        Some(forward) => forward.error(kind, text),
        None => wrong_usage(kind, text),
    }
}

/// Prints the help of `codex exec-server`, or of a subcommand of it, as `--help` does.
fn help(subcommand: Option<&str>) -> ExitCode {
    if subcommand == Some(exit_codes::TOPIC) {
        return ExitCode::from(table::printed(output::bytes(exit_codes::page().as_bytes())));
    }
    let words = ["codex", "exec-server"].into_iter().chain(subcommand).chain(["--help"]);
    match tree().try_get_matches_from(words) {
        Err(shown) => shown.exit(),
        Ok(_) => ExitCode::SUCCESS,
    }
}

fn dispatch(cli: Cli, surroundings: Surroundings) -> ExitCode {
    let Cli { mut config, mut strict_config, profile, command } = cli;
    if profile.is_some() {
        return fail(
            "--profile only applies to runtime commands of the agent; exec-server, login and logout have none",
        );
    }
    match command {
        Command::Login(mut args) => {
            config.extend(args.take_config());
            start_never_strict("login", config, strict_config, surroundings, |setup| {
                login::login(args, setup)
            })
        }
        Command::Logout(args) => {
            config.extend(args.config);
            start_never_strict("logout", config, strict_config, surroundings, logout::logout)
        }
        Command::Completion(args) => ExitCode::from(table::printed(completion::completion(&args, tree()))),
        // Before any thread or event loop, whose descriptors a launcher would inherit.
        Command::Sandbox(args) => ended(sandbox::run(args)),
        Command::Doctor(mut args) => {
            config.extend(std::mem::take(&mut args.config));
            let begun = doctor::begin(&args);
            start(config, strict_config, surroundings, |setup| doctor::run(*args, begun, setup))
        }
        Command::Man(args) => ended(man::man(&args, tree())),
        Command::ExecServer(exec_server) => {
            let exec_server = *exec_server;
            config.extend(exec_server.config);
            strict_config |= exec_server.strict_config;
            match exec_server.command {
                Some(ExecServerCommand::Run(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    strict_config |= args.strict_config;
                    start(config, strict_config, surroundings, |setup| run::run(args, setup))
                }
                Some(ExecServerCommand::Shell(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| shell::shell(args, setup))
                }
                Some(ExecServerCommand::Attach(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| attach::attach(args, setup))
                }
                Some(ExecServerCommand::Ps(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| ps::ps(args, setup))
                }
                Some(ExecServerCommand::Top(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| top::top(args, setup))
                }
                Some(ExecServerCommand::Logs(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| logs::logs(args, setup))
                }
                Some(ExecServerCommand::Rec(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| rec::rec(args, setup))
                }
                Some(ExecServerCommand::Play(args)) => {
                    start(config, strict_config, surroundings, |_| play::play(args))
                }
                Some(ExecServerCommand::Wait(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| wait::wait(args, setup))
                }
                Some(ExecServerCommand::Kill(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start(config, strict_config, surroundings, |setup| kill::kill(args, setup))
                }
                Some(ExecServerCommand::Env(mut args)) => {
                    config.extend(args.take_config());
                    start(config, strict_config, surroundings, |setup| env::env(args, setup))
                }
                Some(ExecServerCommand::Cp(mut args)) => {
                    let reach = args.reach.take_config(&mut strict_config);
                    config.extend(reach);
                    start(config, strict_config, surroundings, |setup| cp::cp(args, setup))
                }
                Some(ExecServerCommand::Ls(mut args)) => {
                    let reach = args.reach.take_config(&mut strict_config);
                    config.extend(reach);
                    start(config, strict_config, surroundings, |setup| ls::ls(args, setup))
                }
                Some(ExecServerCommand::Cat(mut args)) => {
                    let reach = args.reach.take_config(&mut strict_config);
                    config.extend(reach);
                    start(config, strict_config, surroundings, |setup| cat::cat(args, setup))
                }
                Some(ExecServerCommand::Edit(mut args)) => {
                    let reach = args.reach.take_config(&mut strict_config);
                    config.extend(reach);
                    start(config, strict_config, surroundings, |setup| edit::edit(args, setup))
                }
                Some(ExecServerCommand::PortForward(mut args)) => {
                    let reach = args.reach.take_config(&mut strict_config);
                    config.extend(reach);
                    start(config, strict_config, surroundings, |setup| {
                        port_forward::port_forward(args, setup)
                    })
                }
                Some(ExecServerCommand::Mcp(mut args)) => {
                    config.extend(args.reach.take_config(&mut strict_config));
                    start(config, strict_config, surroundings, |setup| mcp::mcp(*args, setup))
                }
                Some(ExecServerCommand::Connect(mut args)) => {
                    config.extend(args.reach.take_config(&mut strict_config));
                    start(config, strict_config, surroundings, |setup| connect::connect(args, setup))
                }
                Some(ExecServerCommand::Conformance(mut args)) => {
                    config.extend(args.reach.take_config(&mut strict_config));
                    start(config, strict_config, surroundings, |setup| conformance::conformance(args, setup))
                }
                Some(ExecServerCommand::Console(mut args)) => {
                    config.extend(args.reach.take_config(&mut strict_config));
                    start(config, strict_config, surroundings, |setup| web_console::console(*args, setup))
                }
                Some(ExecServerCommand::Rendezvous(args)) => {
                    start(config, strict_config, surroundings, |setup| rendezvous::rendezvous(args, setup))
                }
                Some(ExecServerCommand::Forward(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    strict_config |= args.strict_config;
                    start(config, strict_config, surroundings, |setup| {
                        serve::forward(*args, setup, wrong_usage_of_forward)
                    })
                }
                Some(ExecServerCommand::Service(args)) => ended(service::service(&args)),
                Some(ExecServerCommand::Upgrade(mut args)) => {
                    config.extend(std::mem::take(&mut args.config));
                    start_alone(config, strict_config, surroundings, |setup| upgrade::upgrade(&args, &setup))
                }
                Some(ExecServerCommand::Resident(args)) => {
                    start(config, strict_config, surroundings, |_| resident::resident(args))
                }
                Some(ExecServerCommand::Help { command }) => help(command.as_deref()),
                None => start_alone(config, strict_config, surroundings, |setup| {
                    serve::serve(exec_server.serve, exec_server.remote, setup, wrong_usage)
                }),
            }
        }
    }
}

/// Refuses unknown features, then runs a command with what all levels of the command line say.
fn start<W: Future<Output = anyhow::Result<u8>>>(
    config: ConfigArgs,
    strict: bool,
    surroundings: Surroundings,
    work: impl FnOnce(Setup) -> W,
) -> ExitCode {
    start_alone(config, strict, surroundings, |setup| event_loop(work(setup)))
}

/// The same for work that begins without an event loop, and as the only thread.
fn start_alone(
    config: ConfigArgs,
    strict: bool,
    surroundings: Surroundings,
    work: impl FnOnce(Setup) -> anyhow::Result<u8>,
) -> ExitCode {
    if let Err(error) = config.check_features() {
        return fail(&error.to_string());
    }
    signals::survive_large_files();
    output::start_logging();
    ended(work(Setup::new(surroundings, config, strict)))
}

/// Like [`start`], for `login` and `logout`: never strict, and without logs on stderr, where what these commands say is
/// an interface.
fn start_never_strict<W: Future<Output = anyhow::Result<u8>>>(
    command: &str,
    config: ConfigArgs,
    strict: bool,
    surroundings: Surroundings,
    work: impl FnOnce(Setup) -> W,
) -> ExitCode {
    if strict {
        return fail(&format!("`--strict-config` is not supported for `codex {command}`"));
    }
    if let Err(error) = config.check_features() {
        return fail(&error.to_string());
    }
    signals::survive_large_files();
    block_on(work(Setup::new(surroundings, config, false)))
}

fn fail(text: &str) -> ExitCode {
    output::error(text);
    ExitCode::FAILURE
}

fn block_on(work: impl Future<Output = anyhow::Result<u8>>) -> ExitCode {
    ended(event_loop(work))
}

/// The exit code; an error is told first.
fn ended(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&output::sentence(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_tree_is_sound_at_every_level() {
        Cli::command().debug_assert();
    }
}
