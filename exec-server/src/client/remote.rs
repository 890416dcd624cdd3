//! The capabilities of another machine: each is the client's typed call and nothing more.

use async_trait::async_trait;
use futures_util::stream;
use tokio::sync::watch;

use super::error::ClientError;
use super::process::RemoteProcess;
use super::session::Client;
use crate::environment::{
    CallError, Discovery, Environment, Events, Files, Http, MissingState, Pieces, Processes, Tcp,
    discovery_methods, program_methods, tcp_methods,
};
use crate::filesystem::file_methods;
use crate::protocol::{Method, discovery, filesystem as fs, http, process, tcp};

/// A machine reached through a client.
#[derive(Debug, Clone)]
pub struct Remote(pub Client);

impl Environment {
    /// The machine behind a client. The connection lasts as long as this.
    pub fn remote(client: Client) -> Self {
        let info = client.environment_info();
        Self::of(Remote(client), info)
    }
}

impl From<ClientError> for CallError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Rpc(error) => Self::Rpc(error),
            other => Self::Lost(other.to_string()),
        }
    }
}

macro_rules! remote {
    ($name:ident { $($method:ident: $wire:ty;)* $(=> { $($more:tt)* })? }) => {
        #[async_trait]
        impl $name for Remote {
            $(async fn $method(
                &self,
                params: <$wire as Method>::Params,
            ) -> Result<<$wire as Method>::Result, CallError> {
                Ok(self.0.call::<$wire>(&params).await?)
            })*

            $($($more)*)?
        }
    };
}

macro_rules! programs {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        remote! {
            Processes {
                read: process::Read;
                $($name: $method;)*
                => {
                    async fn follow(&self, params: process::StartParams) -> Result<Events, CallError> {
                        let process = self.0.start(params).await?;
                        let next = |mut process: RemoteProcess| async move { Some((process.next().await?, process)) };
                        Ok(Box::pin(stream::unfold(process, next)))
                    }
                }
            }
        }
    };
}
program_methods!(programs);

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        remote! {
            Files {
                $($name: $method;)*
                => {
                    fn missing_changed(&self) -> watch::Receiver<MissingState> {
                        self.0.missing_changed()
                    }
                }
            }
        }
    };
}
file_methods!(files);

macro_rules! discoveries {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        remote! { Discovery { $($name: $method;)* } }
    };
}
discovery_methods!(discoveries);

macro_rules! tcps {
    ($($(#[$doc:meta])* $name:ident: $method:ty;)*) => {
        remote! { Tcp { $($name: $method;)* } }
    };
}
tcp_methods!(tcps);

remote! {
    Http {
        request: http::Request;
        => {
            async fn stream(
                &self,
                params: http::RequestParams,
            ) -> Result<(http::RequestResult, Pieces), CallError> {
                let (head, body) = self.0.http_stream(params).await?;
                let pieces = stream::unfold(body, |mut body| async move { Some((body.next().await?, body)) });
                Ok((head, Box::pin(pieces)))
            }
        }
    }
}
