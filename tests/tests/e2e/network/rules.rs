//! What a proxy lets through by its rules, and what it says of everything else.

use codex_e2e::Server;

use super::*;

#[tokio::test]
async fn what_is_allowed_goes_through_every_way_and_is_reported() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let port = origin.address.port();
    let errands = [
        format!("get http://localhost:{port}/a?b=c"),
        format!("post http://LOCALHOST.:{port}/up"),
        format!("tunnel localhost:{port}"),
        format!("socks localhost:{port}"),
    ];
    start(&mut client, "p", &errands, to_localhost()).await;
    for (protocol, method) in [
        ("http", json!("GET")),
        ("http", json!("POST")),
        ("https_connect", json!("CONNECT")),
        ("socks5_tcp", Value::Null),
    ] {
        let report = client.next_notification("network/policyDecision").await;
        let stamp = report["timestamp"].as_str().unwrap();
        assert!(stamp.len() == 24 && stamp.ends_with('Z') && stamp.as_bytes()[19] == b'.', "{report}");
        assert!(report["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{report}");
        let expected = json!({
            "processId": "p", "timestamp": stamp, "scope": "domain", "decision": "allow", "source": "baseline_policy",
            "reason": "allowed", "protocol": protocol, "host": "localhost", "port": port, "method": method,
            "client": report["client"], "policyOverride": false,
        });
        assert_eq!(report, expected);
    }
    let told = finish(&mut client, "p").await;
    // What concerns one hop stays there, and the host is the one that was judged.
    assert_eq!(told[0], format!("HTTP/1.1 200 OK GET /a?b=c host: localhost:{port} x-own: 1"));
    assert_eq!(told[1], format!("HTTP/1.1 200 OK POST /up host: localhost:{port} x-own: 1"));
    assert_eq!(told[2], format!("HTTP/1.1 200 OK GET /through host: localhost:{port}"));
    assert_eq!(told[3], format!("HTTP/1.1 200 OK GET /through host: localhost:{port}"));
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_a_sentence_and_reported() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let domains = json!({"a.test": "allow", "denied.test": "deny", "none.test": "none", "*": "none"});
    let more = json!({"networkProxy": {"proxy": proxy(json!({"domains": domains}))}});
    for (errand, status, reason) in [
        ("get http://denied.test/", "HTTP/1.1 403", "denied"),
        ("get http://none.test/", "HTTP/1.1 403", "not_allowed"),
        ("get http://other.test/", "HTTP/1.1 403", "not_allowed"),
        ("tunnel other.test:443", "HTTP/1.1 403", "not_allowed"),
        ("socks other.test:443", "SOCKS 2", "not_allowed"),
        ("get http://localhost/", "HTTP/1.1 403", "not_allowed_local"),
        ("get http://2130706433/", "HTTP/1.1 403", "not_allowed_local"),
        ("get http://[::ffff:10.0.0.1]/", "HTTP/1.1 403", "not_allowed_local"),
        ("tunnel 169.254.169.254:80", "HTTP/1.1 403", "not_allowed_local"),
        ("socks 0x7f.1:80", "SOCKS 2", "not_allowed_local"),
    ] {
        let told = visit(&mut client, &[errand], more.clone()).await;
        assert!(told[0].starts_with(status), "{errand}: {told:?}");
        if errand.starts_with("get") {
            assert!(told[0].contains(reason), "{errand}: {told:?}");
        }
        let report = client.next_notification("network/policyDecision").await;
        assert_eq!(
            (&report["decision"], &report["source"], &report["reason"]),
            (&json!("deny"), &json!("baseline_policy"), &json!(reason)),
            "{errand}: {report}"
        );
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_though_it_is_allowed() {
    // Whatever this machine calls itself, it is one of its own addresses.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names = hosts
        .lines()
        .filter(|line| line.starts_with("127."))
        .flat_map(|line| line.split_whitespace().skip(1));
    let Some(name) = names.into_iter().find(|name| !name.contains("localhost")) else {
        eprintln!("SKIPPED: no other name of this machine is in /etc/hosts");
        return;
    };
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let url = format!("get http://{name}:{}/", origin.address.port());
    let settings = proxy(json!({"domains": {"*": "allow", name: "allow"}}));
    let told = visit(&mut client, &[&url], json!({"networkProxy": {"proxy": settings}})).await;
    assert!(told[0].starts_with("HTTP/1.1 403") && told[0].contains("not_allowed_local"), "{told:?}");
    assert_eq!(client.next_notification("network/policyDecision").await["reason"], "not_allowed_local");
    assert!(origin.heads().is_empty());

    // Neither does the client's word lift it.
    let settings = json!({"networkProxy": {"proxy": proxy(json!({})), "policyDecisionTimeoutMs": 30000}});
    start(&mut client, "asks", &[&url], settings).await;
    let question = client.until(|message| message["method"] == "network/policyRequest").await;
    let allow = json!({"id": question["id"], "result": {"decision": {"type": "allow"}}});
    client.send_raw(&allow.to_string()).await;
    let told = finish(&mut client, "asks").await;
    assert!(told[0].contains("not_allowed_local"), "{told:?}");
    assert!(origin.heads().is_empty());
}

#[tokio::test]
async fn the_limited_mode_only_reads() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let port = origin.address.port();
    let settings = json!({"mode": "limited", "allowLocalBinding": true, "domains": {"localhost": "allow"}});
    let errands = [
        format!("get http://localhost:{port}/"),
        format!("post http://localhost:{port}/"),
        format!("tunnel localhost:{port}"),
        format!("socks localhost:{port}"),
    ];
    let told = visit(&mut client, &errands, json!({"networkProxy": {"proxy": proxy(settings)}})).await;
    let starts = ["HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 403", "SOCKS 2"];
    assert!(told.iter().zip(starts).all(|(told, start)| told.starts_with(start)), "{told:?}");
    assert_eq!(origin.heads().len(), 1);
}

#[tokio::test]
async fn requests_that_could_mean_two_hosts_or_none_are_not_passed_on() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let address = format!("localhost:{}", origin.address.port());
    let errands = [
        format!("head http://evil.test/ http://{address}/"),
        format!("plain GET http://{address}/ HTTP/1.1|Host: {address}|Host: evil.test||"),
        format!("plain GET http://user@{address}/ HTTP/1.1|Host: {address}||"),
        format!("plain GET / HTTP/1.1|Host: {address}||"),
        format!("plain GET https://{address}/ HTTP/1.1|Host: {address}||"),
        format!("plain GET ftp://{address}/ HTTP/1.1|Host: {address}||"),
        "plain CONNECT localhost HTTP/1.1|Host: localhost||".to_owned(),
        format!("plain GET http://{address}/ HTTP/1.1|Host: localhost:1||"),
        format!("plain GET http://{address}:/ HTTP/1.1|Host: {address}||"),
        "plain junk||".to_owned(),
        format!(
            "plain POST http://{address}/ HTTP/1.1|Host: {address}|Content-Length: 1|Content-Length: 2||x"
        ),
    ];
    let told = visit(&mut client, &errands, to_localhost()).await;
    assert!(told.iter().all(|told| told.starts_with("HTTP/1.1 400")), "{told:?}");
    assert!(origin.heads().is_empty());
}

