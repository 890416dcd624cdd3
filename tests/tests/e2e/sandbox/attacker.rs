//! The attacker: this test binary once more, started under a sandbox. Each attempt is made in a process of its own.

#![allow(unsafe_code)]

use std::path::Path;

use super::Ground;
use super::attacks::{Attack, all};

/// Names what to do: attempts by name, with commas, or a profile's name.
const ASKED: &str = "CODEX_E2E_ATTACK";
/// The ground's root.
const GROUND: &str = "CODEX_E2E_GROUND";
/// A port of the machine's loopback that somebody listens on, with TCP and UDP.
const OUTSIDE: &str = "CODEX_E2E_OUTSIDE";
/// The machine's address towards others, or nothing.
const ADDRESS: &str = "CODEX_E2E_ADDRESS";
/// The server's own port.
pub(crate) const SERVER: &str = "CODEX_E2E_SERVER";
/// The test's own process, which is outside.
pub(crate) const TESTER: &str = "CODEX_E2E_TESTER";
/// How long one attempt may take (seconds).
const PATIENCE: u32 = 20;

/// The command line that makes this binary attack; with `profile:NAME`, everything that the profile has to stop.
pub(crate) fn asked(what: &str, ground: &Ground) -> Vec<String> {
    let binary = std::env::current_exe().expect("the test knows its own file");
    let set = |name: &str, value: &str| format!("{name}={value}");
    [
        "/usr/bin/env".to_owned(),
        set(ASKED, what),
        set(GROUND, &ground.text("")),
        set(OUTSIDE, &ground.outside.to_string()),
        set(ADDRESS, &outside_address().map_or_else(String::new, |address| address.to_string())),
        set(TESTER, &std::process::id().to_string()),
        binary.to_str().expect("text").to_owned(),
        "--exact".to_owned(),
        "sandbox::attacker::attacks_when_asked".to_owned(),
        "--ignored".to_owned(),
        "--nocapture".to_owned(),
        "--quiet".to_owned(),
    ]
    .to_vec()
}

/// The port of [`OUTSIDE`]; nobody's where the attempts are only counted.
pub(crate) fn outside_port() -> u16 {
    std::env::var(OUTSIDE).ok().and_then(|port| port.parse().ok()).unwrap_or(9)
}

/// A file of shared memory of the test with that port, and of no other one.
pub(crate) fn shared_memory(outside: u16) -> String {
    format!("/dev/shm/codex-e2e-{outside}")
}

/// The address of [`ADDRESS`]; found out where attacks are asked for.
pub(crate) fn outside_address() -> Option<std::net::IpAddr> {
    if let Ok(address) = std::env::var(ADDRESS) {
        return address.parse().ok();
    }
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
#[ignore = "the attacker's part of other tests"]
fn attacks_when_asked() {
    let (Ok(asked), Some(ground)) = (std::env::var(ASKED), std::env::var_os(GROUND)) else { return };
    let mut escaped = 0;
    for attack in all(Path::new(&ground)) {
        let chosen = match asked.strip_prefix("profile:") {
            Some(profile) => attack.stopped_by.contains(&profile),
            None => asked.split(',').any(|name| name == attack.name),
        };
        if chosen {
            let outcome = attempt(&attack);
            escaped += i32::from(outcome.is_none());
            // The suite reads these lines.
            println!("{} {}", if outcome.is_some() { "held" } else { "ESCAPED" }, attack.name);
        }
    }
    assert_eq!(escaped, 0, "attempts that got through");
}

/// Makes an attempt; how it was stopped, or nothing when it was not.
fn attempt(attack: &Attack) -> Option<i32> {
    // SAFETY: the child only makes the attempt and ends, without returning to the test harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "can't fork");
    if child == 0 {
        // SAFETY: plain calls; the child ends here.
        unsafe {
            libc::alarm(PATIENCE);
            let code = match (attack.act)() {
                Ok(()) => 42,
                Err(_) => 0,
            };
            libc::_exit(code);
        }
    }
    let mut status = 0;
    // SAFETY: the pointer is to a live local.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "the attempt can be waited for");
    assert!(!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGALRM), "{} hangs", attack.name);
    // Killed by the filter is stopped, too.
    (!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42)).then_some(status)
}
