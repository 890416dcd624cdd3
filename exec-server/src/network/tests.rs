//! The rules against tables and against everything else that can be written.

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

#[test]
fn one_host_has_one_spelling() {
    for (written, read) in [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("ex%61mple.com", "example.com"),
        ("bücher.test", "xn--bcher-kva.test"),
        ("BÜCHER.test", "xn--bcher-kva.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("ｅｘａｍｐｌｅ．com", "example.com"),
        ("example。com", "example.com"),
        ("under_score.test", "under_score.test"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4.", "1.2.3.4"),
        ("16909060", "1.2.3.4"),
        ("0x01020304", "1.2.3.4"),
        ("0x1.2.772", "1.2.3.4"),
        ("01.02.03.04", "1.2.3.4"),
        ("0177.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:102:304]", "1.2.3.4"),
        ("::1.2.3.4", "1.2.3.4"),
        ("64:ff9b::1.2.3.4", "1.2.3.4"),
        ("2606:4700::1111", "2606:4700::1111"),
    ] {
        assert_eq!(HostName::parse(written).map(|host| host.to_string()), Ok(read.to_owned()), "{written}");
    }
    for wrong in [
        "",
        ".",
        "a..b",
        ".a",
        "a b",
        "a/b",
        "a:80",
        "a@b",
        "[::1",
        "::1]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "a\0b",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x100000000",
        "a.1",
        "*.a",
        "*",
        &"a".repeat(64),
        &"a.".repeat(200),
        "a%00b",
        "a%2fb",
    ] {
        assert!(HostName::parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn public_addresses_are_told_from_all_others() {
    for public in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.0.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2001:200::1",
        "2003::1",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
    for other in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "168.63.129.16",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:101:101::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
        "1000::1",
    ] {
        assert!(!is_public(other.parse().unwrap()), "{other}");
    }
}

#[test]
fn patterns_mean_what_they_say() {
    // Pattern, host, port, as an allowance, as a denial.
    for (pattern, host, port, allows, denies) in [
        ("a.test", "a.test", 443, true, true),
        ("A.Test.", "a.test", 443, true, true),
        ("a.test", "b.a.test", 443, false, false),
        ("a.test", "xa.test", 443, false, false),
        ("*.a.test", "b.a.test", 443, true, true),
        ("*.a.test", "c.b.a.test", 443, true, true),
        ("*.a.test", "a.test", 443, false, false),
        ("*.a.test", "xa.test", 443, false, false),
        ("**.a.test", "a.test", 443, true, true),
        ("**.a.test", "c.b.a.test", 443, true, true),
        ("**.a.test", "xa.test", 443, false, false),
        ("*", "a.test", 1, true, true),
        ("*", "1.2.3.4", 1, true, true),
        ("*.bücher.test", "a.xn--bcher-kva.test", 443, true, true),
        ("region*.a.test", "region1.a.test", 443, true, true),
        ("region*.a.test", "region.a.test", 443, true, true),
        ("region*.a.test", "region1.evil.a.test", 443, false, true),
        ("*ads*", "ads", 443, true, true),
        ("*ads*", "my.ads.test", 443, false, true),
        ("a?.test", "ab.test", 443, true, true),
        ("a?.test", "abc.test", 443, false, false),
        ("*.b*.test", "a.bc.test", 443, true, true),
        ("*.b*.test", "x.a.bc.test", 443, false, true),
        ("a.test:8443", "a.test", 8443, true, true),
        ("a.test:8443", "a.test", 443, false, false),
        ("*:22", "a.test", 22, true, true),
        ("1.2.3.4", "0x01020304", 80, true, true),
        ("0x01020304", "::ffff:1.2.3.4", 80, true, true),
        ("[2606:4700::1111]:443", "2606:4700:0::1111", 443, true, true),
        ("2606:4700::1111", "2606:4700::1111", 80, true, true),
        ("*.3.4", "1.2.3.4", 80, false, false),
        ("127.0.0.*", "127.0.0.1", 80, false, true),
        ("127.0.0.*", "127.0.1.1", 80, false, false),
        ("8.8.*", "8.8.4.4", 80, false, true),
        ("8.8.*", "::ffff:8.8.4.4", 80, false, true),
        ("8.8.*:53", "8.8.4.4", 80, false, false),
        ("*.8.4.?", "8.8.4.4", 80, false, true),
        ("1?.0.0.1", "10.0.0.1", 80, false, true),
        ("fe80*", "fe80::1", 80, false, true),
        ("*ad*", "2606:4700::ad", 80, false, false),
    ] {
        let Ok(parsed) = Pattern::parse(pattern) else {
            assert_eq!(pattern, "*.3.4", "{pattern} can be read");
            continue;
        };
        let host = HostName::parse(host).unwrap();
        assert_eq!(parsed.matches(&host, port, Reach::Label), allows, "{pattern} allows {host}");
        assert_eq!(parsed.matches(&host, port, Reach::Name), denies, "{pattern} denies {host}");
    }
    for wrong in [
        "",
        "https://a.test",
        "a.test/x",
        "10.0.0.0/8",
        "a.test:0",
        "a.test:70000",
        "a.test:",
        "a b",
        "*.",
        "**",
        "*.*",
        "?",
        "***",
        ".a.test",
        "*..a",
        "*.1.2.3",
        "a@b",
        "*ü*.test",
        "a.test:+80",
    ] {
        assert!(Pattern::parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_denial_beats_an_allowance_and_what_is_not_allowed_is_undecided() {
    use DomainRule::{Allow, Deny, None};
    let rules = [("**.a.test", Allow), ("bad.a.test", Deny), ("n.test", None), ("*.bad.a.test", Allow)];
    for (host, verdict) in [
        ("a.test", Verdict::Allowed),
        ("x.a.test", Verdict::Allowed),
        ("bad.a.test", Verdict::Refused(Reason::Denied)),
        ("BAD.a.test.", Verdict::Refused(Reason::Denied)),
        ("x.bad.a.test", Verdict::Allowed),
        ("n.test", Verdict::Undecided),
        ("other.test", Verdict::Undecided),
    ] {
        assert_eq!(judged(&rules, host, 443), verdict, "{host}");
    }
    assert_eq!(judged(&[("*", Allow), ("*", Deny)], "a.test", 1), Verdict::Refused(Reason::Denied));
    assert_eq!(judged(&[], "a.test", 1), Verdict::Undecided);
}

#[test]
fn local_hosts_are_refused_whatever_allows_them() {
    use DomainRule::Allow;
    for host in [
        "localhost",
        "LOCALHOST.",
        "x.localhost",
        "127.0.0.1",
        "2130706433",
        "::1",
        "10.1.1.1",
        "169.254.169.254",
    ] {
        let verdict = judged(&[("*", Allow), (host, Allow)], host, 80);
        assert_eq!(verdict, Verdict::Refused(Reason::NotAllowedLocal), "{host}");
        let open = ProxySettings { allow_local_binding: true, ..settings(&[(host, Allow)]) };
        assert_eq!(Rules::new(&open).unwrap().judge(&wish(host, 80)), Verdict::Allowed, "{host}");
    }
    let rules = Rules::new(&settings(&[("*", Allow), ("9.9.9.9", DomainRule::Deny)])).unwrap();
    for (address, own, outcome) in [
        ("1.1.1.1", false, Ok(())),
        ("1.1.1.1", true, Err(Reason::NotAllowedLocal)),
        ("127.0.0.1", false, Err(Reason::NotAllowedLocal)),
        ("::ffff:192.168.0.1", false, Err(Reason::NotAllowedLocal)),
        ("9.9.9.9", false, Err(Reason::Denied)),
        ("::ffff:9.9.9.9", false, Err(Reason::Denied)),
    ] {
        assert_eq!(checked(&rules, "a.test", address, own), outcome, "{address}");
    }
}

fn checked(rules: &Rules, host: &str, address: &str, is_own: bool) -> Result<(), Reason> {
    let found = Found { address: address.parse().unwrap(), port: 443, is_own, is_this_server: false };
    rules.check_address(&HostName::parse(host).unwrap(), found)
}

fn local(rules: &[(&str, DomainRule)]) -> Rules {
    Rules::new(&ProxySettings { allow_local_binding: true, ..settings(rules) }).unwrap()
}

#[test]
fn nothing_leads_to_this_server_itself() {
    let rules = local(&[("*", DomainRule::Allow), ("127.0.0.1", DomainRule::Allow)]);
    for (address, is_own, outcome) in [
        ("127.0.0.1", false, Err(Reason::ThisServer)),
        ("127.9.9.9", false, Err(Reason::ThisServer)),
        ("::1", false, Err(Reason::ThisServer)),
        ("::ffff:127.0.0.1", false, Err(Reason::ThisServer)),
        ("0.0.0.0", false, Err(Reason::Unspecified)),
        ("10.0.0.7", true, Err(Reason::ThisServer)),
        ("1.1.1.1", true, Err(Reason::ThisServer)),
        ("10.0.0.8", false, Ok(())),
        ("1.1.1.1", false, Ok(())),
    ] {
        let address = address.parse().unwrap();
        let found = Found { address, port: 443, is_own, is_this_server: true };
        for host in [HostName::Address(address), HostName::localhost(), HostName::parse("a.test").unwrap()] {
            assert_eq!(rules.check_address(&host, found), outcome, "{host} at {address}");
        }
        assert!(outcome.is_ok_and(|()| true) || outcome.unwrap_err().word() == "not_allowed_local");
    }
}

#[test]
fn a_name_leads_to_this_machine_alone_only_where_that_address_is_allowed() {
    use DomainRule::Allow;
    let named = local(&[("a.test", Allow), ("localhost", Allow), ("*.localhost", Allow)]);
    for inside in [
        "127.0.0.1",
        "127.1.1.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "100.100.100.200",
        "fd00:ec2::254",
        "168.63.129.16",
    ] {
        assert_eq!(checked(&named, "a.test", inside, false), Err(Reason::LeadsInside), "{inside}");
        assert_eq!(checked(&named, inside, inside, false), Ok(()), "{inside} was named itself");
        let both = local(&[("a.test", Allow), (inside, Allow)]);
        assert_eq!(checked(&both, "a.test", inside, false), Ok(()), "{inside} is allowed itself");
        let everything = local(&[("*", Allow)]);
        assert_eq!(checked(&everything, "a.test", inside, false), Ok(()), "{inside} is allowed by *");
    }
    for name in ["localhost", "x.localhost"] {
        assert_eq!(checked(&named, name, "127.0.0.1", false), Ok(()));
        assert_eq!(checked(&named, name, "::1", false), Ok(()));
        assert_eq!(checked(&named, name, "169.254.169.254", false), Err(Reason::LeadsInside));
    }
    for private in ["10.0.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "1.1.1.1"] {
        assert_eq!(checked(&named, "a.test", private, false), Ok(()), "{private}");
    }
}

#[test]
fn the_unspecified_address_is_refused_whatever_allows_it() {
    for address in ["0.0.0.0", "::", "0", "[::]", "::ffff:0.0.0.0"] {
        let rules = local(&[("*", DomainRule::Allow), (address, DomainRule::Allow)]);
        assert_eq!(rules.judge(&wish(address, 80)), Verdict::Refused(Reason::Unspecified), "{address}");
    }
    let rules = local(&[("*", DomainRule::Allow)]);
    assert_eq!(checked(&rules, "a.test", "::", false), Err(Reason::Unspecified));
    assert_eq!(checked(&rules, "a.test", "0.0.0.0", false), Err(Reason::Unspecified));
}

#[test]
fn to_deny_localhost_is_to_deny_loopback() {
    use DomainRule::{Allow, Deny};
    for denial in ["localhost", "LOCALHOST.", "local*", "**.localhost"] {
        let rules = local(&[("*", Allow), ("127.0.0.1", Allow), (denial, Deny)]);
        for host in ["localhost", "x.localhost", "127.0.0.1", "127.9.9.9", "::1", "0x7f000001"] {
            assert_eq!(rules.judge(&wish(host, 80)), Verdict::Refused(Reason::Denied), "{denial}: {host}");
        }
        assert_eq!(checked(&rules, "a.test", "127.0.0.2", false), Err(Reason::Denied), "{denial}");
        assert_eq!(rules.judge(&wish("10.0.0.1", 80)), Verdict::Allowed);
    }
}

#[test]
fn what_is_to_be_reviewed_is_undecided_even_if_allowed() {
    let mut with_review = settings(&[("*", DomainRule::Allow), ("b.test", DomainRule::Deny)]);
    with_review.review_domains = Some(vec!["**.a.test".into(), "b.test".into()]);
    let rules = Rules::new(&with_review).unwrap();
    assert_eq!(rules.judge(&wish("x.a.test", 443)), Verdict::Undecided);
    assert_eq!(rules.judge(&wish("b.test", 443)), Verdict::Refused(Reason::Denied));
    assert_eq!(rules.judge(&wish("c.test", 443)), Verdict::Allowed);
}

#[test]
fn the_limited_mode_lets_only_reading_requests_through() {
    let limited = ProxySettings { mode: NetworkMode::Limited, ..settings(&[("a.test", DomainRule::Allow)]) };
    let rules = Rules::new(&limited).unwrap();
    for (protocol, method, allowed) in [
        (Protocol::Http, Some("GET"), true),
        (Protocol::Http, Some("HEAD"), true),
        (Protocol::Http, Some("OPTIONS"), true),
        (Protocol::Http, Some("POST"), false),
        (Protocol::Http, Some("get"), false),
        (Protocol::Http, None, false),
        (Protocol::HttpsConnect, Some("CONNECT"), false),
        (Protocol::Socks5Tcp, None, false),
    ] {
        let wish = Wish { protocol, method: method.map(str::to_owned), ..wish("a.test", 80) };
        let verdict = if allowed { Verdict::Allowed } else { Verdict::Refused(Reason::OnlyReading) };
        assert_eq!(rules.judge(&wish), verdict, "{protocol:?} {method:?}");
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    use codex_exec_protocol::{ErrorCode, RpcError};
    for rule in [DomainRule::None, DomainRule::Allow, DomainRule::Deny] {
        let error = RpcError::from(Rules::new(&settings(&[("http://a", rule)])).unwrap_err());
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS, "{error}");
    }
    let many: Vec<String> = (0..5000).map(|number| format!("h{number}.test")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), DomainRule::Allow)).collect();
    assert!(Rules::new(&settings(&many)).is_err());
    let mut masked = settings(&[]);
    masked.credential_providers = Some([("github".to_owned(), serde_json::json!({}))].into());
    let error = RpcError::from(Rules::new(&masked).unwrap_err());
    assert_eq!(error.code, ErrorCode::INVALID_REQUEST, "{error}");
}

/// What a matcher without shortcuts says.
fn slowly(glob: &[u8], name: &[u8], reach: Reach) -> bool {
    let fits = |byte: u8| reach == Reach::Name || byte != b'.';
    match (glob.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            slowly(rest, name, reach)
                || name.split_first().is_some_and(|(byte, behind)| fits(*byte) && slowly(glob, behind, reach))
        }
        (Some((b'?', rest)), Some((byte, behind))) => fits(*byte) && slowly(rest, behind, reach),
        (Some((wanted, rest)), Some((byte, behind))) => wanted == byte && slowly(rest, behind, reach),
        _ => false,
    }
}

proptest! {
    #[test]
    fn an_address_is_the_same_in_all_its_spellings(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = address.octets();
        let low = bits & 0x00ff_ffff;
        for written in [
            address.to_string(), format!("{bits}"), format!("{bits:#x}"), format!("0{bits:o}"), format!("{a}.{low}"),
            format!("{a}.{b}.{}", bits & 0xffff), format!("{a:#x}.0{b:o}.{c}.{d}."), format!("::ffff:{address}"),
            format!("[::ffff:{address}]"), format!("64:ff9b::{address}"),
        ] {
            let host = HostName::parse(&written);
            prop_assert_eq!(host, Ok(HostName::Address(IpAddr::V4(address))), "{}", written);
        }
    }

    #[test]
    fn an_address_is_public_exactly_if_all_that_stand_for_it_are(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let public = is_public(address.into());
        prop_assert_eq!(is_public(address.to_ipv6_mapped().into()), public);
        let translated = Ipv6Addr::from_bits((0x64_ff9b << 96) | u128::from(bits));
        prop_assert_eq!(is_public(translated.into()), public);
        if address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
            || address.is_documentation() || address.is_broadcast() || address.is_unspecified()
        {
            prop_assert!(!public);
        }
    }

    #[test]
    fn what_is_read_once_reads_the_same_again(text in "\\PC{0,40}") {
        if let Ok(host) = HostName::parse(&text) {
            prop_assert_eq!(HostName::parse(&host.to_string()), Ok(host.clone()));
            prop_assert_eq!(HostName::parse(&host.in_url()), Ok(host));
        }
    }

    #[test]
    fn a_fast_match_is_a_match(glob in "[ab.*?]{0,8}", name in "[ab.]{0,10}") {
        if let Ok(pattern) = Pattern::parse(&format!("x{glob}"))
            && let Ok(host @ HostName::Name(_)) = HostName::parse(&format!("x{name}"))
            && glob.contains(['*', '?'])
        {
            let glob = format!("x{}", glob.strip_suffix('.').unwrap_or(&glob));
            for reach in [Reach::Label, Reach::Name] {
                let expected = slowly(glob.as_bytes(), host.to_string().as_bytes(), reach);
                prop_assert_eq!(pattern.matches(&host, 1, reach), expected, "{} {}", glob, host);
            }
        }
    }

    #[test]
    fn an_allowance_never_means_more_than_the_same_denial(pattern in "[a*?.]{1,8}", name in "[a.]{1,10}") {
        if let (Ok(pattern), Ok(host)) = (Pattern::parse(&pattern), HostName::parse(&name)) {
            prop_assert!(!pattern.matches(&host, 1, Reach::Label) || pattern.matches(&host, 1, Reach::Name));
        }
    }

    #[test]
    fn nothing_that_is_denied_is_allowed_or_asked_about(
        allow in proptest::collection::vec("[ab*]{1,3}(\\.[ab*]{1,3}){0,2}", 0..5),
        deny in proptest::collection::vec("[ab*]{1,3}(\\.[ab*]{1,3}){0,2}", 0..5),
        name in "[ab]{1,3}(\\.[ab]{1,3}){0,3}",
    ) {
        let rules: Vec<_> = allow.iter().map(|pattern| (pattern.as_str(), DomainRule::Allow))
            .chain(deny.iter().map(|pattern| (pattern.as_str(), DomainRule::Deny)))
            .filter(|(pattern, _)| Pattern::parse(pattern).is_ok())
            .collect();
        let host = HostName::parse(&name).unwrap();
        let said = |wanted: DomainRule, reach| rules.iter().any(|(pattern, rule)| {
            // As a map, the last of two rules for one pattern holds.
            let last = rules.iter().rev().find(|(other, _)| other == pattern);
            *rule == wanted && last.is_some_and(|(_, rule)| *rule == wanted)
                && Pattern::parse(pattern).unwrap().matches(&host, 443, reach)
        });
        let expected = if said(DomainRule::Deny, Reach::Name) {
            Verdict::Refused(Reason::Denied)
        } else if said(DomainRule::Allow, Reach::Label) {
            Verdict::Allowed
        } else {
            Verdict::Undecided
        };
        prop_assert_eq!(judged(&rules, &name, 443), expected);
    }
}
