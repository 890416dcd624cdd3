//! The helper's side: a confined process that does what it is asked, one after the other, until nobody asks any more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use codex_exec_protocol::filesystem as fs;
use codex_exec_protocol::{Method, RpcError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{Asked, Told};
use crate::filesystem::{PathMethod, ScanRoot, ScanSkills, ToOpen, whole_file_methods};
use crate::sandbox::wire::{receive, send};

/// Serves the wire until its other end is closed.
///
/// # Errors
/// When the wire breaks.
pub(in crate::sandbox) fn serve(wire: BorrowedFd<'_>) -> std::io::Result<()> {
    while let Some(request) = receive(wire)? {
        let (told, file) = match request.message() {
            Ok(asked) => answer(&asked),
            Err(error) => (tell::<()>(Err(unreadable(&error))), None),
        };
        let files: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).collect();
        send(wire, &told, &files)?;
    }
    Ok(())
}

fn answer(asked: &Asked<'_>) -> (Told<String>, Option<OwnedFd>) {
    if asked.method != fs::Open::NAME {
        return (run(asked), None);
    }
    match params(asked).and_then(|to_open: ToOpen| to_open.open()) {
        Ok((file, size)) => (tell(Ok(size)), Some(file)),
        Err(error) => (tell::<()>(Err(error)), None),
    }
}

macro_rules! run {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        /// Does a method as a whole.
        fn run(asked: &Asked<'_>) -> Told<String> {
            match asked.method {
                $(<$method as Method>::NAME => done::<$method>(asked),)*
                other => tell::<()>(Err(RpcError::internal(format!("the helper does not know {other}")))),
            }
        }
    };
}
whole_file_methods!(run scan_root: ScanRoot; scan_skills: ScanSkills;);

fn done<M: PathMethod>(asked: &Asked<'_>) -> Told<String> {
    tell(params(asked).and_then(|params| M::run(&params, &asked.bounds.limits())))
}

fn params<P: DeserializeOwned>(asked: &Asked<'_>) -> Result<P, RpcError> {
    serde_json::from_str(asked.params).map_err(|error| unreadable(&error))
}

/// An empty text, which our own types never give, would be refused by the other side.
fn tell<R: Serialize>(result: Result<R, RpcError>) -> Told<String> {
    match result {
        Ok(result) => Told::Done(serde_json::to_string(&result).unwrap_or_default()),
        Err(error) => Told::Failed(serde_json::to_string(&error).unwrap_or_default()),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> RpcError {
    RpcError::internal(format!("the helper can't read its request: {error}"))
}
