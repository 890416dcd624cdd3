//! `codex doctor --json`, and the way to an environment with each hop broken once.

use std::process::{Command, Stdio};

use codex_e2e::Server;
use codex_e2e::client::guarded;
use codex_e2e::executor::{Executor, ExecutorBuilder};
use codex_e2e::far::{Far, brought};
use codex_e2e::hub::{Hub, words};
use codex_e2e::machine::eventually;
use codex_e2e::tls::Certificate;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Runs it with these arguments and variables; the report and the exit code.
async fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> (Value, Option<i32>) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(codex_e2e::binary::codex());
    command.args(["doctor", "--json"]).args(arguments).env("CODEX_HOME", home.path()).stdin(Stdio::null());
    for name in [
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "CODEX_CA_CERTIFICATE",
        "SSL_CERT_FILE",
        "CODEX_EXEC_SERVER_TOKEN",
    ] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(variables.iter().copied());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = guarded("its end", ended).await.unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (report, output.status.code())
}

/// The checks of the way that were made, with their results.
fn way(report: &Value) -> Vec<(String, String)> {
    let checks = report["checks"].as_object().unwrap();
    let mut found: Vec<_> = checks
        .values()
        .filter(|check| check["category"] == "environment")
        .map(|check| (check["id"].as_str().unwrap().to_owned(), check["status"].as_str().unwrap().to_owned()))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn the_report_has_the_shape_of_released_programs() {
    let (report, code) = doctor(&[], &[]).await;
    assert_eq!(report["schemaVersion"], 1);
    let generated: jiff::Timestamp = report["generatedAt"].as_str().unwrap().parse().unwrap();
    assert!(generated <= jiff::Timestamp::now());
    assert_eq!(code, Some(i32::from(report["overallStatus"] != "ok")));
    assert!(report["codexVersion"].is_string());
    let checks = report["checks"].as_object().unwrap();
    for (id, check) in checks {
        assert_eq!(check["id"], id.as_str());
        assert!(["ok", "warning", "fail"].iter().any(|word| check["status"] == *word), "{check}");
        assert!(check["summary"].is_string() && check["details"].is_object() && check["durationMs"].is_u64());
        assert!(check["status"] != "ok" || check["remediation"].is_null(), "{check}");
    }
    for id in [
        "home.directory",
        "config.load",
        "auth.stored",
        "clock.plausible",
        "network.proxy",
        "network.certificates",
        "limits.groups",
    ] {
        assert_eq!(checks[id]["status"], "ok", "{}", checks[id]);
    }
    assert!(checks.keys().any(|id| id.starts_with("sandbox.")));
    assert!(way(&report).is_empty(), "no environment was named");
}

/// Arguments and variables, the check that fails, and words of its remedy.
type Fault<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);

#[tokio::test]
async fn faults_of_this_machine_are_named_with_what_cures_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("no.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let cases: [Fault<'_>; 3] = [
        (
            &[],
            &[("CODEX_CA_CERTIFICATE", file.to_str().unwrap())],
            "network.certificates",
            "unset CODEX_CA_CERTIFICATE",
        ),
        (&[], &[("HTTPS_PROXY", "gopher://h:1")], "network.proxy", "export HTTPS_PROXY="),
        (&["-c", "nonsense"], &[], "config.load", "mend config.toml"),
    ];
    for (arguments, variables, id, remedy) in cases {
        let (report, code) = doctor(arguments, variables).await;
        let check = &report["checks"][id];
        assert_eq!((code, &check["status"]), (Some(1), &"fail".into()), "{check}");
        assert!(check["remediation"].as_str().unwrap().contains(remedy), "{check}");
    }
}

