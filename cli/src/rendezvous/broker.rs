//! The flags that lead to what the nodes of a rendezvous share.

use std::path::{Path, PathBuf};

use anyhow::Context;
use codex_config::RendezvousConfig;
use codex_outgoing::Outgoing;
use codex_outgoing::file::read_secret;
use codex_rendezvous::cluster::{ClusterConfig, ClusterSecrets};
use url::Url;

/// Where the brokers are, and what opens what they pass on.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct BrokerArgs {
    /// The NATS servers by which several nodes find each other, with commas between them. The nodes share one name, their
    /// tokens and --cluster-secret-file; docs/scale.md says how.
    #[arg(long, value_name = "nats://HOST:PORT", value_delimiter = ',', value_parser = broker)]
    cluster: Vec<Url>,
    /// File with the secret that the nodes share, one a line; the first signs, and all are good. Nodes read it again at SIGHUP.
    #[arg(long, value_name = "PATH")]
    cluster_secret_file: Option<PathBuf>,
    /// File with what the NATS servers ask for: USER:PASSWORD, or a token.
    #[arg(long, value_name = "PATH")]
    cluster_credentials_file: Option<PathBuf>,
}

impl BrokerArgs {
    /// The flags, and the configuration's keys where there is no flag.
    ///
    /// # Errors
    /// When an address of the configuration is none.
    pub(super) fn or(mut self, settings: &RendezvousConfig) -> anyhow::Result<Self> {
        if self.cluster.is_empty() {
            let urls = settings.cluster.iter().map(|text| broker(text).map_err(anyhow::Error::msg));
            self.cluster = urls.collect::<Result<_, _>>().context("exec_server.rendezvous.cluster")?;
        }
        let file = |flag: &mut Option<PathBuf>, key: &Option<PathBuf>| {
            if flag.is_none() {
                flag.clone_from(key);
            }
        };
        file(&mut self.cluster_secret_file, &settings.cluster_secret_file);
        file(&mut self.cluster_credentials_file, &settings.cluster_credentials_file);
        Ok(self)
    }

    /// Whether no broker is named.
    pub(super) fn is_empty(&self) -> bool {
        self.cluster.is_empty()
    }

    /// Where the secret is.
    pub(super) fn secret_file(&self) -> Option<&Path> {
        self.cluster_secret_file.as_deref()
    }

    /// What is needed to speak with the nodes; `None` without a broker or a secret.
    ///
    /// # Errors
    /// When a file can't be read or used.
    pub(super) fn cluster(
        &self,
        node_url: Option<Url>,
        shared_tokens: bool,
    ) -> anyhow::Result<Option<ClusterConfig>> {
        let Some(path) = self.secret_file().filter(|_| !self.is_empty()) else { return Ok(None) };
        let credentials = self.cluster_credentials_file.as_deref().map(|path| {
            let unreadable = || format!("can't read the credentials for the broker from {}", path.display());
            read_secret(path).with_context(unreadable)?.trimmed().with_context(unreadable)
        });
        Ok(Some(ClusterConfig {
            brokers: self.cluster.clone(),
            node_url,
            secrets: read_secrets(path)?,
            shared_tokens,
            credentials: credentials.transpose()?,
            outgoing: Outgoing::from_lookup(|name| std::env::var(name).ok()),
        }))
    }
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

/// The secrets in a file.
///
/// # Errors
/// When it can't be read, or holds none that can be used.
pub(super) fn read_secrets(path: &Path) -> anyhow::Result<ClusterSecrets> {
    let text = read_secret(path)
        .with_context(|| format!("can't read the cluster's secret from {}", path.display()))?;
    ClusterSecrets::parse(text.expose()).with_context(|| format!("can't use {}", path.display()))
}
