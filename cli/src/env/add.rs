//! `env add`: what an address on the command line is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use codex_config::environments::Place;
use codex_exec_server::client::RegistryEnvironment;

use super::write::change;
use crate::setup::Setup;
use crate::target::{self, FIRST_ANSWER, Far, FarArgs, TargetError, read_token};
use crate::values::{seconds_or_0, variable};

/// Names an environment.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server env add box wss://box.example:8765 --token-file ~/box.token --use
  codex exec-server env add ci https://registry.example --environment-id ci-1
  codex exec-server env add web 'ssh://vm|docker://web' --resident
  codex exec-server env add old ssh://old.example --binary target/x86_64-unknown-linux-musl/dist/codex
  codex exec-server env add own -- ssh vm codex exec-server --listen stdio")]
pub(super) struct AddArgs {
    /// The name: ASCII letters, digits, `-` and `_`, at most 64.
    #[arg(value_name = "NAME")]
    name: String,
    /// Where it is: ws://HOST:PORT, wss://HOST, unix:///PATH, or a registry's https:// address with --environment-id; or a
    /// machine that needs nothing but a shell, since this program is brought there: ssh://USER@HOST:PORT, docker://CONTAINER,
    /// kubectl://NAMESPACE/POD, or several with | between.
    #[arg(value_name = "TARGET", required_unless_present = "program")]
    target: Option<String>,
    /// The id under which the environment registered at the registry.
    #[arg(long, value_name = "ID")]
    environment_id: Option<String>,
    /// File that holds the token: for ws:// and wss:// it is copied into environments.toml, else the file is read at each use.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// Give up connecting after this many seconds; for ws:// and wss:// addresses.
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_0)]
    connect_timeout: Option<Duration>,
    #[command(flatten)]
    far: FarArgs,
    /// A variable for the program. May be given several times.
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = variable, requires = "program")]
    env: Vec<(String, String)>,
    /// The directory that the program works in [default: that of whoever uses the environment].
    #[arg(long, value_name = "DIR", requires = "program")]
    cwd: Option<PathBuf>,
    /// Use this environment from now on where none is named.
    #[arg(long = "use")]
    use_it: bool,
    /// A program that serves on its stdin and stdout, with its arguments, after two hyphens.
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "target")]
    program: Vec<String>,
}

/// Writes it down.
pub(super) fn add(args: AddArgs, setup: &Setup) -> anyhow::Result<u8> {
    let place = match place(&args) {
        Ok(place) => place,
        Err(error) => return error.downcast::<TargetError>().map(|error| target::tell(&error)),
    };
    change(setup, |edited| {
        edited.add(&args.name, &place)?;
        if codex_bring::Target::is_meant_by(args.target.as_deref().unwrap_or_default()) {
            edited.set_initialize_time(&args.name, FIRST_ANSWER)?;
        }
        match args.use_it {
            // What was added is not among what was found.
            true => edited.use_added(&args.name),
            false => Ok(()),
        }
    })
}

/// An error that ends as wrong usage does.
fn wrong(text: String) -> anyhow::Error {
    TargetError::Usage(text).into()
}

/// Fails so unless it holds.
fn needs(holds: bool, otherwise: impl Into<String>) -> Result<(), TargetError> {
    if holds { Ok(()) } else { Err(TargetError::Usage(otherwise.into())) }
}

fn place(args: &AddArgs) -> anyhow::Result<Place> {
    let absolute = |path: &Path| std::path::absolute(path);
    let token_file = args.token_file.as_deref().map(absolute).transpose()?;
    let target = args.target.as_deref().unwrap_or_default();
    let scheme = target.split_once("://").map_or("", |(scheme, _)| scheme);
    needs(
        args.environment_id.is_none() || matches!(scheme, "http" | "https"),
        "--environment-id goes with a registry's https:// address",
    )?;
    needs(
        args.connect_timeout.is_none() || matches!(scheme, "ws" | "wss"),
        "--connect-timeout goes with a ws:// or wss:// address",
    )?;
    let is_far = codex_bring::Target::is_meant_by(target);
    if let Some(flag) = args.far.given().filter(|_| !is_far) {
        needs(false, format!("{flag} goes with an ssh://, docker:// or kubectl:// address"))?;
    }
    if is_far {
        needs(
            token_file.is_none(),
            "--token-file goes with a server's own address; the way there asks for none",
        )?;
        let program = std::env::current_exe().context("can't tell where this program's own file is")?;
        let words = Far::new(target, &args.far)?.to_words()?;
        return Ok(Place::Program { program, args: words, env: BTreeMap::new(), cwd: None });
    }
    if let Some((program, rest)) = args.program.split_first() {
        needs(token_file.is_none(), "--token-file goes with an address, and a program needs none")?;
        return Ok(Place::Program {
            program: program.into(),
            args: rest.to_vec(),
            env: args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
            cwd: args.cwd.as_deref().map(absolute).transpose()?,
        });
    }
    match scheme {
        "ws" | "wss" => Ok(Place::Url {
            url: target.to_owned(),
            bearer: token_file.as_deref().map(read_token).transpose()?,
            connect_time: args.connect_timeout,
        }),
        "unix" => {
            let path = PathBuf::from(target.trim_start_matches("unix://"));
            needs(path.is_absolute(), format!("{target:?} names no socket; give unix:///PATH"))?;
            Ok(Place::Unix { path, token_file })
        }
        "http" | "https" => {
            let Some(environment_id) = args.environment_id.clone() else {
                return Err(wrong(format!(
                    "{target} is a registry's address; give the environment's id there with --environment-id"
                )));
            };
            RegistryEnvironment::check_address(target, &environment_id).map_err(wrong)?;
            Ok(Place::Registry { url: target.to_owned(), environment_id, token_file })
        }
        _ => Err(wrong(format!(
            "{target:?} is no address of an environment: expected ws://HOST:PORT, wss://HOST, unix:///PATH, a registry's \
             https:// address with --environment-id, ssh://HOST, docker://CONTAINER, kubectl://NAMESPACE/POD, or a program after \
             two hyphens"
        ))),
    }
}