#[tokio::test]
async fn the_hop_that_breaks_is_named_and_none_behind_it_is_tried() {
    let server = Server::start().await;
    let guarded_server = Server::builder()
        .args(["--ws-auth", "capability-token", "--ws-token-sha256", &"0".repeat(64)])
        .start()
        .await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Somebody who speaks HTTP and is no exec-server.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stranger = format!("ws://{}", other.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        loop {
            let (mut stream, _) = other.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .await;
            });
        }
    });
    let nobody = format!("ws://{free}");
    let secure = server.url.replace("ws://", "wss://");
    let cases: [(&[&str], &str, &str); 7] = [
        (&["--url", &server.url], "", ""),
        (&["-E", "unknown"], "environment.name", "unknown"),
        (&["--url", "ws://no-such-host.invalid:1"], "environment.resolve", "no-such-host.invalid"),
        (&["--url", &nobody], "environment.connect", "nobody listens"),
        (&["--url", "unix:///no/such/socket"], "environment.connect", "nobody listens"),
        (&["--url", &stranger], "environment.server", "no exec-server"),
        (&["--url", &guarded_server.url], "environment.credential", "token"),
    ];
    for (arguments, id, words) in cases {
        let (report, code) = doctor(arguments, &[]).await;
        let failed: Vec<_> = way(&report).into_iter().filter(|(_, status)| status != "ok").collect();
        if id.is_empty() {
            assert!(failed.is_empty(), "{report:#}");
            let version = &report["checks"]["environment.version"];
            assert!(version["summary"].as_str().unwrap().contains("both sides"), "{version}");
            continue;
        }
        assert_eq!(failed, [(id.to_owned(), "fail".to_owned())], "{arguments:?}: {report:#}");
        let check = &report["checks"][id];
        assert!(
            check["summary"].as_str().unwrap().contains(words) && check["remediation"].is_string(),
            "{check}"
        );
        assert_eq!(code, Some(1));
        assert!(report["checks"].get("environment.version").is_none(), "{arguments:?}");
    }
    // A server without TLS is asked for it.
    let (report, _) = doctor(&["--url", &secure], &[]).await;
    assert!(
        way(&report).iter().any(|(id, status)| id == "environment.server" && status == "fail"),
        "{report:#}"
    );
    answering.abort();
}

/// Arguments, variables, the check that fails, and what its remedy says.
type Staged<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);

#[tokio::test]
async fn a_broken_proxy_certificate_registry_or_executor_is_named_and_comes_right_when_it_is_mended() {
    let server = Server::start().await;
    let hub = Hub::start(&[]).await;
    let said = hub.said();
    let (variables, arguments) = words(said.lines().find(|line| line.contains("uname -a")).unwrap());
    let [(_, token)] = &variables[..] else { panic!("{said}") };
    let id = arguments.iter().skip_while(|word| *word != "--environment-id").nth(1).unwrap();
    let certificate = Certificate::new();
    let secure = format!("wss://{}", certificate.front(&server.address().to_string()).await);
    let pem = certificate.pem.path().to_str().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (dead, dead_proxy) = (format!("http://{nobody}"), format!("http://{nobody}"));
    const TOKEN: &str = "CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN";
    let through = |url| ["--registry", url, "--environment-id", id.as_str()];
    let cases: [Staged; 5] = [
        (
            &["--url", "ws://box.example:4500"],
            &[("HTTP_PROXY", &dead_proxy), ("HTTPS_PROXY", &dead_proxy), ("ALL_PROXY", &dead_proxy)],
            "environment.proxy",
            "unset HTTPS_PROXY",
        ),
        (&["--url", &secure], &[], "environment.tls", "export CODEX_CA_CERTIFICATE="),
        (&through(&dead), &[(TOKEN, token)], "environment.connect", "on that machine:"),
        (&through(&hub.url), &[(TOKEN, "cxr_wrong")], "environment.credential", "token"),
        (&through(&hub.url), &[(TOKEN, token)], "environment.executor", "exec-server there"),
    ];
    for (arguments, variables, id, words) in cases {
        let (report, code) = doctor(arguments, variables).await;
        let (found, remedy) = broken(&report);
        assert_eq!((found.as_str(), code), (id, Some(1)), "{arguments:?}: {report:#}");
        assert!(remedy.contains(words), "{arguments:?}: {remedy}");
    }
    let (report, _) = doctor(&["--url", &secure], &[("CODEX_CA_CERTIFICATE", pem)]).await;
    assert!(way(&report).iter().all(|(_, status)| status == "ok"), "{report:#}");
    let line = said.lines().find(|line| line.contains("--remote")).unwrap();
    let mut executor: Executor = ExecutorBuilder::of_line(line, None).start();
    executor.tells("attached to").await;
    let (report, _) = doctor(&through(&hub.url), &[(TOKEN, token)]).await;
    assert!(way(&report).iter().all(|(_, status)| status == "ok"), "{report:#}");
}

