//! The helper's side: a confined process that does what it is asked, one after the other, until nobody asks any more.

use std::os::fd::{BorrowedFd, OwnedFd};

use codex_exec_protocol::RpcError;
use codex_exec_protocol::filesystem as files;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{receive, send};
use super::words::{Asked, Opened, ToOpen, Told, Work};
use crate::filesystem;

/// Serves the socket until its other end is closed.
///
/// # Errors
/// When the socket breaks.
pub(in crate::sandbox) fn serve(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    while let Some((request, _)) = receive(socket)? {
        let (answer, file) = answer(&request);
        send(socket, &answer, file.as_ref())?;
    }
    Ok(())
}

fn answer(request: &[u8]) -> (Vec<u8>, Option<OwnedFd>) {
    let asked: Asked<'_> = match serde_json::from_slice(request) {
        Ok(asked) => asked,
        Err(error) => return (tell::<()>(Err(unreadable(&error))), None),
    };
    let limits = asked.bounds.limits();
    let simple = match asked.work {
        Work::OpenToRead => return hand_over(open(&asked, filesystem::open_regular)),
        Work::OpenToReplace => {
            return hand_over(open(&asked, |path, follow| {
                Ok((filesystem::open_to_replace(path, follow)?, 0))
            }));
        }
        Work::GetMetadata => done(&asked, |p: files::GetMetadataParams| filesystem::get_metadata(&p)),
        Work::CreateDirectory => {
            done(&asked, |p: files::CreateDirectoryParams| filesystem::create_directory(&p))
        }
        Work::Canonicalize => done(&asked, |p: files::CanonicalizeParams| filesystem::canonicalize(&p)),
        Work::ReadDirectory => {
            done(&asked, |p: files::ReadDirectoryParams| filesystem::read_directory(&p, &limits))
        }
        Work::Walk => done(&asked, |p: files::WalkParams| filesystem::walk(&p, &limits)),
        Work::Remove => done(&asked, |p: files::RemoveParams| filesystem::remove(&p)),
        Work::Copy => done(&asked, |p: files::CopyParams| filesystem::copy(&p)),
    };
    (simple, None)
}

fn done<P: DeserializeOwned, R: Serialize>(
    asked: &Asked<'_>,
    work: impl FnOnce(P) -> Result<R, RpcError>,
) -> Vec<u8> {
    let params = serde_json::from_str(asked.params.get()).map_err(|error| unreadable(&error));
    tell(params.and_then(work))
}

fn open(
    asked: &Asked<'_>,
    work: impl FnOnce(&std::path::Path, bool) -> Result<(OwnedFd, u64), RpcError>,
) -> Result<(OwnedFd, u64), RpcError> {
    let params: ToOpen = serde_json::from_str(asked.params.get()).map_err(|error| unreadable(&error))?;
    work(filesystem::local(&params.path)?, params.follow)
}

fn hand_over(opened: Result<(OwnedFd, u64), RpcError>) -> (Vec<u8>, Option<OwnedFd>) {
    match opened {
        Ok((file, size)) => (tell(Ok(Opened { size })), Some(file)),
        Err(error) => (tell::<()>(Err(error)), None),
    }
}

fn tell<R: Serialize>(result: Result<R, RpcError>) -> Vec<u8> {
    let told = result.map_or_else(Told::Failed, Told::Done);
    // Our own types always serialize; an empty message would be refused by the other side.
    serde_json::to_vec(&told).unwrap_or_default()
}

fn unreadable(error: &serde_json::Error) -> RpcError {
    RpcError::internal(format!("the helper can't read its request: {error}"))
}
