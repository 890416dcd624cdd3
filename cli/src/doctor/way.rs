//! The way to an environment, hop by hop: the first that breaks is named, and those behind it are not tried.

use std::path::Path;
use std::time::{Duration, Instant};

use codex_bring::BringError;
use codex_exec_server::client::Endpoint;
use codex_exec_server::protocol::encode::NoParams;
use codex_exec_server::protocol::environment::Info;
use codex_outgoing::{DialError, Outgoing};
use tokio::net::{UnixStream, lookup_host};
use tokio::time::timeout;
use url::Url;

use super::report::{Check, Report, Status};
use crate::setup::Setup;
use crate::target::{Target, TargetArgs, TargetError};

const CATEGORY: &str = "environment";
/// For one hop. Our own pace: nothing outside depends on it.
const HOP_TIME: Duration = Duration::from_secs(10);

/// A hop that breaks: what to say, and what cures it.
struct Broken {
    summary: String,
    remedy: String,
}

/// What was found at a hop.
type Hop = Result<String, Broken>;

fn broken(summary: impl Into<String>, remedy: impl Into<String>) -> Broken {
    Broken { summary: summary.into(), remedy: remedy.into() }
}

/// Tries every hop until one breaks.
pub(super) async fn walk(args: &TargetArgs, setup: &Setup, report: &mut Report) {
    let since = Instant::now();
    let target = match args.find(setup) {
        Ok(target) => target,
        Err(error) => {
            let remedy = match error {
                TargetError::Credential(_) => {
                    "give its token with --token-file, or in the variable that is named"
                }
                _ => "codex exec-server env ls",
            };
            add(report, "name", "name", since, Err(broken(error.to_string(), remedy)));
            return;
        }
    };
    let (found, url) = described(&target);
    add(report, "name", "name", since, Ok(found));
    let is_there = match (target.endpoint(), url) {
        (Endpoint::Unix { path, .. }, _) => socket(path, report).await,
        (Endpoint::Connector(_), _) => hops(&target, report).await,
        (endpoint, Some(url)) => network(report, &url, matches!(endpoint, Endpoint::Registry(_))).await,
        _ => true,
    };
    if is_there {
        session(target, report).await;
    }
}

/// Whether somebody listens on a Unix socket.
async fn socket(path: &Path, report: &mut Report) -> bool {
    let since = Instant::now();
    let hop = match UnixStream::connect(path).await {
        Ok(_) => Ok(format!("somebody listens on {}", path.display())),
        Err(error) => Err(broken(
            format!("nobody listens on {}: {error}", path.display()),
            format!("codex exec-server --listen unix://{}", path.display()),
        )),
    };
    add(report, "connect", "socket", since, hop)
}

/// What the environment is, and where it is if that is known.
fn described(target: &Target) -> (String, Option<Url>) {
    let name = target.name().map(|name| format!("{name:?} is ")).unwrap_or_default();
    match target.endpoint() {
        Endpoint::WebSocket { url, .. } => {
            let url = Url::parse(url).ok();
            let place = url.as_ref().map_or_else(|| "an address".to_owned(), place_of);
            (format!("{name}an exec-server at {place}"), url)
        }
        Endpoint::Registry(registry) => {
            let url = Url::parse(&registry.url).ok();
            let place = url.as_ref().map_or_else(|| "an address".to_owned(), place_of);
            (format!("{name}{:?} of the registry at {place}", registry.environment_id), url)
        }
        Endpoint::Unix { path, .. } => (format!("{name}an exec-server at {}", path.display()), None),
        Endpoint::Connector(way) => {
            (format!("{name}an exec-server that is brought to {}", way.target()), None)
        }
        _ => (format!("{name}an exec-server that is started here"), None),
    }
}

/// The hops to a machine that this program is brought to, and what it finds there. True if all is well.
async fn hops(target: &Target, report: &mut Report) -> bool {
    let Some(far) = target.way() else { return true };
    let since = Instant::now();
    let opened = far.open().await;
    let (number, failed) = match opened {
        Ok(_) => (far.target.hops().len(), None),
        Err(BringError::Hop { number, hop, failure }) => (number, Some((hop, failure))),
        Err(error) => {
            let remedy = "give a program for that machine with --binary";
            return add(report, "program", "program", since, Err(broken(error.to_string(), remedy)));
        }
    };
    for (before, hop) in far.target.hops().iter().take(number).enumerate() {
        let id = format!("hop-{}", before + 1);
        add(report, &id, &hop.to_string(), since, Ok("it can be reached".into()));
    }
    let Some((hop, failure)) = failed else { return true };
    let broken = broken(failure.to_string(), failure.remedy(&hop));
    add(report, &format!("hop-{}", number + 1), &hop, since, Err(broken))
}

/// Without path and query, which may hold a secret.
fn place_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), authority(url))
}

