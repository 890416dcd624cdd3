//! `codex exec-server rendezvous`: a registry and rendezvous of one's own, and the tokens for it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use codex_children::descriptor_limit;
use codex_outgoing::file::read_secret;
use codex_outgoing::{Outgoing, is_loopback};
use codex_rendezvous::cluster::{ClusterConfig, ClusterSecrets};
use codex_rendezvous::tokens::{self, Grant, Role, Scope};
use codex_rendezvous::{Config, Limits, Rendezvous, StartError, TlsFiles, file};
use codex_secret::Secret;
use rustix::fs::{FileType, fstat};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use crate::codes::WRONG_USAGE;
use crate::output;

/// The environment named in the lines to paste.
const EXAMPLE_ENVIRONMENT: &str = "my-machine";

/// The flags of `codex exec-server rendezvous`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
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
    /// File that keeps registrations, so that a restart loses none; made when missing. Needs --tokens.
    #[arg(long, value_name = "PATH", requires = "tokens")]
    store: Option<PathBuf>,
    /// Carry plain relays as well (executors of releases 0.131 to 0.140). This process can read all they say.
    #[arg(long)]
    allow_plain: bool,
    /// Be one of several nodes: the NATS servers by which they find each other, with commas between them. The nodes share one
    /// name, --tokens and --cluster-secret-file; docs/scale.md says how.
    #[arg(long, value_name = "nats://HOST:PORT", value_delimiter = ',', value_parser = broker,
          requires_all = ["tokens", "cluster_secret_file"], conflicts_with = "allow_plain")]
    cluster: Vec<Url>,
    /// Where agents reach this node and no other. Needed unless it listens on loopback without TLS.
    #[arg(long, value_name = "URL", requires = "cluster")]
    node_url: Option<Url>,
    /// File with the secret that the nodes share, one a line; the first signs, and all are good. Read again at SIGHUP.
    #[arg(long, value_name = "PATH", requires = "cluster")]
    cluster_secret_file: Option<PathBuf>,
    /// File with what the NATS servers ask for: USER:PASSWORD, or a token.
    #[arg(long, value_name = "PATH", requires = "cluster")]
    cluster_credentials_file: Option<PathBuf>,
    /// Sets a bound by its name, times in milliseconds; docs/rendezvous.md lists them. May be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum RendezvousCommand {
    /// Make an access token. stdout gets the token, which is kept nowhere, and the line for the --tokens file. When stdout
    /// is a file, it gets that line only, and stderr the token.
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// What its bearer may do; may be given several times.
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<RoleArg>,
    /// The environments it is for, with commas between them, or * for all; may be given several times.
    #[arg(long, value_name = "ID", required = true, value_parser = scope)]
    environment: Vec<Scope>,
    /// What people call it.
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Lends a machine.
    Executor,
    /// Uses machines.
    Harness,
    /// Reads the metrics.
    Observer,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected IP:PORT such as 127.0.0.1:8443 or [::1]:0; host names are not looked up")
}

fn broker(text: &str) -> Result<Url, &'static str> {
    // Not repeated in the error: it may hold a password.
    let wrong = "expected nats://HOST:PORT or tls://HOST:PORT, without a password, which others would see in the list of \
                 processes; --cluster-credentials-file takes it";
    let url = Url::parse(text).map_err(|_| wrong)?;
    let good = matches!(url.scheme(), "nats" | "tls")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    if good { Ok(url) } else { Err(wrong) }
}

fn scope(text: &str) -> Result<Scope, String> {
    tokens::scope(text).map_err(|word| {
        format!("{word:?} is no environment; ids are 1 to 256 of A-Z a-z 0-9 - _, or * for all")
    })
}

/// Runs the registry and rendezvous until a signal, or makes a token.
pub(crate) async fn rendezvous(args: RendezvousArgs) -> anyhow::Result<u8> {
    match args.command {
        Some(RendezvousCommand::Token(args)) => token(&args),
        None => serve(args).await,
    }
}

fn token(args: &TokenArgs) -> anyhow::Result<u8> {
    let roles = args.role.iter().map(|role| match role {
        RoleArg::Executor => Role::Executor,
        RoleArg::Harness => Role::Harness,
        RoleArg::Observer => Role::Observer,
    });
    let (token, grant) = tokens::mint(roles.collect(), union(&args.environment), &args.name);
    if !is_file(std::io::stdout()) {
        output::line(token.expose())
            .and_then(|()| output::line(&grant.to_string()))
            .context("can't print the token")?;
        say("The first line is the token, shown this once; the second belongs into the --tokens file.");
        return Ok(0);
    }
    // Most likely the --tokens file, which must not hold the token itself.
    if is_file(std::io::stderr()) {
        return wrong_usage(&anyhow::anyhow!(
            "stdout and stderr are files, and the token itself is to be kept nowhere; let stderr be a terminal or a pipe"
        ));
    }
    output::line(&grant.to_string()).context("can't print the line for the --tokens file")?;
    say("The token, shown this once; stdout got the line for the --tokens file:");
    say(token.expose());
    Ok(0)
}

