//! Under a sandbox a program reaches nothing but its proxy: it has a network of its own.

use codex_e2e::Server;

use super::*;
use crate::sandbox::{Ground, enforceable, entry, read_only, servers, special, workspace};

fn under(sandbox: &Value, proxy: Value) -> Value {
    let mut more = json!({"sandbox": sandbox});
    more.as_object_mut().unwrap().extend(proxy.as_object().unwrap().clone());
    more
}

/// What a visitor sees from inside.
async fn look(client: &mut TestClient, origin: &Origin, more: Value, context: &str) {
    let port = origin.address.port();
    let errands = [
        format!("get http://localhost:{port}/"),
        format!("tunnel localhost:{port}"),
        format!("socks localhost:{port}"),
        "get http://other.test/".to_owned(),
        format!("tcp 127.0.0.1:{port}"),
        format!("udp 127.0.0.1:{port}"),
        format!("tcp [::1]:{port}"),
        "tcp 1.1.1.1:80".to_owned(),
        "udp 1.1.1.1:53".to_owned(),
        "own".to_owned(),
    ];
    let told = visit(client, &errands, more).await;
    let starts = [
        "HTTP/1.1 200",
        "HTTP/1.1 200",
        "HTTP/1.1 200",
        "HTTP/1.1 403",
        "failed",
        "failed",
        "failed",
        "failed",
        "failed",
        "connected",
    ];
    assert_eq!(told.len(), starts.len(), "{context}: {told:?}");
    assert!(told.iter().zip(starts).all(|(told, start)| told.starts_with(start)), "{context}: {told:?}");
}

#[tokio::test]
async fn nothing_but_the_proxy_can_be_reached() {
    if !enforceable() {
        return;
    }
    let origin = origin().await;
    let binary = std::env::current_exe().unwrap();
    for (namespaces, server) in servers().await {
        let mut client = server.client().await;
        let ground = Ground::new();
        let alone = json!([special("project_roots", "write"), entry(binary.to_str().unwrap(), "read")]);
        let open = ground.profile(json!([special("root", "read")]), "enabled");
        let unrestricted = ground.sandbox(
            json!({"type": "managed", "network": "enabled", "file_system": {"type": "unrestricted"}}),
        );
        for (name, sandbox, enforce) in [
            ("read", read_only(&ground), false),
            ("read, enforced", read_only(&ground), true),
            ("workspace", workspace(&ground), true),
            ("nothing else", ground.profile(alone, "restricted"), true),
            ("external", ground.sandbox(json!({"type": "external", "network": "restricted"})), true),
            ("network, enforced", open, true),
            ("everything, enforced", unrestricted, true),
        ] {
            let mut more = under(&sandbox, to_localhost());
            more["enforceManagedNetwork"] = json!(enforce);
            more["cwd"] = json!(ground.uri("w"));
            let context = format!("{name} with namespaces {namespaces}");
            if namespaces == "off" {
                let refused = client.call("process/start", start_params("no", ["/bin/true"], more)).await;
                let (code, text) = refused.expect_err(&context);
                assert!(code == -32600 && text.contains("namespace"), "{context}: {text}");
                continue;
            }
            look(&mut client, &origin, more, &context).await;
        }
        ground.is_untouched(&["w/"]);
    }
}

#[tokio::test]
async fn an_ordinary_users_programs_have_networks_of_their_own_too() {
    if !enforceable() || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let doctor = std::process::Command::new(nobody[0])
        .args(&nobody[1..])
        .arg(codex_e2e::binary::codex())
        .arg("doctor")
        .output();
    if !doctor.is_ok_and(|doctor| doctor.status.success()) {
        eprintln!("SKIPPED: another user can't run the server here, or has no user namespaces");
        return;
    }
    let (origin, server) = (origin().await, Server::builder().under(nobody).start().await);
    let mut client = server.client().await;
    let ground = Ground::new();
    look(&mut client, &origin, under(&read_only(&ground), to_localhost()), "nobody").await;
}

#[tokio::test]
async fn an_unenforced_sandbox_with_network_leaves_the_network_as_it_is() {
    if !enforceable() {
        return;
    }
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let ground = Ground::new();
    let port = origin.address.port();
    let errands = [format!("get http://localhost:{port}/"), format!("tcp 127.0.0.1:{port}")];
    for sandbox in [
        ground.profile(json!([special("root", "read")]), "enabled"),
        ground.sandbox(json!({"type": "disabled"})),
    ] {
        let told = visit(&mut client, &errands, under(&sandbox, to_localhost())).await;
        assert!(told[0].starts_with("HTTP/1.1 200") && told[1] == "connected", "{told:?}");
    }
}

