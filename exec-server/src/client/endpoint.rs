//! Where an exec-server is, and how its connection is made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::DuplexStream;
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Child;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use zeroize::Zeroizing;

use super::link::{LONGEST_MESSAGE, LinkReader, LinkWriter, lines, websocket};
use super::roots::Roots;
use super::{ClientError, ClientOptions};

/// A bearer token: never shown, wiped after use.
#[derive(Clone)]
pub struct Bearer(Zeroizing<String>);

impl Bearer {
    /// Takes the token's text.
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(hidden)")
    }
}

/// What becomes of a child server's stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// It goes where ours goes.
    Inherit,
    /// It is dropped.
    Discard,
}

/// A server to be started as a child that speaks lines on its stdin and stdout (section 3).
#[derive(Debug, Clone)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
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
    /// A `ws://` or `wss://` URL. A bearer token goes only over `wss://` or to loopback (15.1).
    WebSocket {
        /// Used as it is, path and query included.
        url: String,
        /// Sent as `authorization: Bearer …`.
        bearer: Option<Bearer>,
    },
    /// A Unix socket.
    Unix {
        /// The socket's path.
        path: PathBuf,
    },
    /// A child process in a process group of its own, ended with the connection.
    Command(Command),
    /// A server in this process, over lines.
    Stream(DuplexStream),
}

/// A made connection.
pub(super) struct Link {
    pub(super) reader: LinkReader,
    pub(super) writer: LinkWriter,
    pub(super) child: Option<ServerChild>,
}

/// What is left of an endpoint once its first connection is made.
#[derive(Debug)]
pub(super) enum Again {
    WebSocket {
        url: String,
        bearer: Option<Bearer>,
    },
    Unix {
        path: PathBuf,
    },
    /// The session ends with the connection.
    Never {
        target: String,
    },
}

/// Why a connection could not be made.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) error: ClientError,
    /// Nobody listens at the address: there is no server, and so no session.
    pub(super) nobody: bool,
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

/// A reason, and whether it is that nobody listens.
struct Unmade(String, bool);

impl From<String> for Unmade {
    fn from(reason: String) -> Self {
        Self(reason, false)
    }
}

impl From<&str> for Unmade {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned(), false)
    }
}

impl From<std::io::Error> for Unmade {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        Self(error.to_string(), matches!(error.kind(), ConnectionRefused | NotFound))
    }
}

impl Endpoint {
    /// Connects; also tells how to connect again.
    pub(super) async fn open(self, options: &ClientOptions) -> Result<(Link, Again), ClientError> {
        match self {
            Self::WebSocket { url, bearer } => {
                let again = Again::WebSocket { url, bearer };
                Ok((again.open(options).await?, again))
            }
            Self::Unix { path } => {
                let again = Again::Unix { path };
                Ok((again.open(options).await?, again))
            }
            Self::Command(command) => {
                let target = format!("the child {}", command.program.display());
                Ok((spawn(command)?, Again::Never { target }))
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
    pub(super) fn target(&self) -> String {
        match self {
            Self::WebSocket { url, .. } => public_url(url),
            Self::Unix { path } => format!("unix://{}", path.display()),
            Self::Never { target } => target.clone(),
        }
    }

    /// Whether a session can be taken up again (15.4).
    pub(super) const fn possible(&self) -> bool {
        !matches!(self, Self::Never { .. })
    }

    /// Whether an address where nobody listens any more means that the session is gone: always on this machine; across
    /// a network when the server said that it ends, since what stands between may be away as well.
    pub(super) const fn is_gone(&self, said_goodbye: bool) -> bool {
        said_goodbye || matches!(self, Self::Unix { .. })
    }

    /// Connects, within the time for it.
    pub(super) async fn open(&self, options: &ClientOptions) -> Result<Link, OpenError> {
        let time = options.connect_time;
        let opening = async {
            match self {
                Self::WebSocket { url, bearer } => {
                    open_websocket(url, bearer.as_ref(), options.roots.as_ref()).await
                }
                Self::Unix { path } => {
                    let stream = UnixStream::connect(path).await?;
                    let (input, output) = stream.into_split();
                    Ok(lines(input, output))
                }
                Self::Never { .. } => Err(Unmade::from("it can be connected to only once")),
            }
        };
        match tokio::time::timeout(time, opening).await {
            Ok(Ok((reader, writer))) => Ok(Link { reader, writer, child: None }),
            Ok(Err(Unmade(reason, nobody))) => {
                Err(OpenError { error: ClientError::Connect { target: self.target(), reason }, nobody })
            }
            Err(_) => {
                let target = self.target();
                Err(ClientError::TimedOut { target, what: "the connection", after: time }.into())
            }
        }
    }
}

fn public_url(url: &str) -> String {
    let Ok(mut public) = url::Url::parse(url) else { return "the given URL".into() };
    public.set_query(None);
    public.set_fragment(None);
    // Both only fail for URLs that can't have user info.
    let _ = public.set_username("");
    let _ = public.set_password(None);
    public.to_string()
}

async fn open_websocket(
    url: &str,
    bearer: Option<&Bearer>,
    roots: Option<&Roots>,
) -> Result<(LinkReader, LinkWriter), Unmade> {
    let parsed = url::Url::parse(url).map_err(|error| format!("not a URL: {error}"))?;
    let secure = match parsed.scheme() {
        "ws" => false,
        "wss" => true,
        other => return Err(format!("the scheme {other:?} is not ws or wss").into()),
    };
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    if let Some(Bearer(token)) = bearer {
        if !secure && !is_loopback(&parsed) {
            return Err("a bearer token is only sent over wss:// or to a loopback address".into());
        }
        let mut value = HeaderValue::try_from(Zeroizing::new(format!("Bearer {}", token.trim())).as_str())
            .map_err(|_| "the bearer token holds characters that a header can't carry")?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let port = parsed.port_or_known_default().ok_or("the URL has no port")?;
    let stream = match parsed.host().ok_or("the URL has no host")? {
        url::Host::Domain(name) => TcpStream::connect((name, port)).await,
        url::Host::Ipv4(ip) => TcpStream::connect((ip, port)).await,
        url::Host::Ipv6(ip) => TcpStream::connect((ip, port)).await,
    }?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST_MESSAGE))
        .max_frame_size(Some(LONGEST_MESSAGE))
        .read_buffer_size(64 << 10);
    let connector = roots.filter(|_| secure).map(Roots::connector);
    let (socket, _) =
        tokio_tungstenite::client_async_tls_with_config(request, stream, Some(config), connector)
            .await
            .map_err(|error| error.to_string())?;
    Ok(websocket(socket))
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
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
pub(super) struct ServerChild {
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

    /// SIGTERM to the group, and SIGKILL once `grace` is over.
    pub(super) async fn end(mut self, grace: Duration) {
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
