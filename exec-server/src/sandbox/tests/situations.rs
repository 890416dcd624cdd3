//! Where a sandbox can't be had: each situation is told from the others, and its cure is named.

use crate::sandbox::situation::{Container, Landlock, Remedy, Situation};

/// An ordinary user's process on a usual machine.
fn usual() -> Situation {
    Situation {
        kernel: (6, 12),
        landlock: Landlock::Version(6),
        knows_user_namespaces: true,
        userns_clone: Some(1),
        most_user_namespaces: Some(63_000),
        ..Situation::default()
    }
}

/// What went wrong, how that shows, and what the reason and the commands hold.
type Row = (&'static str, Situation, fn(&Situation) -> Remedy, &'static str, &'static str);

#[test]
fn each_situation_has_its_own_cure() {
    let rows: [Row; 14] = [
        ("old kernel", Situation { kernel: (5, 10), ..usual() }, Situation::namespaces, "5.12 or later", ""),
        (
            "Debian's switch",
            Situation { userns_clone: Some(0), ..usual() },
            Situation::namespaces,
            "unprivileged_userns_clone is 0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "the number of namespaces",
            Situation { most_user_namespaces: Some(0), ..usual() },
            Situation::namespaces,
            "max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces=",
        ),
        (
            "a kernel without them",
            Situation { knows_user_namespaces: false, ..usual() },
            Situation::namespaces,
            "CONFIG_USER_NS",
            "",
        ),
        (
            "AppArmor",
            Situation { apparmor_restricts: Some(1), ..usual() },
            Situation::namespaces,
            "AppArmor",
            "apparmor_parser -r",
        ),
        (
            "Docker",
            Situation { container: Some(Container::Docker), is_filtered: true, ..usual() },
            Situation::namespaces,
            "Docker",
            "--security-opt seccomp=unconfined",
        ),
        (
            "Podman",
            Situation { container: Some(Container::Podman), is_filtered: true, ..usual() },
            Situation::namespaces,
            "Podman",
            "unmask=ALL",
        ),
        (
            "Kubernetes",
            Situation { container: Some(Container::Kubernetes), is_filtered: true, ..usual() },
            Situation::namespaces,
            "Kubernetes",
            "seccompProfile",
        ),
        (
            "/proc masked in Docker",
            Situation { container: Some(Container::Docker), ..usual() },
            Situation::pid_namespaces,
            "Docker",
            "systempaths=unconfined",
        ),
        (
            "a service's restriction",
            Situation { unit: Some("agent.service".to_owned()), is_filtered: true, ..usual() },
            Situation::namespaces,
            "agent.service lets no namespaces",
            "RestrictNamespaces=no",
        ),
        (
            "WSL 1",
            Situation { kernel: (4, 4), wsl: Some(1), ..usual() },
            Situation::namespaces,
            "WSL 1",
            "wsl.exe --set-version",
        ),
        ("no seccomp", usual(), Situation::seccomp, "CONFIG_SECCOMP_FILTER", ""),
        (
            "Landlock off",
            Situation { landlock: Landlock::Off, modules: Some("lockdown,yama".to_owned()), ..usual() },
            |situation| situation.landlock(6),
            "not switched on at boot",
            "lsm=landlock,lockdown,yama",
        ),
        (
            "Landlock off in WSL 2",
            Situation { landlock: Landlock::Off, wsl: Some(2), ..usual() },
            |situation| situation.landlock(6),
            "not switched on at boot",
            "kernelCommandLine = lsm=landlock",
        ),
    ];
    let mut told = Vec::new();
    for (name, situation, remedy, why, command) in rows {
        let remedy = remedy(&situation);
        assert!(remedy.why.contains(why), "{name}: {}", remedy.why);
        let commands = remedy.commands.join("\n");
        assert!(commands.contains(command), "{name}: {commands}");
        assert_eq!(commands.is_empty(), command.is_empty(), "{name}: {commands}");
        told.push((remedy.why, commands));
    }
    told.sort();
    let all = told.len();
    told.dedup();
    // Docker's options are the same for a masked /proc.
    assert_eq!(told.len(), all - 1, "each is told apart");
}

#[test]
fn an_administrator_is_not_told_of_what_concerns_others() {
    let root =
        Situation { is_administrator: true, userns_clone: Some(0), apparmor_restricts: Some(1), ..usual() };
    assert!(!root.forbids_user_namespaces());
    assert!(root.namespaces().commands.is_empty(), "{:?}", root.namespaces());
}

#[test]
fn the_apparmor_profile_that_is_printed_is_the_packaged_one() {
    let packaged = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/apparmor/codex");
    let packaged = std::fs::read_to_string(packaged).expect("it is packaged");
    let printed = Situation { apparmor_restricts: Some(1), ..usual() }.namespaces().commands.join("\n");
    for word in ["abi <abi/4.0>,", "profile codex ", "flags=(unconfined)", "userns,"] {
        assert!(packaged.contains(word) && printed.contains(word), "{word}");
    }
}