fn authority(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// Name, connection, TLS and whoever answers. True if all is well.
async fn network(report: &mut Report, url: &Url, is_registry: bool) -> bool {
    let Some(host) = url.host_str() else { return true };
    let port = url.port_or_known_default().unwrap_or(80);
    let secure = matches!(url.scheme(), "wss" | "https");
    let outgoing = Outgoing::from_lookup(|name| std::env::var(name).ok());
    // Through a proxy it is the proxy that looks names up.
    if !outgoing.goes_through_proxy(url) {
        let since = Instant::now();
        if !add(report, "resolve", "name of the host", since, resolve(host, port).await) {
            return false;
        }
    }
    let since = Instant::now();
    let hop = dial(&outgoing, url).await;
    let is_proxy = hop.as_ref().is_err_and(|broken| broken.summary.contains("proxy"));
    let (id, name) = if is_proxy { ("proxy", "proxy") } else { ("connect", "connection") };
    if !add(report, id, name, since, hop) {
        return false;
    }
    let since = Instant::now();
    let scheme = if secure { "https" } else { "http" };
    let path = if is_registry { "/" } else { "/readyz" };
    let hop = ask(&outgoing, &format!("{scheme}://{}{path}", authority(url)), is_registry).await;
    let (id, name) = match (&hop, secure, is_registry) {
        (Err(broken), true, _) if broken.summary.contains("certificate") => ("tls", "TLS"),
        (_, _, true) => ("registry", "registry"),
        _ => ("server", "server"),
    };
    add(report, id, name, since, hop)
}

async fn resolve(host: &str, port: u16) -> Hop {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let remedy = || format!("getent hosts {bare}");
    match timeout(HOP_TIME, lookup_host((bare, port))).await {
        Ok(Ok(found)) => {
            let shown: Vec<_> = found.map(|address| address.ip().to_string()).collect();
            Ok(format!("{bare} is {}", shown.join(", ")))
        }
        Ok(Err(error)) => Err(broken(format!("{bare} has no address: {error}"), remedy())),
        Err(_) => Err(broken(format!("no name server answers for {bare}"), remedy())),
    }
}

async fn dial(outgoing: &Outgoing, url: &Url) -> Hop {
    let place = authority(url);
    match timeout(HOP_TIME, outgoing.dial(url)).await {
        Ok(Ok(_)) => Ok(format!("somebody listens on {place}")),
        Ok(Err(DialError::Server(error))) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(broken(
                format!("nobody listens on {place}"),
                format!("on that machine: codex exec-server --listen ws://{place}"),
            ))
        }
        Ok(Err(DialError::Server(error))) => Err(broken(
            format!("{place} can't be reached: {error}"),
            "look at routes and firewalls on the way",
        )),
        Ok(Err(error)) => {
            Err(broken(error.to_string(), "unset HTTPS_PROXY HTTP_PROXY ALL_PROXY, or mend them"))
        }
        Err(_) => Err(broken(
            format!("{place} does not answer within {} s", HOP_TIME.as_secs()),
            "look at routes and firewalls on the way",
        )),
    }
}

/// Asks over HTTP, as the upgrade will: by the same trust and the same proxies.
async fn ask(outgoing: &Outgoing, url: &str, is_registry: bool) -> Hop {
    let settings = |error: String| broken(error, "see the checks of proxy and certificates above");
    let builder = outgoing.http().map_err(|error| settings(error.to_string()))?;
    let client = builder.timeout(HOP_TIME).build().map_err(|error| settings(sentence(&error)))?;
    match client.get(url).send().await {
        Ok(answer) if is_registry || answer.status().is_success() => {
            Ok(format!("it answers with {}", answer.status().as_u16()))
        }
        Ok(answer) => Err(broken(
            format!(
                "whoever listens there is no exec-server: it answers {} to /readyz",
                answer.status().as_u16()
            ),
            "codex exec-server env ls",
        )),
        Err(error) => {
            let told = sentence(&error.without_url());
            let remedy = if told.contains("certificate") {
                "export CODEX_CA_CERTIFICATE=FILE.pem, with the certificate of whoever signed that of the server"
            } else {
                "look at whoever listens there, and at the proxy"
            };
            Err(broken(told, remedy))
        }
    }
}

/// An error and its causes, each once.
fn sentence(error: &dyn std::error::Error) -> String {
    let (mut told, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

/// The upgrade and the handshake, and who answers.
async fn session(target: Target, report: &mut Report) {
    let since = Instant::now();
    let client = match target.connect().await {
        Ok(client) => client,
        Err(error) => {
            let (id, name, remedy) = match &error {
                TargetError::Credential(_) => {
                    ("credential", "credential", "give a good token with --token-file")
                }
                TargetError::Unreachable(text) if text.contains("rendezvous") => {
                    ("rendezvous", "rendezvous", "look at the rendezvous, and at the executor there")
                }
                _ => ("executor", "executor", "look at what the exec-server there says on its stderr"),
            };
            add(report, id, name, since, Err(broken(error.to_string(), remedy)));
            return;
        }
    };
    add(report, "executor", "executor", since, Ok("a session is open".into()));
    let since = Instant::now();
    let info = match client.environment_info() {
        Some(info) => Some(info),
        None => client.call::<Info>(&NoParams).await.ok(),
    };
    let version = info.and_then(|info| info.executor_version);
    let ours = env!("CARGO_PKG_VERSION");
    let summary = match &version {
        Some(version) if version == ours => format!("both sides are {ours}"),
        Some(version) => {
            format!("it is {version}, this is {ours}; what one of them lacks is refused with a sentence")
        }
        None => "it does not say which it is: it is older than 0.169".to_owned(),
    };
    add(report, "version", "version", since, Ok(summary));
    client.close().await;
}

/// Adds a hop. True if it is well.
fn add(report: &mut Report, id: &str, name: &str, since: Instant, hop: Hop) -> bool {
    let check = |summary| {
        Check::ok(&format!("{CATEGORY}.{id}"), CATEGORY, &format!("{CATEGORY}: {name}"), summary, since)
    };
    match hop {
        Ok(summary) => report.add(check(summary)),
        Err(Broken { summary, remedy }) => {
            report.add(check(summary).but(Status::Fail, vec![remedy]));
            return false;
        }
    }
    true
}