#[tokio::test]
async fn heads_that_can_only_mean_one_host_are_passed_on() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let address = format!("localhost:{}", origin.address.port());
    let many = "X-Own: 1|".repeat(900);
    let errands = [
        format!("plain GET http://{address}/ HTTP/1.1|Host: localhost||"),
        format!("plain CONNECT {address} HTTP/1.1|Host: evil.test||"),
        format!("plain CONNECT {address} HTTP/1.1|Host: localhost||"),
        format!("plain GET http://{address}/ HTTP/1.1|Host: {address}|{many}|"),
    ];
    let told = visit(&mut client, &errands, to_localhost()).await;
    assert!(told.iter().all(|told| told.starts_with("HTTP/1.1 200")), "{told:?}");
    assert_eq!(origin.heads().len(), 2);
    assert!(
        origin.heads()[0].contains(&format!("localhost:{}", origin.address.port())),
        "{:?}",
        origin.heads()
    );
}

#[tokio::test]
async fn bodies_in_chunks_arrive_whatever_the_method() {
    // Says what it got: the head in lower case and everything up to the last chunk.
    let origin = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = origin.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let mut all = Vec::new();
        for _ in ["GET", "DELETE", "POST"] {
            use tokio::io::AsyncReadExt;
            let (mut stream, _) = origin.accept().await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"0\r\n\r\n") {
                assert_ne!(
                    stream.read_buf(&mut bytes).await.unwrap(),
                    0,
                    "{}",
                    String::from_utf8_lossy(&bytes)
                );
            }
            stream.write_all(&plain("200 OK", "", b"")).await.unwrap();
            all.push(String::from_utf8(bytes).unwrap());
        }
        all
    });
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = |method: &str, coding: &str| {
        format!("plain {method} http://localhost:{port}/ HTTP/1.1|Host: localhost|{coding}||5|hello|0||")
    };
    let coding = "Transfer-Encoding: chunked";
    let errands = ["GET", "DELETE", "POST"].map(|method| request(method, coding));
    let told = visit(&mut client, &errands.each_ref().map(String::as_str), to_localhost()).await;
    assert!(told.iter().all(|told| told.starts_with("HTTP/1.1 200")), "{told:?}");
    for request in seen.await.unwrap() {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(
            head.to_lowercase().contains("transfer-encoding: chunked") && body.contains("hello"),
            "{request}"
        );
    }

    let other = request("POST", "Transfer-Encoding: gzip, chunked");
    let told = visit(&mut client, &[&other], to_localhost()).await;
    assert!(told[0].starts_with("HTTP/1.1 501"), "{told:?}");
    let mut limited = to_localhost();
    limited["networkProxy"]["proxy"]["mode"] = json!("limited");
    let sized = format!("plain GET http://localhost:{port}/ HTTP/1.1|Host: localhost|Content-Length: 1||x");
    let errands = [request("GET", coding), sized];
    let told = visit(&mut client, &errands.each_ref().map(String::as_str), limited).await;
    assert!(told.iter().all(|told| told.starts_with("HTTP/1.1 403")), "{told:?}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_from_what_may_not() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings =
        json!({"allowLocalBinding": true, "domains": {"localhost": "allow", "*.invalid": "allow"}});
    let errands = [
        format!("get http://localhost:{port}/"),
        format!("socks localhost:{port}"),
        "get http://nobody.invalid/".to_owned(),
        "socks nobody.invalid:80".to_owned(),
    ];
    let told = visit(&mut client, &errands, json!({"networkProxy": {"proxy": proxy(settings)}})).await;
    assert!(told[0].starts_with("HTTP/1.1 502") && told[1].starts_with("SOCKS 5"), "{told:?}");
    let unknown = |told: &str, words: [&str; 2]| words.iter().any(|word| told.starts_with(word));
    // A name server that does not answer makes it a time-out.
    assert!(unknown(&told[2], ["HTTP/1.1 502", "HTTP/1.1 504"]), "{told:?}");
    assert!(unknown(&told[3], ["SOCKS 4", "SOCKS 6"]), "{told:?}");
}

