//! `codex exec-server edit`: fetches a file, opens an editor, and puts it back.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use codex_exec_server::environment::CallError;
use codex_exec_server::protocol::ErrorCode;
use codex_exec_server::protocol::filesystem::{CanonicalizeParams, Entry, GetEntryParams, Kind};
use codex_exec_server::transfer::{self, explained};

use crate::codes::FAILURE;
use crate::reach::{ReachArgs, say};
use crate::setup::Setup;
use crate::there::{There, shown};

const VERB: &str = "edit";
/// The mode of a file that was not there.
const NEW_MODE: u32 = 0o644;

/// Edits a file of the server's machine here, with $VISUAL or $EDITOR.
///
/// The file is put back only if it still is what was fetched; else what was edited stays here, and is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server edit -E box /etc/nginx/nginx.conf
  EDITOR='code --wait' codex exec-server edit -E box notes.md")]
pub(crate) struct EditArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// A path there, relative to the server's directory, or with '~' to the home directory.
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Edits; 0 if the file is as the editor left it.
///
/// # Errors
/// What keeps this side from working at all.
pub(crate) async fn edit(args: EditArgs, setup: Setup) -> anyhow::Result<u8> {
    let there = match There::reach(&args.reach.target, &setup).await {
        Ok(there) => there,
        Err(unreached) => return Ok(unreached.told(VERB)),
    };
    let done = edit_there(&there, &args.path).await;
    there.close().await;
    match done {
        Ok(()) => Ok(0),
        Err(error) => {
            say(VERB, &format!("{error:#}"));
            Ok(FAILURE)
        }
    }
}

async fn edit_there(there: &There, written: &Path) -> anyhow::Result<()> {
    let path = there.path(written).map_err(anyhow::Error::msg)?;
    let (path, before) = looked_up(there, path).await?;
    let directory = Scratch::new()?;
    let copy = directory.0.join(path.file_name().context("the path has no name")?);
    let mut file = tokio::fs::File::create(&copy).await.context("can't make a copy here")?;
    let fetched = match &before {
        Some(_) => Some(transfer::fetch(&*there.files, &path, &mut file).await?),
        None => None,
    };
    drop(file);
    run_editor(&copy).await?;
    let mut edited = tokio::fs::File::open(&copy).await.context("what was edited is gone")?;
    let bytes = edited.metadata().await.context("what was edited can't be examined")?.len();
    if fetched.is_none() && bytes == 0 {
        return Ok(());
    }
    let same = match &fetched {
        Some(fetched) => {
            let local = crate::there::here();
            let hash = codex_exec_server::protocol::filesystem::HashParams {
                path: copy.clone().into(),
                length: None,
                sandbox: None,
            };
            local.files.hash(hash).await?.sha256 == fetched.sha256
        }
        None => false,
    };
    if same {
        return Ok(());
    }
    let mode = before.map_or(NEW_MODE, |entry| entry.mode);
    let replaces = fetched.map(|fetched| fetched.sha256);
    if let Err(error) = transfer::store(&*there.files, &mut edited, &path, mode, replaces).await {
        let kept = directory.keep();
        anyhow::bail!("{}: {error}; what you have edited is in {}", shown(path.as_os_str()), kept.display());
    }
    Ok(())
}

/// The file itself, through links, and what it is; none where it is still to be made.
async fn looked_up(there: &There, path: PathBuf) -> anyhow::Result<(PathBuf, Option<Entry>)> {
    let real = CanonicalizeParams { path: path.clone().into(), sandbox: None };
    let real = match there.files.canonicalize(real).await {
        Ok(found) => found.path.local().map(Path::to_owned)?,
        Err(CallError::Rpc(error)) if error.code == ErrorCode::NOT_FOUND => return Ok((path, None)),
        Err(error) => return Err(error).with_context(|| shown(path.as_os_str())),
    };
    let stat =
        GetEntryParams { path: real.clone().into(), follow_symlinks: false, extents: false, sandbox: None };
    let entry = there.files.stat(stat).await.map_err(explained)?;
    anyhow::ensure!(entry.kind == Kind::File, "{} is no regular file", shown(path.as_os_str()));
    Ok((real, Some(entry)))
}

async fn run_editor(copy: &Path) -> anyhow::Result<()> {
    let chosen =
        ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os).find(|words| !words.is_empty());
    let editor = chosen.unwrap_or_else(|| "vi".into());
    // By a shell, since the variable may hold arguments; that is how everybody runs it.
    let mut script = editor.clone();
    script.push(OsString::from(" \"$@\""));
    let status = tokio::process::Command::new("sh")
        .args([OsString::from("-c"), script, editor.clone(), copy.into()])
        .status()
        .await
        .context("can't run a shell for the editor")?;
    anyhow::ensure!(status.success(), "the editor {editor:?} ended with {status}; nothing was put back");
    Ok(())
}

/// A directory that nobody else may look into; removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let name = format!("codex-edit-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .context("can't make a directory for the copy")?;
        Ok(Self(path))
    }

    /// Leaves it where it is.
    fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
