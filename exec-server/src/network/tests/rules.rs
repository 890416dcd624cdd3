//! What rules come to for a host and for the addresses that it leads to.

use super::*;

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
