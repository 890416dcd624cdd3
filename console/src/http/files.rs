//! Files of an environment's machine: listed, downloaded and uploaded.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use codex_exec_server::client::Client;
use codex_exec_server::environment::{CallError, Environment, Files};
use codex_exec_server::protocol::filesystem::{
    Entry, GetEntryParams, GetMetadataParams, Kind, ListParams, ReadDirectoryParams,
};
use codex_exec_server::protocol::{ErrorCode, WirePath};
use codex_exec_server::transfer;
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::body::{Upload, download as saved};
use super::caller::Caller;
use super::refusal::Refusal;
use crate::access::Role;
use crate::app::App;
use crate::programs;

/// What is read of a file before the browser takes it. Chosen for speed.
const READ_AHEAD: usize = 1 << 20;
/// What is sent at once. Chosen for speed.
const PIECE: usize = 64 << 10;
/// Of a file that is new.
const USUAL_MODE: u32 = 0o644;

#[derive(Deserialize)]
pub(super) struct Where {
    /// Absolute, or a `file:` URI; empty for the home directory.
    #[serde(default)]
    path: String,
    /// The name of what is uploaded, within the directory.
    name: Option<String>,
    /// Something that has the name is replaced.
    #[serde(default)]
    replace: bool,
}

type WhereQuery = Result<Query<Where>, QueryRejection>;

async fn reach(app: &App, environment: &str) -> Result<(Client, Arc<dyn Files>), Refusal> {
    let client = programs::client(&app.environments, environment).await?;
    let files = Environment::remote(client.clone()).files;
    Ok((client, files))
}

/// The path that is meant there.
async fn meant(client: &Client, path: &str) -> Result<PathBuf, Refusal> {
    if path.is_empty() {
        let info = programs::info(client).await?;
        return match info.user_home_dir.or(info.cwd) {
            Some(WirePath::Local(home)) => Ok(home),
            _ => Ok(PathBuf::from("/")),
        };
    }
    match WirePath::parse(path) {
        Ok(WirePath::Local(path)) => Ok(path),
        Ok(WirePath::Foreign(_)) => {
            Err(Refusal::wrong("paths of that kind of machine are not understood here"))
        }
        Err(error) => Err(Refusal::wrong(error.to_string())),
    }
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(environment): Path<String>,
    query: WhereQuery,
) -> Result<Json<Value>, Refusal> {
    caller.covers(&environment, Role::Type, "to see files")?;
    let Query(Where { path, .. }) = query?;
    let (client, files) = reach(&app, &environment).await?;
    let path = meant(&client, &path).await?;
    let entries = entries(&*files, &path).await?;
    let up = path.parent().map(WirePath::uri_of);
    Ok(Json(json!({
        "path": WirePath::uri_of(&path), "shown": path.to_string_lossy(), "up": up, "entries": entries,
    })))
}