#[tokio::test]
async fn listed_ports_of_loopback_can_be_reached_and_no_others() {
    if !enforceable() {
        return;
    }
    let (origin, other, server) = (origin().await, origin().await, Server::start().await);
    let mut client = server.client().await;
    let ground = Ground::new();
    let (port, closed) = (origin.address.port(), other.address.port());
    let errands =
        [format!("tcp 127.0.0.1:{port}"), format!("tcp 127.0.0.1:{closed}"), "var HTTP_PROXY".to_owned()];
    let managed = json!({
        "sandbox": read_only(&ground), "enforceManagedNetwork": true,
        "managedNetwork": {"loopbackPorts": [port, 3128, port], "allowLocalBinding": true},
    });
    let told = visit(&mut client, &errands, managed.clone()).await;
    assert!(told[0] == "connected" && told[1].starts_with("failed") && told[2] == "(unset)", "{told:?}");

    // With a proxy beside, which makes room for the listed port.
    let mut both = managed;
    both["networkProxy"] = to_localhost()["networkProxy"].clone();
    let errands =
        [format!("get http://localhost:{closed}/"), format!("tcp 127.0.0.1:{port}"), "var HTTP_PROXY".into()];
    let told = visit(&mut client, &errands, both).await;
    assert!(told[0].starts_with("HTTP/1.1 200") && told[1] == "connected", "{told:?}");
    assert_eq!(told[2], "http://127.0.0.1:3129");
}

#[tokio::test]
async fn no_permission_leads_to_the_server_itself() {
    if !enforceable() {
        return;
    }
    for (namespaces, server) in servers().await {
        if namespaces == "off" {
            continue;
        }
        let mut client = server.client().await;
        let ground = Ground::new();
        let port: u16 = server.url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
        let errands = super::inside::ways_to(port);
        let told =
            visit(&mut client, &errands, under(&read_only(&ground), super::inside::to_everything())).await;
        super::inside::all_refused(&errands, &told);

        let listed = json!({
            "sandbox": read_only(&ground), "enforceManagedNetwork": true, "managedNetwork": {"loopbackPorts": [port]},
        });
        let refused = client.call("process/start", start_params("no", ["/bin/true"], listed)).await;
        let (code, text) = refused.expect_err("that port is the server's");
        assert!(code == -32600 && text.contains(&port.to_string()), "{text}");
    }
}

#[tokio::test]
async fn a_program_that_asks_the_proxy_for_its_own_loopback_is_told_how_it_gets_there() {
    if !enforceable() {
        return;
    }
    let server = Server::start().await;
    let mut client = server.client().await;
    let ground = Ground::new();
    let closed = json!({"networkProxy": {"proxy": proxy(json!({"domains": {"*": "allow"}}))}});
    let errands = ["get http://localhost:8000/", "get http://127.0.0.1:8000/", "get http://0.0.0.0:8000/"];
    let told = visit(&mut client, &errands, under(&read_only(&ground), closed.clone())).await;
    let helps = |told: &String| told.contains("--noproxy '*'") && !told.contains("allowLocalBinding");
    assert!(told.iter().all(helps), "{told:?}");
    let told = visit(&mut client, &errands[..1], closed).await;
    assert!(told[0].contains("allowLocalBinding") && !told[0].contains("noproxy"), "{told:?}");
}

#[tokio::test]
async fn a_program_on_a_terminal_and_with_limits_has_its_proxy_as_well() {
    if !enforceable() {
        return;
    }
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let ground = Ground::new();
    let port = origin.address.port();
    let errands = [format!("get http://localhost:{port}/"), format!("tcp 127.0.0.1:{port}")];
    let mut more = under(&read_only(&ground), to_localhost());
    more["tty"] = json!(true);
    more["limits"] = json!({"openFiles": 64});
    start(&mut client, "t", &errands, more).await;
    let ended = client.finish("t").await;
    let told = told(&ended.pty());
    assert!(told[0].starts_with("HTTP/1.1 200") && told[1].starts_with("failed"), "{told:?} {}", ended.pty());
}

#[tokio::test]
async fn a_network_that_leads_nowhere_is_refused_rather_than_opened() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let ground = Ground::new();
    let open = ground.profile(json!([special("root", "read")]), "enabled");
    for more in [
        json!({"sandbox": read_only(&ground), "enforceManagedNetwork": true}),
        json!({"sandbox": open, "enforceManagedNetwork": true}),
        json!({"sandbox": open, "enforceManagedNetwork": true, "managedNetwork": {"allowLocalBinding": true}}),
    ] {
        let params = start_params("p", ["/bin/true"], more.clone());
        assert_eq!(client.refused("process/start", params).await, -32600, "{more}");
    }
    if enforceable() {
        let (origin, other) = (origin().await, origin().await);
        let (listed, beside) = (origin.address.port(), other.address.port());
        let errands = [format!("tcp 127.0.0.1:{listed}"), format!("tcp 127.0.0.1:{beside}")];
        // By itself managedNetwork closes nothing, unless it says what is left open.
        for (managed, outcomes) in [
            (json!({}), ["connected", "connected"]),
            (json!({"allowLocalBinding": true}), ["connected", "connected"]),
            (json!({"loopbackPorts": [listed]}), ["connected", "failed"]),
        ] {
            let told =
                visit(&mut client, &errands, json!({"sandbox": open, "managedNetwork": managed})).await;
            let as_expected = told.iter().zip(outcomes).all(|(told, outcome)| told.starts_with(outcome));
            assert!(as_expected, "{managed}: {told:?}");
        }
        let closed = json!({"sandbox": read_only(&ground), "managedNetwork": {}});
        let told = visit(&mut client, &["tcp 127.0.0.1:1", "own"], closed).await;
        assert!(told.iter().all(|told| told.starts_with("failed")), "{told:?}");
    }
}
