//! `codex exec-server cat`: prints files of an exec-server's machine.

use std::path::PathBuf;

use codex_exec_server::transfer::{self, StreamError};

use crate::closed_stdout;
use crate::codes::{BROKEN_PIPE, FAILURE};
use crate::reach::{ReachArgs, say};
use crate::setup::Setup;
use crate::there::{There, shown};

const VERB: &str = "cat";

/// Prints files of the server's machine, byte by byte as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server cat -E box /etc/hostname
  codex exec-server cat -E box logs/today.gz | gunzip")]
pub(crate) struct CatArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Paths there, relative to the server's directory, or with '~' to the home directory.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Prints; 0 if all of it was read.
///
/// # Errors
/// What keeps this side from working at all.
pub(crate) async fn cat(args: CatArgs, setup: Setup) -> anyhow::Result<u8> {
    let there = match There::reach(&args.reach.target, &setup).await {
        Ok(there) => there,
        Err(unreached) => return Ok(unreached.told(VERB)),
    };
    if let Err(sentence) = closed_stdout::check() {
        say(VERB, &sentence);
        there.close().await;
        return Ok(FAILURE);
    }
    let (mut code, mut stdout) = (0, tokio::io::stdout());
    for written in &args.paths {
        let path = match there.path(written) {
            Ok(path) => path,
            Err(sentence) => {
                say(VERB, &sentence);
                code = FAILURE;
                continue;
            }
        };
        match transfer::fetch(&*there.files, &path, &mut stdout).await {
            Ok(_) => {}
            Err(StreamError::Here(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                code = BROKEN_PIPE;
                break;
            }
            Err(StreamError::Here(error)) => {
                say(VERB, &format!("can't write to stdout: {error}"));
                code = FAILURE;
                break;
            }
            Err(StreamError::There(error)) => {
                say(VERB, &format!("{}: {error}", shown(path.as_os_str())));
                code = FAILURE;
            }
        }
    }
    there.close().await;
    Ok(code)
}