#[tokio::test]
async fn without_socks_there_is_none() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let mut more = to_localhost();
    more["networkProxy"]["proxy"]["enableSocks5"] = json!(false);
    let socks = format!("socks localhost:{}", origin.address.port());
    let told = visit(&mut client, &["var ALL_PROXY", "var HTTP_PROXY"], more.clone()).await;
    assert_eq!(told[0], told[1]);
    start(&mut client, "p", &[&socks], more).await;
    let ended = client.finish("p").await;
    assert!(!ended.stdout().contains("200 OK"), "{}", ended.stdout());
    assert!(origin.heads().is_empty());
}

#[tokio::test]
async fn the_environment_points_at_the_proxy_whatever_it_said_before() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut more = to_localhost();
    more["env"] = json!({"HTTP_PROXY": "http://other:1", "no_proxy": "*", "KEPT": "yes"});
    let http = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "npm_config_proxy",
        "npm_config_https_proxy",
        "PIP_PROXY",
        "YARN_HTTPS_PROXY",
        "DOCKER_HTTP_PROXY",
        "BUNDLE_HTTPS_PROXY",
    ];
    let others = [
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
        "CODEX_NETWORK_PROXY_ACTIVE",
        "CODEX_NETWORK_ALLOW_LOCAL_BINDING",
        "KEPT",
    ];
    let errands: Vec<String> = http.iter().chain(&others).map(|name| format!("var {name}")).collect();
    let told = visit(&mut client, &errands, more).await;
    let (said, rest) = told.split_at(http.len());
    assert!(said.iter().all(|value| value.starts_with("http://127.0.0.1:") && *value == said[0]), "{told:?}");
    let socks = said[0].replace("http://", "socks5h://");
    let local = "localhost,127.0.0.1,::1,127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16";
    assert_eq!(rest, [&*socks, &*socks, local, local, "1", "1", "yes"]);
    let mut closed = to_localhost();
    closed["networkProxy"]["proxy"]["allowLocalBinding"] = json!(false);
    let asked = ["var CODEX_NETWORK_ALLOW_LOCAL_BINDING", "var NO_PROXY"];
    assert_eq!(visit(&mut client, &asked, closed).await, ["0", ""]);
    assert_eq!(visit(&mut client, &["var CODEX_NETWORK_PROXY_ACTIVE"], json!({})).await, ["(unset)"]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_leaves_the_id_free() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let with = |more: Value| json!({"networkProxy": {"proxy": proxy(more)}});
    for (more, code) in [
        (json!({"networkProxy": {}}), -32602),
        (json!({"networkProxy": {"proxy": {}}}), -32602),
        (with(json!({"enabled": false})), -32602),
        (with(json!({"mode": "open"})), -32602),
        (with(json!({"domains": {"https://a.test/": "allow"}})), -32602),
        (with(json!({"domains": {"a.test": "ask"}})), -32602),
        (with(json!({"reviewDomains": ["a b"]})), -32602),
        (with(json!({"credentialProviders": {"github": {}}})), -32600),
        // What a client of 0.171 sends to a server that announces it.
        (with(json!({"credentialMasking": true})), -32600),
        (json!({"networkProxy": {"proxy": proxy(json!({})), "policyDecisionTimeoutMs": 0}}), -32602),
        (json!({"managedNetwork": {"loopbackPorts": [0]}}), -32602),
        (with(json!({"transparentTcp": null})), -32602),
        (with(json!({"transparentTcp": 1})), -32602),
        (json!({"managedNetwork": {"transparentTcp": null}}), -32602),
        (json!({"managedNetwork": {"transparentTcp": "yes"}}), -32602),
        (json!({"managedNetwork": {"loopbackPorts": (1..40).collect::<Vec<u16>>()}}), -32602),
    ] {
        let params = start_params("p", ["true"], more.clone());
        assert_eq!(client.refused("process/start", params).await, code, "{more}");
    }
    for ignored in [
        json!({"transparentTcp": false}),
        json!({"credentialMasking": false}),
        json!({"allowUpstreamProxy": true}),
        json!({"unixSockets": {"/x": "allow"}}),
    ] {
        assert_eq!(visit(&mut client, &["var KEPT"], with(ignored)).await, ["(unset)"]);
    }
    client.start_with("p", ["true"], with(json!({"credentialProviders": {}}))).await;
}

