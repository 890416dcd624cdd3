//! `codex exec-server console`: a web page that shows what runs on all environments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use codex_console::{Config, Console, Limits, StartError};
use codex_exec_server::client::ClientOptions;
use codex_outgoing::is_loopback;
use codex_rendezvous::{TlsFiles, load_tls};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::codes::WRONG_USAGE;
use crate::output;
use crate::programs::KEPT;
use crate::reach::ReachArgs;
use crate::setup::Setup;
use crate::target::{every, one, tell};

/// Shows all environments on a web page: their programs as in `ps`, live terminals, logs, files and forwards. It prints a
/// link that signs in whoever opens it first; from there on the page makes further links, for looking only or for a while.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codex exec-server console
  codex exec-server console -E box --listen 127.0.0.1:4501
  codex exec-server console --listen 127.0.0.1:4501 --public-url https://box.example/console

SIGHUP prints a new link. Programs that were started from the page go on when the console ends.")]
pub(crate) struct ConsoleArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Where to listen; port 0 picks one. An address that is not loopback needs --tls-cert and --tls-key, or --public-url
    /// https://… of a proxy before it.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0", value_parser = address)]
    listen: SocketAddr,
    /// The URL at which browsers reach the page, when a proxy stands before it or a name leads to it; its path is taken away
    /// by the proxy. The page is answered under this name and its own address, and under no other.
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// File with the certificate chain to serve TLS with, in PEM.
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with the certificate's private key, in PEM.
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected IP:PORT such as 127.0.0.1:4501 or [::1]:0; host names are not looked up")
}

/// Serves the page until a signal.
///
/// # Errors
/// What keeps it from serving at all.
pub(crate) async fn console(args: ConsoleArgs, setup: Setup) -> anyhow::Result<u8> {
    if let Some(problem) = problem(&args) {
        output::error(&problem);
        return Ok(WRONG_USAGE);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut ask_again = signal(SignalKind::hangup())?;
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key });
    let setup = Arc::new(setup);
    let environments = match args.reach.target.names_one() {
        true => one(&args.reach.target, &setup, keeps_programs),
        false => every(&setup, keeps_programs).map(|(environments, _)| environments),
    };
    let environments = match environments {
        Ok(environments) => environments,
        Err(error) => return Ok(tell(&error)),
    };
    let started = Console::start(Config {
        listen: args.listen,
        public_url: args.public_url,
        tls: tls.as_ref().map(load_tls).transpose()?,
        environments,
        limits: Limits::default(),
    })
    .await;
    let console = match started {
        Err(error @ StartError::PublicUrl) => {
            output::error(&error.to_string());
            return Ok(WRONG_USAGE);
        }
        started => started?,
    };
    print_link(&console)?;
    output::note("This link signs in whoever opens it first, within 15 minutes; SIGHUP prints another one.");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ask_again.recv() => print_link(&console)?,
        }
    }
    console.end().await;
    Ok(0)
}

fn print_link(console: &Console) -> anyhow::Result<()> {
    let link = console.owner_link().map_err(|sentence| anyhow!(sentence))?;
    output::line(link.expose()).context("can't print the link on stdout")
}

/// What is started from the page goes on without the console.
fn keeps_programs(options: &mut ClientOptions) {
    options.client_name = "codex-console".into();
    options.detached_time = Some(KEPT);
}

/// What can't go together: a session's cookie never crosses a network in the clear.
fn problem(args: &ConsoleArgs) -> Option<String> {
    let (listen, tls) = (args.listen, args.tls_cert.is_some());
    let public = args.public_url.as_ref();
    if let Some(url) = public.filter(|url| url.scheme() != "https" && !is_loopback(url)) {
        return Some(format!(
            "--public-url {}://{} has no TLS, and whoever listens on the way could use the console; give the https:// URL of \
             the proxy",
            url.scheme(),
            url.host_str().unwrap_or_default()
        ));
    }
    if listen.ip().to_canonical().is_loopback() {
        return None;
    }
    if !tls && public.is_none() {
        return Some(format!(
            "{listen} can be reached from other machines, and whoever listens on the way could use the console; add \
             --tls-cert and --tls-key, or --public-url https://… of the proxy before it"
        ));
    }
    (listen.ip().is_unspecified() && public.is_none()).then(|| {
        format!("{listen} stands for all addresses of this machine; add --public-url with the one that browsers use")
    })
}
