//! `codex exec-server rendezvous`: a registry and rendezvous of one's own, and the tokens for it.

mod broker;
mod status;
mod token;
mod token_file;
mod usage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use codex_children::descriptor_limit;
use codex_config::RendezvousConfig;
use codex_observe::{Audit, Bounds, WithoutRoom};
use codex_outgoing::is_loopback;
use codex_rendezvous::audit::Record;
use codex_rendezvous::tokens::{self, Role, Scope};
use codex_rendezvous::{Config, Limits, MOST_THREADS, Rendezvous, StartError, TlsFiles};
use codex_secret::Secret;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::output::{self, note};
use crate::setup::Setup;
use broker::BrokerArgs;
use token_file::read_tokens;
use usage::wrong_usage;

/// The environment named in the lines to paste.
const EXAMPLE_ENVIRONMENT: &str = "my-machine";
/// Most threads without a flag.
const DEFAULT_THREADS: usize = 8;

/// The flags of `codex exec-server rendezvous`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  codex exec-server rendezvous                            # on loopback, with a token for this run
  codex exec-server rendezvous token --role executor --environment ci-1 >> tokens
  codex exec-server rendezvous --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem --tokens tokens --store store"
)]
#[command(group(clap::ArgGroup::new("grants").args(["tokens", "shared_tokens"]).multiple(true)))]
pub(crate) struct RendezvousArgs {
    #[command(subcommand)]
    command: Option<RendezvousCommand>,
    /// Where to listen; port 0 picks one. The real address is printed on stdout. An address that is not loopback
    /// needs --tls-cert and --tls-key, --public-url https://… of a proxy before it, or --allow-insecure.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0", value_parser = address)]
    listen: SocketAddr,
    /// The URL at which machines and agents reach this registry, when a proxy stands before it; its path is taken
    /// away by the proxy.
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// File with the certificate chain to serve TLS with, in PEM; read again at SIGHUP.
    #[arg(long, value_name = "PATH", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with the certificate's private key, in PEM.
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve without TLS on an address that other machines can reach; whoever listens on the way reads the tokens.
    #[arg(long)]
    allow_insecure: bool,
    /// File with the hashes of the access tokens, one a line as `rendezvous token` prints it; read again at SIGHUP.
    /// Without it a token is made that lives as long as this process.
    #[arg(long, value_name = "PATH")]
    tokens: Option<PathBuf>,
    /// File that keeps registrations, so that a restart loses none; made when missing. Needs --tokens or --shared-tokens.
    #[arg(long, value_name = "PATH", requires = "grants")]
    store: Option<PathBuf>,
    /// Append a line of JSON to this file for each request, and for each socket that comes and goes: who, what, and what came
    /// of it. See docs/audit.md.
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Refuse a request when there is no room for its audit record, as when the disk is full, instead of counting it.
    #[arg(long, requires = "audit")]
    audit_required: bool,
    /// Carry plain relays as well (executors of releases 0.131 to 0.140). This process can read all they say.
    #[arg(long)]
    allow_plain: bool,
    /// Take the tokens that the nodes share (`rendezvous token add`), besides those of --tokens. Needs --cluster.
    #[arg(long)]
    shared_tokens: bool,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Where agents reach this node and no other. Needed unless it listens on loopback without TLS.
    #[arg(long, value_name = "URL")]
    node_url: Option<Url>,
    /// Threads to spread environments over, from 1 to 64; all sockets of an environment stay on one. Without it as many as the
    /// process may use cores, at most 8.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MOST_THREADS as i64))]
    threads: Option<u8>,
    /// Sets a bound by its name, times in milliseconds; docs/rendezvous.md lists them. May be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum RendezvousCommand {
    /// Make an access token. stdout gets the token, which is kept nowhere, and the line for the --tokens file. When stdout
    /// is a file, it gets that line only, and stderr the token.
    Token(token::TokenArgs),
    /// Tell which nodes there are, which environments, where each is, and who uses them. Needs a token with the role observer.
    Status(status::StatusArgs),
}

impl RendezvousArgs {
    /// The flags, and the configuration's keys where there is no flag.
    fn or(mut self, settings: &RendezvousConfig) -> anyhow::Result<Self> {
        self.broker = self.broker.or(settings)?;
        if let Some(text) = settings.node_url.as_ref().filter(|_| self.node_url.is_none()) {
            self.node_url = Some(text.parse().context("exec_server.rendezvous.node_url is no URL")?);
        }
        self.shared_tokens |= settings.shared_tokens;
        Ok(self)
    }