#[tokio::test]
async fn transparent_tcp_is_refused_in_the_released_words_and_never_ignored() {
    let server = Server::builder().args(["--sandbox-namespaces", "off"]).start().await;
    let mut client = server.client().await;
    let info = client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["networkProxyTransparentTcp"], false, "{info}");
    let ground = crate::sandbox::Ground::new();
    let sandbox = crate::sandbox::read_only(&ground);
    let off = ground.sandbox(json!({"type": "disabled"}));
    let on = proxy(json!({"transparentTcp": true}));
    let without_socks = proxy(json!({"transparentTcp": true, "enableSocks5": false}));
    let managed = json!({"transparentTcp": true});
    for (more, words) in [
        (json!({"networkProxy": {"proxy": on}}), "transparent TCP requires a managed Linux sandbox"),
        (
            json!({"networkProxy": {"proxy": on}, "sandbox": off}),
            "transparent TCP requires a managed Linux sandbox",
        ),
        (
            json!({"managedNetwork": managed, "sandbox": sandbox}),
            "transparent TCP requires an executor-local managed proxy",
        ),
        (
            json!({"networkProxy": {"proxy": without_socks}, "sandbox": sandbox}),
            "invalid network proxy config: transparent_tcp requires an enabled managed SOCKS5 proxy",
        ),
        // There is no network device without namespaces; the rest of the sentence says so.
        (
            json!({"networkProxy": {"proxy": on}, "sandbox": sandbox}),
            "transparent TCP requires a supported distro bubblewrap on PATH",
        ),
        (
            json!({"networkProxy": {"proxy": proxy(json!({}))}, "managedNetwork": managed, "sandbox": sandbox}),
            "transparent TCP requires a supported distro bubblewrap on PATH",
        ),
    ] {
        let answer = client.call("process/start", start_params("p", ["true"], more.clone())).await;
        let (code, said) = answer.expect_err("refused");
        assert!(code == -32602 && said.starts_with(words), "{more}: {said}");
    }
}
