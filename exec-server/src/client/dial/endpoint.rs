//! Where an exec-server is, and how its connection is made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use codex_relay::RelayLimits;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::DuplexStream;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::connector::Connector;
use super::link::{LinkReader, LinkWriter, lines};
use super::route::Route;
use super::websocket::{check_url, is_relay, open_unix, open_websocket, public_url};
use crate::backoff::Backoff;
use crate::client::error::ClientError;
use crate::client::options::ClientOptions;
use crate::registry::{RegistryEnvironment, UpgradeError, is_nobody};
use codex_secret::Secret;

/// What becomes of a child server's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// It goes where ours goes.
    Inherit,
    /// The child's stderr is thrown away.
    Discard,
}

/// A server to be started as a child that speaks lines on its stdin and stdout (section 3).
#[derive(Debug, Clone)]
pub struct Command {
    /// The file to execute; a bare name is searched in `PATH`.
    pub program: PathBuf,
    /// The arguments after the program's name.
    pub args: Vec<String>,
    /// Variables added to our environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory; ours when absent.
    pub cwd: Option<PathBuf>,
    /// What becomes of its stderr.
    pub stderr: Stderr,
}

/// Where an exec-server is.
#[derive(Debug)]
pub enum Endpoint {
    /// A `ws://` or `wss://` URL. A bearer token goes only over `wss://` or to loopback (15.1). With the pair
    /// `role=harness` in its query it leads through a rendezvous, and carries plain relay frames (`remote.md` 9.1).
    WebSocket {
        /// Used as it is, path and query included.
        url: String,
        /// Sent as `authorization: Bearer …`.
        bearer: Option<Secret>,
    },
    /// An environment that a registry knows, reached through a rendezvous and encrypted end to end (`remote.md` 9.2).
    Registry(RegistryEnvironment),
    /// A Unix socket.
    Unix {
        /// The path of the Unix socket that the server listens on.
        path: PathBuf,
        /// For a server that asks for one: shown on a websocket over the socket, which carries lines otherwise.
        bearer: Option<Secret>,
    },
    /// A child process in a process group of its own, ended with the connection.
    Command(Command),
    /// A server that is reached in a way of the caller's own, over lines.
    Connector(Arc<dyn Connector>),
    /// A server in this process, over lines.
    Stream(DuplexStream),
}

impl Endpoint {
    /// Whether a server's `ws://` or `wss://` URL can be used at all, with a token if there is one; asks nobody.
    ///
    /// # Errors
    /// A sentence for whoever wrote it, without any secret.
    pub fn check_url(url: &str, with_bearer: bool) -> Result<(), String> {
        check_url(url, with_bearer).map(drop)
    }

    /// A URL as messages may show it: without query and user info, which may hold secrets.
    pub fn public_url(url: &str) -> String {
        public_url(url)
    }
}

/// An open connection, and what has to live as long as it.
pub(in crate::client) struct Link {
    pub(in crate::client) reader: LinkReader,
    pub(in crate::client) writer: LinkWriter,
    pub(in crate::client) child: Option<ServerChild>,
}

/// What is left of an endpoint once its first connection is made.
#[derive(Debug)]
pub(in crate::client) enum Again {
    WebSocket {
        url: String,
        bearer: Option<Secret>,
    },
    Registry(Box<Route>),
    Unix {
        path: PathBuf,
        bearer: Option<Secret>,
    },
    Connector(Arc<dyn Connector>),
    /// The session ends with the connection.
    Never {
        target: String,
    },
}

/// Why a connection could not be made.
#[derive(Debug)]
pub(in crate::client) struct OpenError {
    pub(in crate::client) error: ClientError,
    /// Nobody listens at the address: there is no server, and so no session.
    pub(in crate::client) nobody: bool,
}

impl From<ClientError> for OpenError {
    fn from(error: ClientError) -> Self {
        Self { error, nobody: false }
    }
}

impl From<OpenError> for ClientError {
    fn from(failed: OpenError) -> Self {
        failed.error
    }
}

impl Endpoint {
    /// Connects; also tells how to connect again.
    pub(in crate::client) async fn open(self, options: &ClientOptions) -> Result<(Link, Again), ClientError> {
        match self {
            Self::WebSocket { url, bearer } => {
                let again = Again::WebSocket { url, bearer };
                Ok((again.open(options).await?, again))
            }
            Self::Registry(environment) => {
                let again = Again::Registry(Box::new(Route::new(environment, options.outgoing.clone())?));
                Ok((again.open(options).await?, again))
            }
            Self::Unix { path, bearer } => {
                let again = Again::Unix { path, bearer };
                Ok((again.open(options).await?, again))
            }
            Self::Command(command) => {
                let target = format!("the child {}", command.program.display());
                Ok((spawn(command)?, Again::Never { target }))
            }
            Self::Connector(connector) => {
                let (reader, writer) = connected(&*connector).await?;
                Ok((Link { reader, writer, child: None }, Again::Connector(connector)))
            }
            Self::Stream(stream) => {
                let (input, output) = tokio::io::split(stream);
                let (reader, writer) = lines(input, output);
                Ok((Link { reader, writer, child: None }, Again::Never { target: "this process".into() }))
            }
        }
    }
}

impl Again {
    /// The address for messages: without query and user info, which may hold secrets.
    pub(in crate::client) fn target(&self) -> String {
        match self {
            Self::WebSocket { url, .. } => public_url(url),
            Self::Registry(route) => route.target(),
            Self::Unix { path, .. } => format!("unix://{}", path.display()),
            Self::Connector(connector) => connector.target(),
            Self::Never { target } => target.clone(),
        }
    }

