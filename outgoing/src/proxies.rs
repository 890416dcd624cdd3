//! The proxies of the environment, and which of them a connection goes through.

use std::fmt;

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use reqwest::ClientBuilder;
use url::Url;

use crate::error::OutgoingError;
use crate::loopback::is_loopback;

/// Never behind a proxy, whatever `NO_PROXY` says.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// Every address.
const ALL: &str = "0.0.0.0/0,::/0";

/// The usual proxy variables, each in capitals or not.
#[derive(Clone, Default)]
pub struct Proxies {
    /// `HTTPS_PROXY`
    pub https: Option<String>,
    /// `HTTP_PROXY`
    pub http: Option<String>,
    /// `ALL_PROXY`
    pub all: Option<String>,
    /// `NO_PROXY`
    pub none_for: Option<String>,
}

// A proxy's address may hold a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("all", &self.all.is_some())
            .field("none_for", &self.none_for)
            .finish()
    }
}

impl Proxies {
    /// Asks `lookup` for each variable. Blank values count as unset.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let text =
            |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let either_case = |name: &str| text(&name.to_ascii_lowercase()).or_else(|| text(name));
        Self {
            https: either_case("HTTPS_PROXY"),
            // In capitals it can be set by a web server from a request's header, which marks its programs so.
            http: text("http_proxy")
                .or_else(|| if lookup("REQUEST_METHOD").is_none() { text("HTTP_PROXY") } else { None }),
            all: either_case("ALL_PROXY"),
            none_for: either_case("NO_PROXY"),
        }
    }

    /// Lets an HTTP client go through them.
    pub(crate) fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, OutgoingError> {
        let exceptions = reqwest::NoProxy::from_string(&self.exceptions());
        let proxies = self.checked()?.into_iter().flatten();
        Ok(proxies
            .fold(builder.no_proxy(), |builder, proxy| builder.proxy(proxy.no_proxy(exceptions.clone()))))
    }

    /// As [`Self::apply`], for requests of somebody else's, as common tools make them: also to this machine through a proxy,
    /// and without those that have no address.
    pub(crate) fn apply_as_usual(&self, builder: ClientBuilder) -> ClientBuilder {
        let exceptions = reqwest::NoProxy::from_string(&self.named_exceptions());
        let proxies = self.each().into_iter().flat_map(|made| made.ok().flatten());
        proxies.fold(builder.no_proxy(), |builder, proxy| builder.proxy(proxy.no_proxy(exceptions.clone())))
    }

    /// The proxy on the way to a `ws`, `wss`, `http` or `https` URL, if there is one.
    ///
    /// # Errors
    /// A variable without an address of a proxy.
    pub(crate) fn on_the_way(&self, url: &Url) -> Result<Option<Intercept>, OutgoingError> {
        // Names the variable; the library below would take a wrong one for none.
        self.checked()?;
        let scheme = match url.scheme() {
            "wss" | "https" => "https",
            _ => "http",
        };
        let authority = url.host_str().zip(url.port_or_known_default());
        let target = authority.and_then(|(host, port)| format!("{scheme}://{host}:{port}/").parse().ok());
        let Some(target) = target.filter(|_| !is_loopback(url)) else { return Ok(None) };
        let value = |text: &Option<String>| text.clone().unwrap_or_default();
        let matcher = Matcher::builder()
            .https(value(&self.https))
            .http(value(&self.http))
            .all(value(&self.all))
            .no(self.exceptions())
            .build();
        Ok(matcher.intercept(&target))
    }

    fn checked(&self) -> Result<[Option<reqwest::Proxy>; 3], OutgoingError> {
        let [https, http, all] = self.each();
        let (https, http) = (https?, http?);
        // It counts only for what has no proxy of its own.
        let all = match all {
            Err(error) if https.is_some() || http.is_some() => {
                tracing::warn!("{error}; only the other proxies count");
                None
            }
            all => all?,
        };
        Ok([https, http, all])
    }

    fn each(&self) -> [Result<Option<reqwest::Proxy>, OutgoingError>; 3] {
        type Make = fn(String) -> reqwest::Result<reqwest::Proxy>;
        let made = |variable, address: &Option<String>, make: Make| {
            let proxy = address.clone().map(make).transpose();
            proxy.map_err(|_| OutgoingError::BadProxy { variable })
        };
        [
            made("HTTPS_PROXY", &self.https, reqwest::Proxy::https),
            made("HTTP_PROXY", &self.http, reqwest::Proxy::http),
            made("ALL_PROXY", &self.all, reqwest::Proxy::all),
        ]
    }

    /// Those of `NO_PROXY`. To the library, the star is a name of any host, but no address.
    fn named_exceptions(&self) -> String {
        let names = self.none_for.clone().unwrap_or_default();
        if names.split(',').any(|name| name.trim() == "*") { format!("{names},{ALL}") } else { names }
    }

    fn exceptions(&self) -> String {
        match self.named_exceptions() {
            names if names.is_empty() => LOOPBACK.to_owned(),
            names => format!("{names},{LOOPBACK}"),
        }
    }
}
