//! Each mechanism of the table of promises in turn: what is held with what there is, and what is refused.

use std::process::Command;

use codex_e2e::machine::eventually;

use super::escapes::profile;
use super::*;

/// What sandboxes may use, by name, with the flags that say so.
pub(crate) const MECHANISMS: [(&str, &[&str]); 6] = [
    ("any", &[]),
    ("user", &["--sandbox-namespaces", "user"]),
    ("no landlock", &["--sandbox-without", "landlock"]),
    ("no pids", &["--sandbox-without", "pid-namespace"]),
    ("landlock 2", &["--sandbox-without", "landlock=2"]),
    ("off", &["--sandbox-namespaces", "off"]),
];

/// What `codex doctor` says of each thing, and whether that is well.
fn findings(arguments: &[&str]) -> Vec<(String, bool, String)> {
    let output =
        Command::new(codex_e2e::binary::codex()).arg("doctor").args(arguments).output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("text");
    let findings: Vec<_> = said
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| {
            let (mark, rest) = line.split_at(8);
            let (what, said) = rest.split_once(": ").expect("a name and what was found");
            (what.to_owned(), mark.trim() == "ok", said.to_owned())
        })
        .collect();
    let all_well = findings.iter().all(|(_, good, _)| *good);
    assert_eq!(output.status.code(), Some(i32::from(!all_well)), "{said}");
    findings
}

fn finding(arguments: &[&str], what: &str) -> (bool, String) {
    let findings = findings(arguments);
    let found = findings.into_iter().find(|(name, _, _)| name == what);
    let (_, good, said) = found.unwrap_or_else(|| panic!("doctor says nothing of {what}"));
    (good, said)
}

/// Whether a usual profile is enforced with these flags, as `codex doctor` says.
pub(crate) fn held(arguments: &[&str], profile: &str) -> bool {
    finding(arguments, profile).0
}

/// Whether this process can make no namespaces.
pub(crate) fn is_without_namespaces() -> bool {
    !finding(&[], "namespaces").0
}

/// The usual profiles by the names of `codex doctor`, and by those of the escape suite.
const USUAL: [(&str, &str); 4] = [
    ("read-only", "read"),
    ("workspace-write", "workspace"),
    ("full access to files, no network", "external"),
    ("workspace-write, filtered network", "filtered"),
];

#[tokio::test]
async fn what_nothing_holds_is_refused_with_the_promise_and_what_is_held_runs() {
    let more: [(&str, &[&str]); 7] = [
        ("inherit", &["--linux-sandbox-pid-namespace", "inherit"]),
        (
            "inherit, landlock 5",
            &["--linux-sandbox-pid-namespace", "inherit", "--sandbox-without", "landlock=5"],
        ),
        ("landlock 5, no pids", &["--sandbox-without", "landlock=5,pid-namespace"]),
        ("no networks", &["--sandbox-without", "network-namespace"]),
        ("no seccomp", &["--sandbox-without", "seccomp"]),
        ("nothing but seccomp", &["--sandbox-namespaces", "off", "--sandbox-without", "landlock"]),
        ("old landlock alone", &["--sandbox-namespaces", "off", "--sandbox-without", "landlock=3"]),
    ];
    for (name, arguments) in MECHANISMS.into_iter().chain(more) {
        let server = Server::builder().args(arguments).start().await;
        let mut client = server.client().await;
        for (usual, of_suite) in USUAL {
            let ground = Ground::new();
            let mut more = json!({"sandbox": profile(of_suite, &ground), "cwd": ground.uri("w")});
            let network = super::escapes::network_of(of_suite);
            more.as_object_mut().expect("an object").extend(network.as_object().expect("an object").clone());
            let (is_held, said) = finding(arguments, usual);
            let answer = client.call("process/start", start_params(usual, ["/bin/true"], more)).await;
            match answer {
                Ok(_) => {
                    assert!(is_held, "{usual} with {name} runs, and doctor says: {said}");
                    assert_eq!(client.finish(usual).await.code(), 0, "{usual} with {name}");
                }
                Err((code, text)) => {
                    assert!(!is_held, "{usual} with {name}: {text}, and doctor says: {said}");
                    assert_eq!(code, -32600, "{text}");
                    let reason = said.strip_prefix("refused: ").expect("it says why");
                    assert!(text.contains(reason), "{usual} with {name}: {text}; {reason}");
                    assert!(reason.starts_with("its promise of "), "{reason}");
                }
            }
            // What was held for it is let go of beside.
            eventually("the place is free", || !ground.at("w/.agents").exists()).await;
            ground.is_untouched(&[]);
        }
    }
}

#[test]
fn doctor_tells_what_holds_each_usual_profile() {
    if !held(&[], "read-only") {
        eprintln!("SKIPPED: nothing is enforced on this machine");
        return;
    }
    // Where nothing else is missing.
    let filtered = if enforceable() { "its promise of filtered network" } else { "" };
    for (arguments, usual, expected) in [
        (&["--sandbox-without", "seccomp"][..], "read-only", "the kernel has no system call filters"),
        (&["--sandbox-without", "network-namespace"], "workspace-write, filtered network", filtered),
        (
            &["--sandbox-namespaces", "off", "--sandbox-without", "landlock"],
            "read-only",
            "its promise of nothing written",
        ),
        (&["--sandbox-namespaces", "off"], "workspace-write", "its promise of writes inside"),
    ] {
        let (good, said) = finding(arguments, usual);
        assert!(!good && said.starts_with("refused: ") && said.contains(expected), "{arguments:?}: {said}");
    }
    if enforceable() {
        let (_, said) = finding(&[], "workspace-write");
        assert!(said.starts_with("enforced by mount namespace (writes inside, denied files,"), "{said}");
        assert!(said.contains("seccomp (priorities, "), "{said}");
    }
}