    /// Whether a session can be taken up again (15.4).
    pub(in crate::client) fn possible(&self) -> bool {
        match self {
            Self::Connector(connector) => connector.is_resumable(),
            Self::Never { .. } => false,
            Self::WebSocket { .. } | Self::Registry(_) | Self::Unix { .. } => true,
        }
    }

    /// Whether an address where nobody listens any more means that the session is gone: always on this machine; across
    /// a network when the server said that it ends, since what stands between may be away as well.
    pub(in crate::client) const fn is_gone(&self, said_goodbye: bool) -> bool {
        said_goodbye || matches!(self, Self::Unix { .. })
    }

    /// The pauses between attempts to come back. Behind a registry stand services that others share, so they grow there.
    pub(in crate::client) fn pauses(&self, pause: Duration) -> Backoff {
        if matches!(self, Self::Registry(_)) {
            Backoff::of_shared_reconnect(pause)
        } else {
            Backoff::steady(pause)
        }
    }

    /// The server wants a token, or another one.
    pub(in crate::client) fn unauthorized(&self) -> ClientError {
        let bearer = match self {
            Self::WebSocket { bearer, .. } | Self::Unix { bearer, .. } => bearer.as_ref(),
            Self::Registry(_) | Self::Connector(_) | Self::Never { .. } => None,
        };
        let target = self.target();
        match bearer {
            Some(_) => ClientError::TokenRefused { target },
            None => ClientError::TokenWanted { target },
        }
    }

    /// Whether a rendezvous stands at the address.
    fn is_relay(&self) -> bool {
        matches!(self, Self::WebSocket { url, .. } if is_relay(url))
    }

    /// The longest message that may be sent, in bytes.
    pub(in crate::client) fn longest_message(&self) -> usize {
        let limits = RelayLimits::default();
        match self {
            Self::WebSocket { .. } if self.is_relay() => limits.plain_message_bytes,
            Self::Registry(_) => limits.message_bytes,
            _ => usize::MAX,
        }
    }

    /// Connects, within the time of the options.
    pub(in crate::client) async fn open(&self, options: &ClientOptions) -> Result<Link, OpenError> {
        let time = options.connect_time;
        let unmade = |reason: String, nobody: bool| OpenError {
            error: ClientError::Connect { target: self.target(), reason },
            nobody,
        };
        let not_upgraded = |error: UpgradeError| match error {
            // A rendezvous refuses the URL's ticket; a server, the token.
            UpgradeError::Status(StatusCode::UNAUTHORIZED, _) if !self.is_relay() => {
                self.unauthorized().into()
            }
            error => unmade(error.to_string(), matches!(error, UpgradeError::Nobody(_))),
        };
        let opening = async {
            match self {
                Self::WebSocket { url, bearer } => {
                    open_websocket(url, bearer.as_ref(), options).await.map_err(not_upgraded)
                }
                // It has rounds of attempts, and says more exactly what went wrong.
                Self::Registry(route) => route.open(options).await.map_err(OpenError::from),
                Self::Unix { path, bearer: Some(bearer) } => {
                    open_unix(path, bearer, options).await.map_err(not_upgraded)
                }
                Self::Unix { path, bearer: None } => {
                    let stream = UnixStream::connect(path).await;
                    let stream = stream.map_err(|error| unmade(error.to_string(), is_nobody(&error)))?;
                    let (input, output) = stream.into_split();
                    Ok(lines(input, output))
                }
                Self::Connector(connector) => connected(&**connector).await.map_err(OpenError::from),
                Self::Never { .. } => Err(unmade("it can be connected to only once".into(), false)),
            }
        };
        match tokio::time::timeout(time, opening).await {
            Ok(opened) => opened.map(|(reader, writer)| Link { reader, writer, child: None }),
            Err(_) => {
                let target = self.target();
                Err(ClientError::TimedOut { target, what: "the connection", after: time }.into())
            }
        }
    }
}

async fn connected(connector: &dyn Connector) -> Result<(LinkReader, LinkWriter), ClientError> {
    let failed = |reason| ClientError::Connect { target: connector.target(), reason };
    let (input, output) = connector.connect().await.map_err(failed)?;
    Ok(lines(input, output))
}

fn spawn(command: Command) -> Result<Link, ClientError> {
    let failed = |reason: String| ClientError::Connect {
        target: format!("the child {}", command.program.display()),
        reason,
    };
    let mut builder = tokio::process::Command::new(&command.program);
    builder.args(&command.args).envs(&command.env).process_group(0);
    builder.stdin(Stdio::piped()).stdout(Stdio::piped());
    builder.stderr(match command.stderr {
        Stderr::Inherit => Stdio::inherit(),
        Stderr::Discard => Stdio::null(),
    });
    if let Some(cwd) = &command.cwd {
        builder.current_dir(cwd);
    }
    let mut child = builder.spawn().map_err(|error| failed(error.to_string()))?;
    let (Some(input), Some(output)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(failed("its pipes are missing".into()));
    };
    let (reader, writer) = lines(input, output);
    Ok(Link { reader, writer, child: Some(ServerChild { child, ended: false }) })
}

/// Owns a server that was started as a child; dropping it kills the child's process group.
pub(in crate::client) struct ServerChild {
    child: Child,
    ended: bool,
}

impl ServerChild {
    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself just now.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Waits up to `time` for it to end by itself; its exit code, if it has one.
    pub(in crate::client) async fn ended_with(&mut self, time: Duration) -> Option<i32> {
        let status = tokio::time::timeout(time, self.child.wait()).await.ok()?.ok()?;
        self.ended = true;
        status.code()
    }

    /// SIGTERM to the group, and SIGKILL once `grace` is over.
    pub(in crate::client) async fn end(mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            let _ = self.child.wait().await;
        }
        self.ended = true;
    }
}

impl Drop for ServerChild {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
        }
    }
}
