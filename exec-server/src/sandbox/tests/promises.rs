//! The table of promises: what holds them, what is refused where nothing does, and that `SECURITY.md` shows it.

use crate::sandbox::policy::NetworkRight;
use crate::sandbox::promises::{Demand, FileDemand, Mechanism, PROMISES, hold, ways};

const SECURITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../SECURITY.md");
const BEGIN: &str = "| promise | what it says | held by, the first that is there |\n| --- | --- | --- |\n";

/// `CODEX_UPDATE_DOCS=1 cargo test -p codex-exec-server promises` rewrites the table.
#[test]
fn the_page_shows_the_table() {
    let page = std::fs::read_to_string(SECURITY).expect("the page is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the table");
    let after = &rest[rest.find("\n\n").expect("text follows the table")..];
    let row = |promise: &crate::sandbox::promises::Promise| {
        format!("| {} | {} | {} |", promise.name, promise.what, ways(promise))
    };
    let rows: Vec<String> = PROMISES.iter().map(row).collect();
    let expected = format!("{before}{BEGIN}{}{after}", rows.join("\n"));
    if std::env::var_os("CODEX_UPDATE_DOCS").is_some() {
        std::fs::write(SECURITY, &expected).expect("it can be written");
    }
    let page = std::fs::read_to_string(SECURITY).expect("the page is there");
    assert_eq!(page, expected, "stale: CODEX_UPDATE_DOCS=1 cargo test -p codex-exec-server promises");
}

/// What there is, by a word for each machine.
fn is_there(machine: &str, mechanism: Mechanism) -> bool {
    let (newest, namespaces, pids, networks, filters) = match machine {
        "6.12" => (6, true, true, true, true),
        "6.12 without namespaces" => (6, false, false, false, true),
        "6.1" => (2, true, true, true, true),
        "6.1 with /proc masked" => (2, true, false, true, true),
        "6.1 without namespaces" => (2, false, false, false, true),
        "5.15 without Landlock" => (0, true, true, true, true),
        "6.12 without CAP_NET_ADMIN" => (6, true, true, false, true),
        "without seccomp" => (6, true, true, true, false),
        _ => panic!("{machine} is none"),
    };
    match mechanism {
        Mechanism::MountNamespace | Mechanism::IpcNamespace => namespaces,
        Mechanism::PidNamespace => pids,
        Mechanism::NetworkNamespace => networks,
        Mechanism::Landlock(version) => newest >= version,
        Mechanism::Seccomp => filters,
    }
}

#[test]
fn a_profile_is_enforced_where_each_of_its_promises_is_held_and_refused_elsewhere() {
    // For a machine and a profile: the promise that nothing holds.
    type Row = (&'static str, [Option<&'static str>; 4]);
    let rows: [Row; 8] = [
        ("6.12", [None; 4]),
        ("6.12 without namespaces", [None, Some("writes inside"), None, Some("writes inside")]),
        ("6.1", [None; 4]),
        ("6.1 with /proc masked", [Some("signals"); 4]),
        (
            "6.1 without namespaces",
            [Some("nothing written"), Some("writes inside"), Some("signals"), Some("writes inside")],
        ),
        ("5.15 without Landlock", [None; 4]),
        ("6.12 without CAP_NET_ADMIN", [None, None, None, Some("filtered network")]),
        ("without seccomp", [Some("tracing"), Some("tracing"), Some("tracing"), Some("tracing")]),
    ];
    for (machine, expected) in rows {
        let demands = [Demand::READ_ONLY, Demand::WORKSPACE, Demand::OFFLINE, Demand::FILTERED];
        let unheld =
            demands.map(|demand| hold(&demand, |one| is_there(machine, one)).err().map(|one| one.name));
        assert_eq!(unheld, expected, "{machine}");
    }
}

#[test]
fn every_way_of_the_table_is_the_one_that_holds_somewhere() {
    let machines = ["6.12", "6.12 without namespaces", "6.1", "5.15 without Landlock"];
    for promise in PROMISES {
        for way in promise.held_by {
            let holds = |machine: &str| {
                let files = [FileDemand::Nothing, FileDemand::ReadOnly, FileDemand::Trees, FileDemand::Parts];
                let networks = [NetworkRight::Closed, NetworkRight::Filtered, NetworkRight::Open];
                let demands =
                    files.into_iter().flat_map(|files| networks.map(|network| Demand { files, network }));
                demands.into_iter().any(|demand| {
                    // One that does not ask for it, or asks for something else that is not there, tells nothing.
                    let held = hold(&demand, |one| is_there(machine, one)).unwrap_or_default();
                    held.iter().any(|held| held.promise.name == promise.name && held.by == *way)
                })
            };
            // Without network namespaces and Landlock there would be no PID namespace either.
            let is_last = promise.name == "abstract sockets" && way.len() == 1;
            assert!(is_last || machines.iter().any(|machine| holds(machine)), "{}: {way:?}", promise.name);
        }
    }
}
