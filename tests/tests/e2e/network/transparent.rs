//! Transparent TCP (21.3): programs that know of no proxy reach by name what they may, and nothing else.

use std::net::{Ipv4Addr, UdpSocket};

use codex_e2e::Server;

use super::*;
use crate::sandbox::{Ground, enforceable, read_only, special, workspace};

/// Whether there is what these tests take: names of their own for the server's machine, and the device.
fn possible() -> bool {
    if !rustix::process::geteuid().is_root() || std::fs::metadata("/dev/net/tun").is_err() {
        eprintln!("SKIPPED: only root can give the server's machine names, and it takes /dev/net/tun");
        return false;
    }
    enforceable()
}

/// A machine on which every name that ends with `.test` leads to its loopback.
struct Named {
    ground: Ground,
    _names: tokio::task::AbortHandle,
}

impl Named {
    fn new() -> Self {
        let ground = Ground::new();
        // An address of loopback that nobody else answers at.
        let (at, socket) = (1..255)
            .find_map(|last| {
                let at = Ipv4Addr::new(127, 0, 77, last);
                Some((at, UdpSocket::bind((at, 53)).ok()?))
            })
            .expect("a free address");
        // Whoever runs the server works there.
        std::os::unix::fs::chown(ground.at("w"), Some(65534), Some(65534)).expect("root may");
        std::fs::write(ground.at("o/resolv.conf"), format!("nameserver {at}\n")).expect("written");
        socket.set_nonblocking(true).expect("a socket");
        let socket = tokio::net::UdpSocket::from_std(socket).expect("a socket");
        let names = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let _ = socket.send_to(&answer(&question[..length]), from).await;
            }
        });
        Self { ground, _names: names.abort_handle() }
    }

    /// A server there. An ordinary user may use the device on most machines.
    async fn server(&self, ordinary: bool) -> Server {
        let root = self.ground.text("o");
        let script = format!(
            "mount --bind {root}/resolv.conf /etc/resolv.conf && mknod {root}/tun c 10 200 2>/dev/null; \
             chmod 666 {root}/tun && mount --bind {root}/tun /dev/net/tun && exec \"$@\""
        );
        let mut under = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        if ordinary {
            under.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned));
        }
        Server::builder().under(under).start().await
    }
}

