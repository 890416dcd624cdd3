//! `codex exec-server conformance`: holds any exec-server to the protocol.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use codex_conformance::{Subject, examine};
use codex_exec_server::client::{ClientOptions, Command, Endpoint, Stderr};

use crate::output;
use crate::reach::ReachArgs;
use crate::setup::Setup;
use crate::target::tell;

/// For each answer of the server. Our own pace: nothing outside depends on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Holds any exec-server to the protocol, rule by rule, and prints what it keeps. It starts programs there, and makes files
/// below /tmp that it removes again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server conformance --url ws://127.0.0.1:4500
  codex exec-server conformance --section 8 -- ./my-exec-server --listen stdio")]
pub(crate) struct ConformanceArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Only the rules of this section of docs/protocol.md, such as 8 or 8.4; x for additions.
    #[arg(long, value_name = "SECTION")]
    section: Option<String>,
    /// A server to start that speaks the protocol over stdin and stdout, with its arguments, after two hyphens.
    #[arg(last = true, value_name = "PROGRAM", conflicts_with_all = ["environment", "url", "registry"])]
    command: Vec<String>,
}

/// Examines, and prints the report; exit code 1 if a rule is broken that released clients depend on.
///
/// # Errors
/// The report can't be printed.
pub(crate) async fn conformance(args: ConformanceArgs, setup: Setup) -> anyhow::Result<u8> {
    let subject = match args.command.split_first() {
        Some((program, arguments)) => of_command(program.into(), arguments.to_vec()),
        None => {
            // A slip in the flags is told once, and not as the fault of every rule.
            let found = match args.reach.target.find(&setup) {
                Ok(found) => found,
                Err(error) => return Ok(tell(&error)),
            };
            let resumes = found.outlives_connection();
            let (endpoint, options) = found.into_parts();
            let http = match endpoint {
                Endpoint::WebSocket { url, bearer: None } if url.starts_with("ws://") => Some(url),
                _ => None,
            };
            let (target, setup) = (args.reach.target.clone(), Arc::new(setup));
            let nowhere = || Endpoint::Unix { path: PathBuf::from("/"), bearer: None };
            let endpoint =
                move || target.find(&setup).map_or_else(|_| nowhere(), |found| found.into_parts().0);
            Subject { endpoint: Box::new(endpoint), options, http, resumes, patience: PATIENCE }
        }
    };
    let report = examine(&subject, args.section.as_deref()).await?;
    output::bytes(report.to_string().as_bytes()).context("can't write to stdout")?;
    Ok(u8::from(!report.is_fit()))
}

fn of_command(program: PathBuf, args: Vec<String>) -> Subject {
    let endpoint = move || {
        Endpoint::Command(Command {
            program: program.clone(),
            args: args.clone(),
            env: BTreeMap::new(),
            cwd: None,
            stderr: Stderr::Inherit,
        })
    };
    let options = ClientOptions::default();
    Subject { endpoint: Box::new(endpoint), options, http: None, resumes: false, patience: PATIENCE }
}