    /// What can't go together; `reachable` says that agents can be sent to the address that it listens on.
    fn problem_of_cluster(&self, reachable: bool) -> Option<&'static str> {
        if self.broker.is_empty() {
            return match (self.shared_tokens, &self.node_url, self.broker.secret_file()) {
                (true, ..) => Some("--shared-tokens are those of several nodes; add --cluster"),
                (_, Some(_), _) => Some("--node-url is for one of several nodes; add --cluster"),
                (.., Some(_)) => Some("--cluster-secret-file is for one of several nodes; add --cluster"),
                _ => None,
            };
        }
        if self.broker.secret_file().is_none() {
            return Some("the nodes of a cluster share a secret; add --cluster-secret-file");
        }
        if self.tokens.is_none() && !self.shared_tokens {
            return Some("the nodes of a cluster have the same tokens; add --tokens or --shared-tokens");
        }
        if self.allow_plain {
            return Some(
                "plain relays can't be steered to the right node; --allow-plain does not go with --cluster",
            );
        }
        if self.node_url.is_none() && !reachable {
            return Some(
                "agents have to be told where this node of the cluster is; add --node-url with an URL that leads here and to \
                 no other node",
            );
        }
        None
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected IP:PORT such as 127.0.0.1:8443 or [::1]:0; host names are not looked up")
}

/// Runs the registry and rendezvous until a signal, or does what a subcommand says.
pub(crate) async fn rendezvous(args: RendezvousArgs, setup: Setup) -> anyhow::Result<u8> {
    match args.command {
        Some(RendezvousCommand::Token(args)) => token::token(args, &setup).await,
        Some(RendezvousCommand::Status(args)) => status::status(&args).await,
        None => serve(args, &setup).await,
    }
}

async fn serve(args: RendezvousArgs, setup: &Setup) -> anyhow::Result<u8> {
    // Who is let in is said by flags alone.
    let settings = setup.exec_server(true)?.rendezvous;
    let args = match args.or(&settings) {
        Ok(args) => args,
        Err(error) => return wrong_usage(&error),
    };
    allow_many_connections();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let loopback = args.listen.ip().to_canonical().is_loopback();
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let tls = tls.map(|(certificate, key)| TlsFiles { certificate, key });
    let protected = tls.is_some() || args.public_url.as_ref().is_some_and(|url| url.scheme() == "https");
    if !loopback && !protected && !args.allow_insecure {
        return wrong_usage(&anyhow::anyhow!(
            "{} can be reached from other machines, and tokens would cross the network in the clear; add --tls-cert \
             and --tls-key, or --public-url https://… of the proxy before it, or --allow-insecure",
            args.listen
        ));
    }
    if let Some(url) = args.public_url.as_ref().filter(|url| url.scheme() == "http" && !is_loopback(url))
        && !args.allow_insecure
    {
        return wrong_usage(&anyhow::anyhow!(
            "--public-url http://{} has no TLS: executors and agents do not send their tokens there; give the https:// \
             URL of the proxy, or add --allow-insecure",
            url.host_str().unwrap_or_default()
        ));
    }
    let limits = match limits(&args.limit) {
        Ok(limits) => limits,
        Err(error) => return wrong_usage(&error),
    };
    if let Some(problem) = args.problem_of_cluster(loopback && tls.is_none()) {
        return wrong_usage(&anyhow::anyhow!(problem));
    }
    let audit = audit(&args, &limits)?;
    let cluster = args.broker.cluster(args.node_url.clone(), args.shared_tokens)?;
    let secrets = args.broker.secret_file().filter(|_| cluster.is_some()).map(Path::to_owned);
    let (grants, token) = match &args.tokens {
        Some(path) => (read_tokens(path)?, None),
        None if args.shared_tokens => (Vec::new(), None),
        None => {
            let roles = [Role::Executor, Role::Harness, Role::Observer].into();
            let (token, grant) = tokens::mint(roles, Scope::All, "this process");
            (vec![grant], Some(token))
        }
    };
    let starting = Rendezvous::start(Config {
        listen: args.listen,
        tls: tls.clone(),
        grants,
        store: args.store,
        allow_plain: args.allow_plain,
        // Behind a proxy everybody comes from loopback.
        open_metrics: loopback && args.public_url.is_none(),
        audit,
        public_url: args.public_url,
        limits,
        threads: args.threads.map_or_else(threads, usize::from),
        cluster,
    });
    // Shared tokens are waited for.
    let started = tokio::select! {
        started = starting => started,
        _ = terminate.recv() => return Ok(0),
        _ = interrupt.recv() => return Ok(0),
    };
    let mut rendezvous = match started {
        Err(error @ (StartError::PublicUrl | StartError::NodeUrl)) => return wrong_usage(&error.into()),
        started => started?,
    };
    output::line(rendezvous.local_url()).context("can't print the address on stdout")?;
    explain(&reachable(&rendezvous), token.as_ref().map(Secret::expose), args.allow_plain);
    drop(token);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = rendezvous.failed() => {
                ended.context("can't accept connections any more")?;
                bail!("the listener ended");
            }
            _ = reload.recv() => match read_again(&rendezvous, args.tokens.as_deref(), tls.as_ref(), secrets.as_deref()) {
                Ok(()) => note("Tokens, certificate and the cluster's secret are read again."),
                Err(error) => output::error(&format!("nothing is changed: {}", output::sentence(&error))),
            },
        }
    }
    rendezvous.drain().await;
    Ok(0)
}

