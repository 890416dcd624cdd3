//! The proxies that stand between this machine and the world, for the proxies of programs (13, 21.4).

use std::io;

use codex_exec_protocol::network::Protocol;
use codex_outgoing::{DialError, Forward, Outgoing, Stream};
use tokio::net::TcpStream;
use url::Url;

use super::policy::Wish;

/// What the proxies of programs go through, where a request allows it with `allowUpstreamProxy`.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// The proxies of the server's environment: for HTTP and `CONNECT`.
    pub environment: Outgoing,
    /// The only way for what comes by SOCKS or a device; without one that goes straight.
    pub tcp: Option<Outgoing>,
    /// Private addresses are left to the proxies as well.
    pub private: bool,
}

/// Whether a connection goes through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// It goes straight.
    Straight,
    /// To a public host it goes through a proxy, to others straight.
    Through,
    /// It goes through a proxy or not at all.
    Only,
    /// There is no way for it, since the request does not allow the only one.
    Closed,
}

impl Upstream {
    /// The rule for a connection of a program whose request allows upstream proxies or not.
    pub(super) fn rule(&self, wish: &Wish, allowed: bool) -> Rule {
        match (wish.protocol, &self.tcp) {
            (Protocol::Socks5Tcp | Protocol::Socks5Udp, None) => Rule::Straight,
            // What it speaks carries no datagrams.
            (Protocol::Socks5Udp, Some(_)) => Rule::Closed,
            (Protocol::Socks5Tcp, Some(_)) if allowed => Rule::Only,
            (Protocol::Socks5Tcp, Some(_)) => Rule::Closed,
            (Protocol::Http | Protocol::HttpsConnect, _) => match url_of(wish) {
                Some(url) if allowed && self.environment.has_proxy_for(&url) => Rule::Through,
                _ => Rule::Straight,
            },
        }
    }

    /// A stream to the host through the proxy for SOCKS.
    pub(super) async fn tcp(&self, wish: &Wish) -> Result<TcpStream, DialError> {
        let (Some(proxy), Some(url)) = (&self.tcp, url_of(wish)) else { return Err(DialError::Address) };
        match proxy.dial(&url).await? {
            Stream::Plain(stream) => Ok(stream),
            _ => Err(DialError::Server(io::ErrorKind::Unsupported.into())),
        }
    }

    /// A way to the host through a proxy of the environment.
    pub(super) async fn http(&self, wish: &Wish) -> Result<Forward, DialError> {
        let url = url_of(wish).ok_or(DialError::Address)?;
        match wish.protocol {
            Protocol::Http => self.environment.forward(&url).await,
            Protocol::HttpsConnect | Protocol::Socks5Tcp | Protocol::Socks5Udp => Ok(Forward {
                stream: self.environment.dial(&url).await?,
                takes_whole: false,
                authorization: None,
            }),
        }
    }
}

/// The host as proxies are chosen by: what is plain HTTP by `HTTP_PROXY`, everything else by `HTTPS_PROXY`.
fn url_of(wish: &Wish) -> Option<Url> {
    let scheme = if wish.protocol == Protocol::Http { "http" } else { "https" };
    Url::parse(&format!("{scheme}://{}:{}", wish.host.in_url(), wish.port)).ok()
}

#[cfg(test)]
mod tests {
    use codex_outgoing::Proxies;

    use super::super::host::HostName;
    use super::*;

    #[test]
    fn what_goes_through_a_proxy_depends_on_the_protocol_the_request_and_no_proxy() {
        let proxies = Proxies {
            http: Some("http://proxy.test:3128".into()),
            https: Some("http://proxy.test:3129".into()),
            all: None,
            none_for: Some("inside.test".into()),
        };
        let tcp = Proxies { https: Some("http://tcp.test:1".into()), ..Proxies::default() };
        let upstream = Upstream {
            environment: Outgoing::new(None, proxies),
            tcp: Some(Outgoing::new(None, tcp)),
            private: false,
        };
        let without = Upstream { tcp: None, ..upstream.clone() };
        for (protocol, host, allowed, rule, rule_without) in [
            (Protocol::Http, "a.test", true, Rule::Through, Rule::Through),
            (Protocol::HttpsConnect, "a.test", true, Rule::Through, Rule::Through),
            (Protocol::Http, "a.test", false, Rule::Straight, Rule::Straight),
            (Protocol::Http, "inside.test", true, Rule::Straight, Rule::Straight),
            (Protocol::Socks5Tcp, "a.test", true, Rule::Only, Rule::Straight),
            (Protocol::Socks5Tcp, "a.test", false, Rule::Closed, Rule::Straight),
            (Protocol::Socks5Udp, "a.test", true, Rule::Closed, Rule::Straight),
        ] {
            let host = HostName::parse(host).unwrap();
            let wish = Wish { protocol, host, port: 443, method: None, has_body: false };
            assert_eq!((upstream.rule(&wish, allowed), without.rule(&wish, allowed)), (rule, rule_without));
        }
        let nothing = Upstream::default();
        let wish = Wish {
            protocol: Protocol::Http,
            host: HostName::parse("a.test").unwrap(),
            port: 80,
            method: None,
            has_body: false,
        };
        assert_eq!(nothing.rule(&wish, true), Rule::Straight);
    }
}
