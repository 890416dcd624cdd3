//! `rendezvous status` as an operator uses it.

use super::*;

/// Runs it with a token in the variable.
async fn status(token: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let command = Server::builder().without_listen().args(["rendezvous", "status"]).args(arguments.to_vec());
    let ended = command.env("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", token).refused().await;
    (ended.code, ended.stdout, ended.stderr)
}

#[tokio::test]
async fn status_lists_nodes_and_environments_for_people_and_for_scripts() {
    let rendezvous = Rendezvous::start(&[]).await;
    let token = rendezvous.pasted("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN");
    let (_, answer) = rendezvous.register(&token).await;
    let (_socket, _) = connect_async(answer["url"].as_str().unwrap()).await.unwrap();
    let (code, stdout, stderr) = status(&token, &["--url", &rendezvous.url]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let node = format!("{}\tready\t1\t1\t0\t0\t0\n", rendezvous.url);
    assert_eq!(stdout, format!("{node}\nmy-machine\tattached\t{}\t0\t0\n", rendezvous.url));
    let command = Server::builder().without_listen().args(["rendezvous", "status", "--json"]);
    let ended = command
        .env("CODEX_EXEC_SERVER_NOISE_AUTH_TOKEN", &token)
        .env("CODEX_EXEC_SERVER_NOISE_REGISTRY_URL", &rendezvous.url)
        .refused()
        .await;
    let told: Value = serde_json::from_str(&ended.stdout).expect(&ended.stderr);
    let (node, environment) = (&told["nodes"][0], &told["environments"][0]);
    assert_eq!((&told["broker"], &node["executors"]), (&json!("alone"), &json!(1)));
    assert_eq!((&environment["environment"], &environment["streams"]), (&json!("my-machine"), &json!(0)));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    let from_file = ["--url", &rendezvous.url, "--token-file", path.to_str().unwrap()];
    assert_eq!(status("", &from_file).await.0, Some(0));
    for (token, arguments, code, part) in [
        ("wrong", &["--url", rendezvous.url.as_str()][..], 4, "--role observer"),
        ("", &["--url", &rendezvous.url], 4, "there is no token"),
        ("x", &[], 2, "--url URL"),
        ("x", &["--url", "http://x.example"], 2, "has no TLS"),
        ("x", &["--url", "https://user:secret@x.example"], 2, "without user"),
        ("x", &["--url", "ws://127.0.0.1:1"], 2, "https://HOST"),
        ("x", &["--url", "http://127.0.0.1:1"], 1, "can't ask http://127.0.0.1:1"),
    ] {
        let (seen, stdout, stderr) = status(token, arguments).await;
        assert_eq!(seen, Some(code), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty() && stderr.contains(part), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("secret"), "{arguments:?}: {stderr}");
    }
    assert_eq!(rendezvous.end().await.0, Some(0));
}
