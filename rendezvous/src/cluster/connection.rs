//! How a broker is reached: addresses, credentials, and whom TLS trusts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::Connector;
use url::Url;

use super::directory::ClusterConfig;

/// The broker can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// An address is none.
    #[error("the cluster's broker is given as nats://HOST:PORT or tls://HOST:PORT; {0} can't be used")]
    Address(String),
    /// Certificates for TLS can't be read.
    #[error("can't use TLS to the cluster's broker: {0}")]
    Tls(String),
    /// The client does not start.
    #[error("can't set up the connection to the cluster's broker: {0}")]
    Connect(#[from] async_nats::ConnectError),
    /// The client does not listen.
    #[error("can't listen at the cluster's broker: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
}

/// What every connection to a broker has.
pub(super) async fn options(config: &ClusterConfig) -> Result<ConnectOptions, BrokerError> {
    let options = ConnectOptions::new()
        .name("codex rendezvous")
        .no_echo()
        .reconnect_delay_callback(delay)
        .tls_client_config(tls(config).await?);
    let Some(credentials) = &config.credentials else { return Ok(options) };
    Ok(match credentials.expose().split_once(':') {
        Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
        None => options.token(credentials.expose().to_owned()),
    })
}

/// Where the brokers are.
pub(super) fn addresses(config: &ClusterConfig) -> Result<Vec<ServerAddr>, BrokerError> {
    config.brokers.iter().map(address).collect()
}

/// Whom a broker's TLS has to satisfy. A broker that asks for TLS at an address without it is trusted by nobody.
async fn tls(config: &ClusterConfig) -> Result<ClientConfig, BrokerError> {
    let wrong = |error: &dyn fmt::Display| BrokerError::Tls(error.to_string());
    if config.brokers.iter().any(|url| url.scheme() == "tls") {
        let https = Url::parse("https://broker.invalid").map_err(|error| wrong(&error))?;
        let connector = config.outgoing.connector(&https).await.map_err(|error| wrong(&error))?;
        if let Connector::Rustls(tls) = connector {
            return Ok((*tls).clone());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn address(url: &Url) -> Result<ServerAddr, BrokerError> {
    // Not shown as it is: it may hold a password.
    let shown = || BrokerError::Address(format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()));
    let good = matches!(url.scheme(), "nats" | "tls")
        && url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/");
    if !good {
        return Err(shown());
    }
    ServerAddr::from_url(url.clone()).map_err(|_| shown())
}

/// Nodes that lost the broker together do not come back together.
fn delay(attempts: usize) -> Duration {
    let most = if attempts <= 1 { 250 } else { 1_000 };
    Duration::from_millis(rand::random_range(0..most))
}