fn is_file(stream: impl AsFd) -> bool {
    fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

fn union(scopes: &[Scope]) -> Scope {
    let mut ids = BTreeSet::new();
    for scope in scopes {
        match scope {
            Scope::All => return Scope::All,
            Scope::Only(more) => ids.extend(more.iter().cloned()),
        }
    }
    Scope::Only(ids)
}

async fn serve(args: RendezvousArgs) -> anyhow::Result<u8> {
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
    if !args.cluster.is_empty() && args.node_url.is_none() && (!loopback || tls.is_some()) {
        return wrong_usage(&anyhow::anyhow!(
            "agents have to be told where this node of the cluster is; add --node-url with an URL that leads here and to no \
             other node"
        ));
    }
    let cluster = cluster(&args)?;
    let secrets = args.cluster_secret_file.clone();
    let (grants, token) = match &args.tokens {
        Some(path) => (read_tokens(path)?, None),
        None => {
            let roles = [Role::Executor, Role::Harness, Role::Observer].into();
            let (token, grant) = tokens::mint(roles, Scope::All, "this process");
            (vec![grant], Some(token))
        }
    };
    let started = Rendezvous::start(Config {
        listen: args.listen,
        tls: tls.clone(),
        grants,
        store: args.store,
        allow_plain: args.allow_plain,
        // Behind a proxy everybody comes from loopback.
        open_metrics: loopback && args.public_url.is_none(),
        public_url: args.public_url,
        limits,
        cluster,
    })
    .await;
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
                Ok(()) => say("Tokens, certificate and the cluster's secret are read again."),
                Err(error) => output::error(&format!("nothing is changed: {}", output::sentence(&error))),
            },
        }
    }
    rendezvous.drain().await;
    Ok(0)
}

/// Tells what is wrong with the flags; nothing was started.
fn wrong_usage(error: &anyhow::Error) -> anyhow::Result<u8> {
    output::error(&output::sentence(error));
    Ok(WRONG_USAGE)
}

/// Each connection needs a descriptor, and many systems grant a process 1024 unless it asks for more.
fn allow_many_connections() {
    if let Err(error) = descriptor_limit::raise() {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
}

fn read_tokens(path: &Path) -> anyhow::Result<Vec<Grant>> {
    let unreadable = || format!("can't read the tokens' hashes from {}", path.display());
    let text = file::read(path).with_context(unreadable)?;
    let text = std::str::from_utf8(&text).with_context(unreadable)?;
    let grants = tokens::parse_file(text).with_context(|| format!("can't use {}", path.display()))?;
    if grants.is_empty() {
        bail!("{} holds no token; `codex exec-server rendezvous token` makes a line for it", path.display());
    }
    Ok(grants)
}

/// The other nodes, if there are any.
fn cluster(args: &RendezvousArgs) -> anyhow::Result<Option<ClusterConfig>> {
    let Some(path) = args.cluster_secret_file.as_deref().filter(|_| !args.cluster.is_empty()) else {
        return Ok(None);
    };
    let credentials = args.cluster_credentials_file.as_deref().map(|path| {
        let unreadable = || format!("can't read the credentials for the broker from {}", path.display());
        read_secret(path).with_context(unreadable)?.trimmed().with_context(unreadable)
    });
    Ok(Some(ClusterConfig {
        brokers: args.cluster.clone(),
        node_url: args.node_url.clone(),
        secrets: read_secrets(path)?,
        credentials: credentials.transpose()?,
        outgoing: Outgoing::from_lookup(|name| std::env::var(name).ok()),
    }))
}

fn read_secrets(path: &Path) -> anyhow::Result<ClusterSecrets> {
    let text = read_secret(path)
        .with_context(|| format!("can't read the cluster's secret from {}", path.display()))?;
    ClusterSecrets::parse(text.expose()).with_context(|| format!("can't use {}", path.display()))
}

/// The files are checked before anything is changed.
fn read_again(
    rendezvous: &Rendezvous,
    tokens: Option<&Path>,
    tls: Option<&TlsFiles>,
    secrets: Option<&Path>,
) -> anyhow::Result<()> {
    let grants = tokens.map(read_tokens).transpose()?;
    let secrets = secrets.map(read_secrets).transpose()?;
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
        Some(_) => say("Registry and rendezvous are ready. The access token below ends with this process."),
        None => {
            say("Registry and rendezvous are ready. TOKEN stands for one whose hash is in the --tokens file.")
        }
    }
    let token = token.unwrap_or("TOKEN");
    say("\nOn the machine to lend:");
    say(&format!(
        "  CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN={token} codex exec-server --remote {url} --environment-id {id}"
    ));
    say("\nA released Codex client that uses it:");
    say(&format!(
        "  CODEX_EXEC_SERVER_NOISE_REGISTRY_URL={url} CODEX_EXEC_SERVER_NOISE_ENVIRONMENT_ID={id} \
         CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN={token} codex"
    ));
    say("\nA program run there:");
    say(&format!(
        "  CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN={token} codex exec-server run --registry {url} \
         --environment-id {id} -- uname -a"
    ));
    if plain {
        let websocket = url.replacen("http", "ws", 1);
        say("\nA client of a plain relay, which this process can read:");
        say(&format!(
            "  CODEX_EXEC_SERVER_URL='{websocket}/rendezvous?role=harness&environment={id}&token={token}' codex"
        ));
    }
}

/// Prints a line for people on stderr; nothing can be done when it is closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
