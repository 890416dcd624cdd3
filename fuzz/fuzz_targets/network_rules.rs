//! Hosts and patterns of a managed network (13): each has one spelling, and a denial means at least what an allowance does.
#![cfg_attr(fuzzing, no_main)]

use codex_exec_server::network::host::HostName;
use codex_exec_server::network::pattern::{Pattern, Reach};
use codex_fuzz::target;

target!(|input: (&str, &str, u16)| {
    let (pattern, host, port) = input;
    let Ok(host) = HostName::parse(host) else { return };
    assert_eq!(HostName::parse(&host.to_string()).as_ref(), Ok(&host));
    assert_eq!(HostName::parse(&host.in_url()).as_ref(), Ok(&host));
    if let Ok(pattern) = Pattern::parse(pattern) {
        let allowed = pattern.matches(&host, port, Reach::Label);
        assert!(!allowed || pattern.matches(&host, port, Reach::Name));
    }
});
