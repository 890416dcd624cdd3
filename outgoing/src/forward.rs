//! The way of a plain HTTP request through a proxy of the environment: whole, for the proxy to pass on.

use hyper::header::HeaderValue;
use url::Url;

use crate::Outgoing;
use crate::dial::{DialError, Stream};

/// A stream that requests to one host are sent on.
#[derive(Debug)]
pub struct Forward {
    /// To the proxy, or through it.
    pub stream: Stream,
    /// The proxy takes requests with their whole URL, and passes them on.
    pub takes_whole: bool,
    /// What the proxy wants to see in `Proxy-Authorization` of each.
    pub authorization: Option<HeaderValue>,
}

impl Outgoing {
    /// Whether a proxy of the environment stands on the way to a URL. One that can't be used does, too: what it was meant for
    /// must not go past it.
    pub fn has_proxy_for(&self, url: &Url) -> bool {
        !matches!(self.shared.proxies.on_the_way(url), Ok(None))
    }

    /// Connects to the proxy on the way to an `http` URL, or through it where it is one that carries streams only. The
    /// caller bounds the time.
    ///
    /// # Errors
    /// When the proxy can't be reached, or there is none.
    pub async fn forward(&self, url: &Url) -> Result<Forward, DialError> {
        let proxy = self.shared.proxies.on_the_way(url)?.ok_or(DialError::Address)?;
        if !matches!(proxy.uri().scheme_str(), Some("http" | "https")) {
            return Ok(Forward { stream: self.dial(url).await?, takes_whole: false, authorization: None });
        }
        let stream = self.to_proxy(&proxy).await?;
        Ok(Forward { stream, takes_whole: true, authorization: proxy.basic_auth().cloned() })
    }
}
