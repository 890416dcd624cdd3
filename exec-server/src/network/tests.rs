//! The rules against tables and against everything else that can be written.

mod hosts;
mod properties;
mod rules;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use codex_exec_protocol::network::{DomainRule, NetworkMode, Protocol, ProxySettings};
use proptest::prelude::*;

use super::address::is_public;
use super::host::HostName;
use super::pattern::{Pattern, Reach};
use super::policy::{Found, Reason, Rules, Verdict, Wish};

pub(super) fn settings(domains: &[(&str, DomainRule)]) -> ProxySettings {
    ProxySettings {
        enabled: true,
        enable_socks5: true,
        enable_socks5_udp: true,
        allow_upstream_proxy: true,
        dangerously_allow_all_unix_sockets: false,
        mode: NetworkMode::Full,
        allow_local_binding: false,
        domains: Some(domains.iter().map(|(pattern, rule)| ((*pattern).to_owned(), *rule)).collect()),
        unix_sockets: None,
        review_domains: None,
        credential_providers: None,
        credential_masking: false,
        transparent_tcp: false,
    }
}

fn wish(host: &str, port: u16) -> Wish {
    Wish {
        protocol: Protocol::HttpsConnect,
        host: HostName::parse(host).unwrap(),
        port,
        method: Some("CONNECT".into()),
        has_body: false,
    }
}

fn judged(rules: &[(&str, DomainRule)], host: &str, port: u16) -> Verdict {
    Rules::new(&settings(rules)).unwrap().judge(&wish(host, port))
}