/// The audit file, if the flags name one.
fn audit(args: &RendezvousArgs, limits: &Limits) -> anyhow::Result<Option<Audit<Record>>> {
    let bounds = Bounds {
        file_bytes: limits.audit.audit_file_bytes,
        old_files: limits.audit.audit_old_files,
        waiting: limits.audit.audit_records,
    };
    let without_room = if args.audit_required { WithoutRoom::Refuse } else { WithoutRoom::Count };
    Ok(args.audit.as_deref().map(|path| Audit::open(path, bounds, without_room)).transpose()?)
}

/// As many threads as there are cores, up to where more would rather wait for each other.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(DEFAULT_THREADS))
}

/// Each connection needs a descriptor, and many systems grant a process 1024 unless it asks for more.
fn allow_many_connections() {
    if let Err(error) = descriptor_limit::raise() {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
}

/// The files are checked before anything is changed.
fn read_again(
    rendezvous: &Rendezvous,
    tokens: Option<&Path>,
    tls: Option<&TlsFiles>,
    secrets: Option<&Path>,
) -> anyhow::Result<()> {
    let grants = tokens.map(read_tokens).transpose()?;
    let secrets = secrets.map(broker::read_secrets).transpose()?;
    if let Some(files) = tls {
        rendezvous.replace_certificate(files)?;
    }
    if let Some(grants) = grants {
        rendezvous.replace_tokens(grants);
    }
    if let Some(secrets) = secrets {
        rendezvous.replace_secrets(&secrets);
    }
    Ok(())
}

fn limits(settings: &[String]) -> anyhow::Result<Limits> {
    let mut limits = Limits::default();
    for setting in settings {
        let (name, value) =
            setting.split_once('=').with_context(|| format!("--limit takes NAME=VALUE, not {setting:?}"))?;
        limits.set_text(name, value)?;
    }
    Ok(limits)
}

/// The URL for the lines to paste. Nobody connects to the address that stands for all of this machine's.
fn reachable(rendezvous: &Rendezvous) -> String {
    let url = rendezvous.registry_url();
    let ip = rendezvous.address().ip();
    if ip.is_unspecified() && url == rendezvous.local_url() {
        let any = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        return url.replacen(&any, "HOST", 1);
    }
    url.to_owned()
}

/// Tells people what to paste where. With a token file nobody here knows a token.
fn explain(url: &str, token: Option<&str>, plain: bool) {
    let id = EXAMPLE_ENVIRONMENT;
    match token {
        Some(_) => note("Registry and rendezvous are ready. The access token below ends with this process."),
        None => note(
            "Registry and rendezvous are ready. TOKEN stands for one that it knows (`rendezvous token`).",
        ),
    }
    let token = token.unwrap_or("TOKEN");
    note("\nOn the machine to lend:");
    note(&format!(
        "  CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN={token} codex exec-server --remote {url} --environment-id {id}"
    ));
    note("\nA released Codex client that uses it:");
    note(&format!(
        "  CODEX_EXEC_SERVER_NOISE_REGISTRY_URL={url} CODEX_EXEC_SERVER_NOISE_ENVIRONMENT_ID={id} \
         CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN={token} codex"
    ));
    note("\nA program run there:");
    note(&format!(
        "  CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN={token} codex exec-server run --registry {url} \
         --environment-id {id} -- uname -a"
    ));
    if plain {
        let websocket = url.replacen("http", "ws", 1);
        note("\nA client of a plain relay, which this process can read:");
        note(&format!(
            "  CODEX_EXEC_SERVER_URL='{websocket}/rendezvous?role=harness&environment={id}&token={token}' codex"
        ));
    }
}
