//! Profiles that let all be written: `linuxRootWritePreservesDevices`, `linuxApprovedRootWritePreservesRestrictions` (9.1).

use super::*;

/// Character devices beyond those that every sandbox has.
const DEVICES: [&str; 5] = ["/dev/loop-control", "/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/hwrng"];

/// One that is there and can be opened without a sandbox.
fn device() -> Option<&'static str> {
    DEVICES.into_iter().find(|device| std::fs::File::open(device).is_ok())
}

#[tokio::test]
async fn where_all_may_be_written_devices_are_devices() {
    if !enforceable() {
        return;
    }
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["linuxRootWritePreservesDevices"], true, "{info}");
    let Some(device) = device() else {
        eprintln!("SKIPPED: this machine has none of {DEVICES:?}");
        return;
    };
    let ground = Ground::new();
    let command = format!("exec 3< {device} && echo opened; echo x > ../o/new && cat ../o/new");
    for network in ["restricted", "enabled"] {
        let sandbox = ground.profile(json!([special("root", "write")]), network);
        let ran = shell(&mut client, &ground, &sandbox, &command).await;
        assert_eq!((ran.output.as_str(), ran.code), ("opened\nx\n", 0), "network {network}");
    }
}

#[tokio::test]
async fn what_entries_take_away_stays_away_though_all_may_be_written() {
    if !enforceable() {
        return;
    }
    for (namespaces, server) in servers().await {
        if namespaces == "off" {
            // Refused there, as `none_of_it_runs_where_it_cannot_be_enforced` and `codex doctor` say.
            continue;
        }
        let mut client = server.client().await;
        let info = client.ok("environment/info", json!({})).await;
        assert_eq!(info["capabilities"]["linuxApprovedRootWritePreservesRestrictions"], true, "{info}");
        let ground = Ground::new();
        std::os::unix::fs::symlink(ground.at("d"), ground.at("w/to-denied")).unwrap();
        std::os::unix::fs::symlink(ground.at("o/precious"), ground.at("w/to-kept")).unwrap();
        let entries = json!([
            special("root", "write"),
            entry(&ground.uri("d"), "deny"),
            entry(&ground.uri("o/precious"), "read"),
        ]);
        for network in ["restricted", "enabled"] {
            let sandbox = ground.profile(entries.clone(), network);
            let ways_in = "cat ../d/secret; cat to-denied/secret; echo x > ../d/new; echo x > to-denied/new; mv ../d ../e; \
                           rm -r ../d; echo x > ../o/precious; echo x > to-kept; rm -f ../o/precious; mv ../o/precious ../o/y; \
                           ln ../d/secret hard && cat hard";
            let ran = shell(&mut client, &ground, &sandbox, ways_in).await;
            let context = format!("{namespaces}, network {network}: {}", ran.output);
            assert!(!ran.output.contains("hidden words"), "{context}");
            let kept =
                shell(&mut client, &ground, &sandbox, "cat to-kept; echo x > ../o/free && cat ../o/free")
                    .await;
            assert_eq!(kept.output, "preciousx\n", "{context}");
            if let Some(device) = device() {
                let ran =
                    shell(&mut client, &ground, &sandbox, &format!("exec 3< {device} && echo opened")).await;
                assert!(
                    !ran.output.contains("opened"),
                    "{device} could lead around what is taken away: {context}"
                );
            }
            for (name, text) in [("d/secret", "hidden words"), ("o/precious", "precious")] {
                assert_eq!(std::fs::read_to_string(ground.at(name)).unwrap(), text, "{context}");
            }
            assert!(!ground.at("d/new").exists(), "{context}");
            let params = json!({"path": ground.uri("w/to-denied/secret"), "sandbox": sandbox});
            client.call("fs/readFile", params).await.expect_err("denied for files as well");
        }
    }
}
