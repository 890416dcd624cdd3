//! Bounds on what a program may use, with and without a sandbox (`docs/extensions.md`).

use super::*;

#[tokio::test]
async fn a_program_gets_no_more_than_its_limits() {
    let ground = Ground::new();
    let server = Server::start().await;
    let mut client = server.client().await;
    let sandboxes = if enforceable() { vec![Value::Null, workspace(&ground)] } else { vec![Value::Null] };
    for (round, sandbox) in sandboxes.into_iter().enumerate() {
        for (name, limits, command, code, said) in [
            ("memory", json!({"memoryBytes": 64 << 20}), "ulimit -v", 0, "65536"),
            ("files", json!({"openFiles": 17}), "ulimit -n", 0, "17"),
            ("cpu", json!({"cpuSeconds": 3}), "ulimit -t", 0, "3"),
            ("used cpu", json!({"cpuSeconds": 1}), "while :; do :; done", 137, ""),
            (
                "file size",
                json!({"fileSizeBytes": 4096}),
                "head -c 9000 /dev/zero > big; wc -c < big",
                0,
                "4096",
            ),
            ("raised", json!({"openFiles": 17}), "ulimit -n 18 2>/dev/null || echo no", 0, "no"),
            ("none", json!({}), "echo free", 0, "free"),
        ] {
            // An administrator may raise bounds again where nothing takes that from him.
            if name == "raised" && sandbox.is_null() {
                continue;
            }
            let id = format!("{name} {round}");
            let more = json!({"sandbox": sandbox, "cwd": ground.uri("w"), "limits": limits});
            client.ok("process/start", start_params(&id, ["/bin/sh", "-c", command], more)).await;
            let ended = client.finish(&id).await;
            let list = client.ok("process/list", json!({})).await;
            let all = list["processes"].as_array().expect("a list");
            let enforced = &all.iter().find(|one| one["processId"] == id).expect("listed")["limitsEnforced"];
            // Where the server may make cgroups, `ulimit` knows nothing of them (`cgroups.rs`).
            let said = if enforced["memoryBytes"] == "cgroup" { "unlimited" } else { said };
            assert_eq!((ended.code(), ended.stdout().trim()), (code, said), "{id}: {}", ended.text("stderr"));
            assert_eq!(enforced.is_object(), name != "none", "{id}: {enforced}");
            assert_eq!(ended.exited["oomKilled"], false, "{id}");
        }
        let more = json!({"sandbox": sandbox, "cwd": ground.uri("w"), "limits": {"openFiles": 17}});
        let code = client.refused("process/start", start_params("no", ["nothere"], more)).await;
        assert_eq!(code, -32603, "as without limits");
    }
    for odd in [json!({"memory": 1}), json!({"openFiles": -1}), json!(5)] {
        assert_eq!(
            client.refused("process/start", start_params("o", ["true"], json!({"limits": odd}))).await,
            -32602
        );
    }
}