/// The only check of the way that failed, and its remedy.
fn broken(report: &Value) -> (String, String) {
    let failed: Vec<_> = way(report).into_iter().filter(|(_, status)| status != "ok").collect();
    assert_eq!(failed.len(), 1, "{report:#}");
    let remedy = report["checks"][&failed[0].0]["remediation"].as_str().expect("a remedy").to_owned();
    (failed[0].0.clone(), remedy)
}

#[tokio::test]
async fn a_remedy_that_is_pasted_cures_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", directory.path().join("s.sock").display());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::os::unix::fs::symlink(codex_e2e::binary::codex(), directory.path().join("codex")).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    for url in [socket, format!("ws://{free}")] {
        let (report, _) = doctor(&["--url", &url], &[]).await;
        let (id, remedy) = broken(&report);
        assert_eq!(id, "environment.connect");
        let remedy = remedy.strip_prefix("on that machine: ").unwrap_or(&remedy).to_owned();
        let mut pasted = Command::new("sh");
        pasted.args(["-c", &format!("exec {remedy}")]).env("PATH", &path).stdin(Stdio::null());
        let mut server = pasted.stdout(Stdio::piped()).spawn().unwrap();
        let mut address = [0];
        let mut stdout = server.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut address).unwrap();
        let (report, _) = doctor(&["--url", &url], &[]).await;
        assert!(way(&report).iter().all(|(_, status)| status == "ok"), "{report:#}");
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

#[tokio::test]
async fn the_step_to_a_machine_with_a_shell_that_breaks_is_named_and_its_remedy_cures_it() {
    let far = Far::with_sshd().await;
    let path = far.search_path();
    let variables = [("PATH", path.as_str())];
    let binary = brought().to_str().unwrap();
    let directory = far.path("installed").display().to_string();
    let text = far.path("text").display().to_string();
    std::fs::write(&text, "#!/bin/sh\nexit 0 # no program for Linux\n").unwrap();
    for (url, program, id, words) in [
        ("ssh://nosuch.invalid", binary, "environment.hop-1", "ssh -v nosuch.invalid true"),
        ("ssh://refused", binary, "environment.hop-1", "ssh refused true"),
        ("ssh://closed", binary, "environment.hop-1", "ssh-add"),
        ("docker://gone", binary, "environment.hop-1", "docker ps"),
        ("ssh://box|docker://gone", binary, "environment.hop-2", "docker ps"),
        ("docker://shellless", binary, "environment.hop-1", "/bin/sh"),
        ("docker://noexec", binary, "environment.hop-1", "--remote-dir"),
        ("docker://homeless", binary, "environment.hop-1", "--remote-dir"),
        ("docker://full", binary, "environment.hop-1", "--remote-dir"),
        ("docker://plain", &text, "environment.program", "--binary"),
    ] {
        let (report, code) = doctor(&["--url", url, "--binary", program], &variables).await;
        let (found, remedy) = broken(&report);
        assert_eq!((found.as_str(), code), (id, Some(1)), "{url}: {report:#}");
        assert!(remedy.contains(words), "{url}: {remedy}");
        assert!(report["checks"].get("environment.version").is_none(), "{url}");
    }
    // What the remedies of the last ones say.
    for url in ["docker://noexec", "docker://homeless", "docker://full", "docker://plain"] {
        let flags = ["--url", url, "--binary", binary, "--remote-dir", &directory];
        let (report, _) = doctor(&flags, &variables).await;
        assert!(way(&report).iter().all(|(_, status)| status == "ok"), "{url}: {report:#}");
        assert!(report["checks"]["environment.version"].is_object(), "{url}: {report:#}");
    }
    eventually("nothing is left running", || far.processes().is_empty()).await;
}
