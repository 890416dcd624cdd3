//! The helper's side: a confined process that does what it is asked, one after the other, until nobody asks any more.

use std::os::fd::{BorrowedFd, OwnedFd};

use codex_exec_protocol::filesystem as fs;
use codex_exec_protocol::{Method, RpcError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{receive, send};
use super::words::{Asked, Told};
use crate::filesystem::{PathMethod, ToOpen, whole_file_methods};

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
    if asked.method != fs::Open::NAME {
        return (run(&asked), None);
    }
    match params(&asked).and_then(|to_open: ToOpen| to_open.open()) {
        Ok((file, size)) => (tell(Ok(size)), Some(file)),
        Err(error) => (tell::<()>(Err(error)), None),
    }
}

macro_rules! run {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        /// Does a method as a whole.
        fn run(asked: &Asked<'_>) -> Vec<u8> {
            match &*asked.method {
                $(<$method as Method>::NAME => done::<$method>(asked),)*
                other => tell::<()>(Err(RpcError::internal(format!("the helper does not know {other}")))),
            }
        }
    };
}
whole_file_methods!(run);

fn done<M: PathMethod>(asked: &Asked<'_>) -> Vec<u8> {
    tell(params(asked).and_then(|params| M::run(&params, &asked.bounds.limits())))
}

fn params<P: DeserializeOwned>(asked: &Asked<'_>) -> Result<P, RpcError> {
    serde_json::from_str(asked.params.get()).map_err(|error| unreadable(&error))
}

fn tell<R: Serialize>(result: Result<R, RpcError>) -> Vec<u8> {
    let told = result.map_or_else(Told::Failed, Told::Done);
    // Our own types always serialize; an empty message would be refused by the other side.
    serde_json::to_vec(&told).unwrap_or_default()
}

fn unreadable(error: &serde_json::Error) -> RpcError {
    RpcError::internal(format!("the helper can't read its request: {error}"))
}
