//! The escape suite: every attempt, for real, under each profile that has to stop it.

use super::attacker::asked;
use super::attacks::{PROFILES, all};
use super::*;

fn profile(name: &str, ground: &Ground) -> Value {
    let (root, project) = (special("root", "read"), special("project_roots", "write"));
    let binary = std::env::current_exe().expect("the test knows its own file");
    let kept = entry(&ground.uri("w/sub/deep/kept"), "read");
    match name {
        "read" => read_only(ground),
        "workspace" => workspace(ground),
        "deny" => ground.profile(
            json!([
                root,
                project,
                entry(&ground.uri("d"), "deny"),
                entry(&ground.uri("o/secret"), "deny"),
                kept
            ]),
            "restricted",
        ),
        "path" => ground
            .profile(json!([project, entry(binary.to_str().expect("text"), "read"), kept]), "restricted"),
        "online" => ground.profile(json!([root, project]), "enabled"),
        _ => ground.sandbox(json!({"type": "external", "network": "restricted"})),
    }
}

#[tokio::test]
async fn none_of_the_attempts_gets_through() {
    if !enforceable() {
        return;
    }
    let mut held = 0;
    for (namespaces, server) in servers().await {
        let mut client = server.client().await;
        for name in PROFILES {
            // Without namespaces the others are refused up front, which has its own test.
            if namespaces == "off" && !["read", "external"].contains(&name) {
                continue;
            }
            let ground = Ground::new();
            let sandbox = profile(name, &ground);
            let ran = run(&mut client, &ground, &sandbox, asked(&format!("profile:{name}"), &ground)).await;
            let lines = |word: &str| ran.output.lines().filter(|line| line.starts_with(word)).count();
            let escaped: Vec<&str> = ran.output.lines().filter(|line| line.starts_with("ESCAPED")).collect();
            let context = format!("{name} with namespaces {namespaces}");
            assert!(escaped.is_empty(), "{context}: {escaped:?}");
            assert_eq!(ran.code, 0, "{context}: {}", ran.output);
            let expected =
                all(&ground.root).iter().filter(|attack| attack.stopped_by.contains(&name)).count();
            assert_eq!(lines("held"), expected, "{context}: every attempt was made: {}", ran.output);
            held += expected;
            ground.is_untouched(if name == "external" { &["w/", "o/"] } else { &["w/"] });
            for protected in ["w/.git/config", "w/.git/hooks/post", "w/.codex/config.toml"] {
                let text = std::fs::read_to_string(ground.at(protected)).expect("it is there");
                assert!(name == "external" || !text.contains("evil"), "{context}: {protected}");
            }
            assert!(!ground.at("w/.agents").join("made").exists(), "{context}");
        }
    }
    assert!(held > 1000, "only {held} attempts");
}

#[tokio::test]
async fn the_attempts_work_where_nothing_stops_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ground = Ground::new();
    let attempts: Vec<String> = all(&ground.root)
        .into_iter()
        .filter(|attack| attack.works_outside)
        .map(|attack| attack.name)
        .collect();
    assert!(attempts.len() >= 120, "{}", attempts.len());
    let (mut works, mut not) = (0, Vec::new());
    for chosen in attempts.chunks(1) {
        // Each on a ground of its own, since they destroy it.
        let ground = Ground::new();
        let sandbox = ground.sandbox(json!({"type": "disabled"}));
        let ran = run(&mut client, &ground, &sandbox, asked(&chosen.join(","), &ground)).await;
        if ran.output.contains("ESCAPED") {
            works += 1;
        } else {
            not.push(ran.output);
        }
    }
    // Some need an administrator, a file system's flags, or another place than this process's own.
    assert!(works * 10 >= attempts.len() * 8, "{works} of {}: {not:?}", attempts.len());
}
