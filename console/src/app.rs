//! What all requests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_exec_server::client::Environments;
use codex_secret::Secret;
use tokio::sync::Semaphore;
use url::Url;

use crate::access::{Book, NoGrant, Role, Scope, Wish};
use crate::forwards::Forwards;
use crate::limits::Limits;

/// What all requests share.
pub(crate) struct App {
    pub(crate) environments: Environments,
    pub(crate) access: Book,
    pub(crate) forwards: Forwards,
    pub(crate) terminals: Arc<Semaphore>,
    pub(crate) limits: Limits,
    pub(crate) site: Site,
}

impl App {
    pub(crate) fn new(environments: Environments, limits: Limits, site: Site) -> Self {
        Self {
            environments,
            access: Book::new(limits.grants, limits.session_life),
            forwards: Forwards::new(limits.forwards, limits.forwarded_connections),
            terminals: Arc::new(Semaphore::new(limits.terminals)),
            limits,
            site,
        }
    }

    /// A link that makes whoever uses it the owner of the console.
    ///
    /// # Errors
    /// As many links are good as may be.
    pub(crate) fn owner_link(&self) -> Result<Secret, NoGrant> {
        let life = self.limits.first_link_life;
        let wish = Wish { name: "the command".into(), role: Role::Own, scope: Scope::All, life };
        let (key, _) = self.access.link(wish, Instant::now())?;
        Ok(self.site.link(&key))
    }
}

/// Where browsers find the page, and how they name it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// As it stands in links.
    url: Url,
    /// `HOST:PORT` as the header `Host` may have it.
    hosts: Vec<String>,
    /// `SCHEME://HOST:PORT` as the header `Origin` may have it.
    origins: Vec<String>,
    /// Cookies of one host are shared by all its ports, so the port is part of the name.
    cookie: String,
}

impl Site {
    pub(crate) fn new(
        address: SocketAddr,
        tls: bool,
        public_url: Option<Url>,
    ) -> Result<Self, url::ParseError> {
        let scheme = if tls { "https" } else { "http" };
        let local = Url::parse(&format!("{scheme}://{address}"))?;
        let mut named = vec![local.clone()];
        if address.ip().is_loopback() {
            named.push(Url::parse(&format!("{scheme}://localhost:{}", address.port()))?);
        }
        named.extend(public_url.clone());
        // The port's default is left out in both headers, as it is in the URL's authority.
        let hosts = named.iter().map(|url| url.authority().to_owned()).collect();
        let origins = named.iter().map(|url| url.origin().ascii_serialization()).collect();
        let mut url = public_url.unwrap_or(local);
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self { url, hosts, origins, cookie: format!("codex-console-{}", address.port()) })
    }

    pub(crate) fn knows_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    pub(crate) fn knows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
    }

    /// The page's address.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The link with this key. It stands in the fragment, which browsers send to nobody.
    pub(crate) fn link(&self, key: &Secret) -> Secret {
        Secret::new(format!("{}#{}", self.url, key.expose()))
    }

    /// The session's key in a header `Cookie`.
    pub(crate) fn key_in<'a>(&self, cookies: &'a str) -> Option<&'a str> {
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, key)| key)
    }

    /// The header `Set-Cookie` for a session's key, or for the end of the session.
    pub(crate) fn cookie(&self, key: Option<&Secret>, life: Duration) -> Secret {
        let secure = if self.url.scheme() == "https" { "; Secure" } else { "" };
        let (value, age) = key.map_or(("", 0), |key| (key.expose(), life.as_secs()));
        let (name, path) = (&self.cookie, self.url.path());
        Secret::new(format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_knows_its_own_names_and_no_others() {
        let site = Site::new("127.0.0.1:4501".parse().unwrap(), false, None).unwrap();
        for (host, known) in [
            ("127.0.0.1:4501", true),
            ("LOCALHOST:4501", true),
            ("127.0.0.1:4502", false),
            ("evil.example:4501", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(site.knows_host(host), known, "{host}");
        }
        assert!(site.knows_origin("http://127.0.0.1:4501") && !site.knows_origin("https://127.0.0.1:4501"));
        let public = Some(Url::parse("https://box.example/console").unwrap());
        let site = Site::new("127.0.0.1:4501".parse().unwrap(), false, public).unwrap();
        assert!(site.knows_host("box.example") && site.knows_origin("https://box.example"));
        assert_eq!(site.link(&Secret::from("k")).expose(), "https://box.example/console/#k");
        let cookie = site.cookie(Some(&Secret::from("k")), Duration::from_secs(9));
        assert_eq!(
            cookie.expose(),
            "codex-console-4501=k; Path=/console/; Max-Age=9; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(site.key_in("a=b; codex-console-4501=k"), Some("k"));
        assert_eq!(site.key_in("codex-console-4502=k"), None);
    }
}
