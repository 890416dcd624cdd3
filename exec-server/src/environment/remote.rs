//! The three capabilities of another machine: each is the client's typed call and nothing more.

use async_trait::async_trait;

use super::traits::{CallError, Files, Http, Processes};
use crate::client::{Client, ClientError};
use crate::protocol::{Method, filesystem as fs, http, process};

/// A machine reached through a client.
#[derive(Debug, Clone)]
pub struct Remote(pub Client);

impl From<ClientError> for CallError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Rpc(error) => Self::Rpc(error),
            other => Self::Lost(other.to_string()),
        }
    }
}

macro_rules! remote {
    ($name:ident { $($method:ident: $wire:ty;)* }) => {
        #[async_trait]
        impl $name for Remote {
            $(async fn $method(
                &self,
                params: <$wire as Method>::Params,
            ) -> Result<<$wire as Method>::Result, CallError> {
                Ok(self.0.call::<$wire>(&params).await?)
            })*
        }
    };
}

remote! {
    Processes {
        start: process::Start;
        read: process::Read;
        write: process::Write;
        signal: process::Signal;
        terminate: process::Terminate;
        list: process::List;
        wait: process::Wait;
        resize: process::Resize;
        close_stdin: process::CloseStdin;
    }
}

remote! {
    Files {
        read_file: fs::ReadFile;
        write_file: fs::WriteFile;
        create_directory: fs::CreateDirectory;
        get_metadata: fs::GetMetadata;
        canonicalize: fs::Canonicalize;
        read_directory: fs::ReadDirectory;
        walk: fs::Walk;
        remove: fs::Remove;
        copy: fs::Copy;
        open: fs::Open;
        read_block: fs::ReadBlock;
        write_block: fs::WriteBlock;
        close: fs::Close;
        watch_missing: fs::WatchMissing;
    }
}

remote! {
    Http {
        request: http::Request;
    }
}