/// What is in a directory; of servers that can't tell more, the names and kinds alone.
async fn entries(files: &dyn Files, path: &FilePath) -> Result<Vec<Value>, CallError> {
    let wire = WirePath::from(path.to_owned());
    match files.list_entries(ListParams { path: wire.clone(), sandbox: None }).await {
        Ok(listed) => Ok(listed.entries.iter().map(entry).collect()),
        Err(CallError::Rpc(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
            let listed = files.read_directory(ReadDirectoryParams { path: wire, sandbox: None }).await?;
            let mut entries = listed.entries;
            entries.sort_by(|one, other| one.file_name.cmp(&other.file_name));
            let named = entries.into_iter().map(|entry| {
                let kind = match (entry.is_directory, entry.is_file) {
                    (true, _) => "directory",
                    (_, true) => "file",
                    _ => "other",
                };
                let uri = WirePath::uri_of(&path.join(&entry.file_name));
                json!({"name": entry.file_name, "path": uri, "kind": kind})
            });
            Ok(named.collect())
        }
        Err(error) => Err(error),
    }
}

fn entry(entry: &Entry) -> Value {
    let name = entry.path.local().ok().and_then(FilePath::file_name).unwrap_or_default();
    let target = entry.target.as_ref().map(|target| String::from_utf8_lossy(&target.0));
    json!({
        "name": name.to_string_lossy(), "path": entry.path, "kind": entry.kind, "size": entry.size,
        "mode": entry.mode, "modifiedMs": entry.modified_at_ns / 1_000_000, "target": target,
    })
}

pub(super) async fn download(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(environment): Path<String>,
    query: WhereQuery,
) -> Result<Response, Refusal> {
    caller.covers(&environment, Role::Type, "to read files")?;
    let Query(Where { path, .. }) = query?;
    let (client, files) = reach(&app, &environment).await?;
    let path = meant(&client, &path).await?;
    // Once the answer has begun, it can only break off.
    let params = GetMetadataParams { path: path.clone().into(), follow_symlinks: None, sandbox: None };
    if !files.get_metadata(params).await?.is_file {
        return Err(Refusal::wrong(format!("{} is no regular file", path.display())));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(saved(&name, content(files, path), caller.0))
}

/// A file as it is read, to its end. Dropping it ends the reading.
fn content(files: Arc<dyn Files>, path: PathBuf) -> impl Stream<Item = Result<Bytes, String>> + Send {
    let (mut writer, reader) = duplex(READ_AHEAD);
    let task: Reading = tokio::spawn(async move {
        transfer::fetch(&*files, &path, &mut writer).await.map(drop).map_err(|error| error.to_string())
    });
    stream::unfold(Some((reader, task)), |state| async move {
        let (mut reader, task): (DuplexStream, Reading) = state?;
        let mut piece = BytesMut::with_capacity(PIECE);
        match reader.read_buf(&mut piece).await {
            Ok(1..) => Some((Ok(piece.freeze()), Some((reader, task)))),
            // The end, or where it broke off.
            _ => match task.await {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some((Err(reason), None)),
                Err(_) => Some((Err("the reading broke off".into()), None)),
            },
        }
    })
}

type Reading = JoinHandle<Result<(), String>>;

pub(super) async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(environment): Path<String>,
    query: WhereQuery,
    body: Body,
) -> Result<Json<Value>, Refusal> {
    caller.covers(&environment, Role::Type, "to write files")?;
    let Query(Where { path, name, replace }) = query?;
    let name = name.unwrap_or_default();
    if name.is_empty() || name.contains(['/', '\0']) || matches!(name.as_str(), "." | "..") {
        return Err(Refusal::wrong(format!("{name:?} is no name for a file")));
    }
    let (client, files) = reach(&app, &environment).await?;
    let path = meant(&client, &path).await?.join(&name);
    let there = files
        .stat(GetEntryParams {
            path: path.clone().into(),
            follow_symlinks: true,
            extents: false,
            sandbox: None,
        })
        .await;
    let mode = match there {
        Ok(_) if !replace => {
            return Err(Refusal::conflict(format!("{} is there already", path.display())));
        }
        Ok(entry) if entry.kind == Kind::File => entry.mode,
        Ok(_) => return Err(Refusal::wrong(format!("{} is no regular file", path.display()))),
        Err(CallError::Rpc(error)) if error.code == ErrorCode::NOT_FOUND => USUAL_MODE,
        Err(error) => return Err(transfer::explained(error).into()),
    };
    let mut upload = Upload::new(body);
    let stored = tokio::select! {
        stored = transfer::store(&*files, &mut upload, &path, mode, None) => stored,
        () = caller.0.over() => return Err(Refusal::signed_out()),
    };
    match stored {
        Ok(found) => Ok(Json(json!({"bytes": found.bytes, "sha256": found.sha256}))),
        Err(transfer::StreamError::There(error)) => Err(error.into()),
        Err(transfer::StreamError::Here(_)) => {
            Err(Refusal::wrong("the upload broke off; nothing was changed"))
        }
    }
}