/// The answer to a question for an IPv4 address, and nothing for any other.
fn answer(question: &[u8]) -> Vec<u8> {
    let is_v4 = question.ends_with(&[0, 1, 0, 1]);
    let mut answer = question.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[6..12].copy_from_slice(&[0, u8::from(is_v4), 0, 0, 0, 0]);
    if is_v4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

/// A start under a sandbox, with these rules and without any proxy in the environment.
fn transparent(ground: &Ground, sandbox: &Value, domains: Value) -> Value {
    let settings = json!({"transparentTcp": true, "allowLocalBinding": true, "domains": domains});
    json!({"sandbox": sandbox, "cwd": ground.uri("w"), "networkProxy": {"proxy": proxy(settings)}})
}

fn rules() -> Value {
    json!({"app.test": "allow", "inside.test": "allow", "denied.test": "deny", "127.0.0.1": "allow"})
}

#[tokio::test]
async fn programs_reach_by_name_what_the_rules_allow_and_nothing_else() {
    if !possible() {
        return;
    }
    let named = Named::new();
    let (origin, ground) = (origin().await, &named.ground);
    let port = origin.address.port();
    for ordinary in [false, true] {
        let server = named.server(ordinary).await;
        let mut client = server.client().await;
        for (name, sandbox) in [
            ("read", read_only(ground)),
            ("workspace", workspace(ground)),
            ("network", ground.profile(json!([special("root", "read")]), "enabled")),
            ("external", ground.sandbox(json!({"type": "external", "network": "restricted"}))),
        ] {
            let errands = [
                format!("name app.test:{port}"),
                format!("name APP.test:{port}"),
                format!("get http://app.test:{port}/"),
                format!("name denied.test:{port}"),
                format!("name other.test:{port}"),
                format!("name localhost:{port}"),
                format!("tcp 127.0.0.1:{port}"),
                format!("tcp 0.0.0.0:{port}"),
                format!("tcp [::1]:{port}"),
                "tcp 1.1.1.1:80".to_owned(),
                "tcp [2606:4700::1111]:80".to_owned(),
                "tcp 198.18.3.3:80".to_owned(),
                "tcp [fdc0:de00::303]:80".to_owned(),
                "ask 1.1.1.1:53".to_owned(),
                "ask 127.0.77.53:53".to_owned(),
                "own".to_owned(),
            ];
            let told = visit(&mut client, &errands, transparent(ground, &sandbox, rules())).await;
            let context = format!("{name}, ordinary user {ordinary}: {told:#?}");
            let through = |host: &str| format!("HTTP/1.1 200 OK GET /through host: {host}:{port}");
            assert_eq!(told[0], through("app.test"), "{context}");
            assert_eq!(told[1], through("app.test"), "{context}");
            assert!(told[2].starts_with("HTTP/1.1 200"), "{context}");
            assert!(told[3..15].iter().all(|told| told.starts_with("failed")), "{context}");
            assert_eq!(told[15], "connected", "{context}");
        }
    }
}

#[tokio::test]
async fn what_is_decided_is_reported_as_for_the_proxy() {
    if !possible() {
        return;
    }
    let named = Named::new();
    let (origin, server) = (origin().await, named.server(false).await);
    let mut client = server.client().await;
    let port = origin.address.port();
    let more = transparent(&named.ground, &read_only(&named.ground), rules());
    let errands = [format!("name app.test:{port}"), format!("tcp 1.2.3.4:{port}")];
    start(&mut client, "p", &errands, more).await;
    for (host, decision, reason) in [("app.test", "allow", "allowed"), ("1.2.3.4", "deny", "not_allowed")] {
        let report = client.next_notification("network/policyDecision").await;
        assert_eq!(
            (&report["host"], &report["port"], &report["protocol"]),
            (&json!(host), &json!(port), &json!("socks5_tcp")),
            "{report}"
        );
        assert_eq!((&report["decision"], &report["reason"]), (&json!(decision), &json!(reason)), "{report}");
        assert!(report["client"].as_str().unwrap().starts_with("192.0.2.1:"), "{report}");
    }
    finish(&mut client, "p").await;

    // The client is asked, and the program waits for it in its connect.
    let settings =
        proxy(json!({"transparentTcp": true, "allowLocalBinding": true, "domains": {"127.0.0.1": "allow"}}));
    let asking = json!({"sandbox": read_only(&named.ground), "networkProxy": {"proxy": settings,
        "policyDecisionTimeoutMs": 30000}});
    start(&mut client, "asks", &errands[..1], asking).await;
    let question = client.until(|message| message["method"] == "network/policyRequest").await;
    assert_eq!(
        question["params"]["request"],
        json!({"protocol": "socks5_tcp", "host": "app.test", "port": port})
    );
    let allow = json!({"id": question["id"], "result": {"decision": {"type": "allow"}}});
    client.send_raw(&allow.to_string()).await;
    assert!(finish(&mut client, "asks").await[0].starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_though_it_is_allowed() {
    if !possible() {
        return;
    }
    let named = Named::new();
    let (origin, server) = (origin().await, named.server(false).await);
    let mut client = server.client().await;
    let port = origin.address.port();
    let own: u16 = server.url.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let sandbox = read_only(&named.ground);
    let mut closed = transparent(&named.ground, &sandbox, json!({"*.test": "allow"}));
    let told = visit(&mut client, &[format!("name inside.test:{port}")], closed.clone()).await;
    assert!(told[0].starts_with("failed"), "no rule allows loopback itself: {told:?}");
    closed["networkProxy"]["proxy"]["allowLocalBinding"] = json!(false);
    let told = visit(&mut client, &[format!("name inside.test:{port}")], closed).await;
    assert!(told[0].starts_with("failed"), "{told:?}");
    // Nor to the server itself, whatever is allowed.
    let open = transparent(&named.ground, &sandbox, json!({"*": "allow", "127.0.0.1": "allow"}));
    let told = visit(&mut client, &[format!("name app.test:{own}")], open).await;
    assert!(told[0].starts_with("failed"), "{told:?}");
}

#[tokio::test]
async fn tools_that_know_of_no_proxy_work() {
    if !possible() {
        return;
    }
    let named = Named::new();
    let ground = &named.ground;
    let script = format!(
        "cd {o} && mkdir repo && cd repo && git init -q . && git config user.name n && git config user.email e@x && echo one > f && \
         git add f && git commit -qm first && git clone -q --bare . {o}/served.git && cd {o}/served.git && git update-server-info && \
         chown -R 65534:65534 {w}",
        o = ground.text("o"),
        w = ground.text("w")
    );
    let made = std::process::Command::new("sh").args(["-c", &script]).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let origin = crate::sandbox::serve(ground.at("o")).await;
    let port = origin.address.port();
    for ordinary in [false, true] {
        let server = named.server(ordinary).await;
        let mut client = server.client().await;
        for (index, (script, says)) in [
            (format!("git clone -q http://app.test:{port}/served.git cloned{ordinary} && cat cloned{ordinary}/f"), "one"),
            (format!("curl -sS --noproxy '*' http://app.test:{port}/precious"), "precious"),
            (format!("curl -sS --noproxy '*' http://denied.test:{port}/precious 2>&1; true"), "onnect"),
            (
                format!(
                    "python3 -c 'import socket; s = socket.create_connection((\"app.test\", {port})); \
                     s.sendall(b\"GET /precious HTTP/1.0\\r\\n\\r\\n\"); print(s.makefile().read())'"
                ),
                "precious",
            ),
            ("getent ahostsv4 app.test; getent ahostsv6 app.test".to_owned(), "198.18.0."),
            ("cat /etc/resolv.conf; echo x >> /etc/resolv.conf; true".to_owned(), "127.0.0.53"),
        ]
        .into_iter()
        .enumerate()
        {
            let id = format!("{ordinary} {index}");
            let mut more = transparent(ground, &workspace(ground), rules());
            // Without any variable that names a proxy.
            let command = format!("exec env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/nonexistent sh -c '{}'", script.replace('\'', "'\\''"));
            more["timeoutMs"] = json!(60_000);
            client.ok("process/start", start_params(&id, ["/bin/sh", "-c", &command], more)).await;
            let ended = client.finish(&id).await;
            let said = format!("{}{}", ended.stdout(), ended.text("stderr"));
            assert!(ended.code() == 0 && said.contains(says), "{script}: {} {said}", ended.code());
        }
    }
}

#[tokio::test]
async fn the_flag_makes_every_enforced_network_transparent() {
    if !possible() {
        return;
    }
    let server = Server::builder().args(["--linux-sandbox-transparent-tcp"]).start().await;
    let mut client = server.client().await;
    let info = client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["networkProxyTransparentTcp"], true, "{info}");
    let ground = Ground::new();
    let start = |enforce: bool, settings: Value| {
        json!({"sandbox": read_only(&ground), "enforceManagedNetwork": enforce,
            "networkProxy": {"proxy": proxy(settings)}})
    };
    let look = "grep -q codextun /proc/net/dev && echo transparent; true";
    for (enforce, says) in [(true, "transparent\n"), (false, "")] {
        let id = format!("look {enforce}");
        client
            .ok("process/start", start_params(&id, ["/bin/sh", "-c", look], start(enforce, json!({}))))
            .await;
        assert_eq!(client.finish(&id).await.stdout(), says, "{enforce}");
    }
    let params = start_params("no", ["true"], start(true, json!({"enableSocks5": false})));
    let (code, words) = client.call("process/start", params).await.expect_err("it takes SOCKS");
    assert_eq!(words, "failed to prepare transparent TCP: transparent TCP requires managed SOCKS5");
    assert_eq!(code, -32602);
}

#[tokio::test]
async fn the_network_ends_with_its_program_and_leaves_no_process() {
    if !possible() {
        return;
    }
    let named = Named::new();
    let server = named.server(false).await;
    let mut client = server.client().await;
    let mut more = transparent(&named.ground, &read_only(&named.ground), rules());
    more["pipeStdin"] = json!(true);
    let before = codex_e2e::machine::children(server.pid()).len();
    client.ok("process/start", start_params("p", ["/bin/cat"], more)).await;
    assert!(codex_e2e::machine::children(server.pid()).len() >= before + 2, "the program and its stack");
    client.ok("process/terminate", json!({"processId": "p"})).await;
    client.finish("p").await;
    let pid = server.pid();
    let stacks = || codex_e2e::machine::children(pid).into_iter().filter(|child| is_stack(*child)).count();
    codex_e2e::machine::eventually("the stack has ended", || stacks() == 0).await;
}

/// Whether a process is one of packets: it holds the device.
fn is_stack(pid: u32) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let leads = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    entries.filter_map(leads).any(|to| to.to_string_lossy().contains("net/tun"))
}

#[tokio::test]
async fn by_hand_names_are_resolved_inside_and_this_machine_stays_closed() {
    if !possible() {
        return;
    }
    let (origin, ground) = (origin().await, Ground::new());
    let codex = |arguments: &[&str], script: &str| {
        let mut codex = std::process::Command::new(codex_e2e::binary::codex());
        codex.arg("sandbox").args(arguments).args(["--", "sh", "-c", script]).current_dir(ground.at("w"));
        let ended = codex.output().expect("it runs");
        let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (ended.status.code(), said.concat())
    };
    let look = "grep -q codextun /proc/net/dev && getent ahostsv4 crates.io | head -n 1";
    let (code, said) = codex(&["--transparent-tcp"], look);
    assert!(code == Some(0) && said.starts_with("198.18.0.1 "), "{code:?} {said}");
    for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
        let try_it =
            format!("curl -sS --noproxy '*' http://{host}:{}/ 2>&1; echo code $?", origin.address.port());
        let (_, said) = codex(&["--transparent-tcp", "--allow-host", host], &try_it);
        assert!(said.contains("code 7"), "{host}: {said}");
    }
    assert!(origin.heads().is_empty());
    let (code, said) = codex(&["--transparent-tcp", "--allow-host", "https://a.test/"], "true");
    assert!(code == Some(1) && said.contains("--allow-host"), "{code:?} {said}");
    for arguments in [&["--allow-host", "a.test"][..], &["--transparent-tcp", "--network"]] {
        assert_eq!(codex(arguments, "true").0, Some(2), "{arguments:?}");
    }
}
