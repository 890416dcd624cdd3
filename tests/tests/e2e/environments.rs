//! Environments by name, on the built binary: what is written down, and what commands make of it.

use codex_e2e::Server;
use codex_e2e::login::{Ended, Home};
use codex_e2e::secret;

const RUN: [&str; 2] = ["exec-server", "run"];

async fn env(home: &Home, words: &[&str]) -> Ended {
    home.run(&[&["exec-server", "env"], words].concat()).await
}

fn told(ended: &Ended, code: i32, words: &str) {
    assert_eq!(ended.status.code(), Some(code), "{ended:?}");
    assert!(ended.stderr.contains(words) && ended.stderr.lines().count() == 1, "{words}: {ended:?}");
}

#[tokio::test]
async fn a_machine_is_named_once_and_used_by_name_by_default_and_by_address() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", directory.path().join("exec.sock").display());
    let home = Home::new();
    let mut servers = Vec::new();
    for (name, listen) in [("box", "ws://127.0.0.1:0"), ("sock", socket.as_str())] {
        let server = Server::builder().listen(listen).env("WHERE", name).start().await;
        assert_eq!(env(&home, &["add", name, &server.url]).await.status.code(), Some(0));
        servers.push(server);
    }
    let program = codex_e2e::binary::codex().to_str().unwrap();
    let add = ["add", "pipe", "-e", "WHERE=pipe", "--", program, "exec-server", "--listen", "stdio"];
    assert_eq!(env(&home, &add).await.status.code(), Some(0));
    let run = async |target: &[&str]| {
        let words = [&RUN[..], target, &["--", "sh", "-c", "echo in ${WHERE:-here}"]].concat();
        home.run(&words).await
    };
    assert_eq!(run(&[]).await.stdout, "in here\n", "nothing is in use yet");
    for name in ["box", "sock", "pipe"] {
        assert_eq!(run(&["-E", name]).await.stdout, format!("in {name}\n"));
        assert_eq!(env(&home, &["use", name]).await.status.code(), Some(0));
        assert_eq!(run(&[]).await.stdout, format!("in {name}\n"));
    }
    assert_eq!(run(&["-E", "local"]).await.stdout, "in here\n");
    assert_eq!(run(&["--url", &servers[0].url]).await.stdout, "in box\n");

    let listed = env(&home, &["ls"]).await.stdout;
    assert!(listed.contains(&format!("\tbox\twebsocket\t{}/\t\n", servers[0].url)), "{listed}");
    assert!(listed.contains("*\tpipe\tprogram\t") && listed.contains(&socket), "{listed}");
    assert_eq!(env(&home, &["ls", "-q"]).await.stdout, "local\nbox\npipe\nsock\n");
    let json: serde_json::Value = serde_json::from_str(&env(&home, &["ls", "--json"]).await.stdout).unwrap();
    assert_eq!((json[2]["name"].as_str(), json[2]["inUse"].as_bool()), (Some("pipe"), Some(true)));

    let status = env(&home, &["status", "box", "--json"]).await.stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((status["name"].as_str(), status["state"].as_str()), (Some("box"), Some("ready")));
    assert!(env(&home, &["status", "sock"]).await.stdout.contains("state    ready\n"));

    env(&home, &["pause", "box"]).await;
    told(&run(&["-E", "box"]).await, 1, "\"box\" is paused; `codex exec-server env resume box` ends that");
    assert!(env(&home, &["ls"]).await.stdout.contains("\tpaused\n"));
    env(&home, &["add", "gone", "ws://127.0.0.1:1"]).await;
    let all = env(&home, &["status", "--all", "--json"]).await;
    assert_eq!(all.status.code(), Some(1), "{all:?}");
    let all: serde_json::Value = serde_json::from_str(&all.stdout).unwrap();
    let all: Vec<_> = all.as_array().unwrap().iter().collect();
    let states = all.iter().map(|one| (one["name"].as_str().unwrap(), one["state"].as_str().unwrap()));
    assert_eq!(
        states.collect::<Vec<_>>(),
        [
            ("local", "ready"),
            ("box", "unknown"),
            ("pipe", "ready"),
            ("gone", "disconnected"),
            ("sock", "ready")
        ]
    );
    assert!(
        all[1]["paused"] == true && all[3]["reason"].as_str().unwrap().contains("can't reach"),
        "{all:?}"
    );
    env(&home, &["rm", "gone"]).await;
    assert_eq!(env(&home, &["status", "--all"]).await.status.code(), Some(0));
    env(&home, &["resume", "box"]).await;
    assert_eq!(run(&["-E", "box"]).await.stdout, "in box\n");

    env(&home, &["rm", "pipe"]).await;
    told(&run(&["-E", "pipe"]).await, 1, "no environment \"pipe\"; there are: local, box, sock");
    assert_eq!(run(&[]).await.stdout, "in here\n", "what was in use is gone");
    env(&home, &["use", "none"]).await;
    told(&run(&[]).await, 1, "no environment is in use");
}

#[tokio::test]
async fn what_can_not_be_named_is_refused_with_what_would_be_right() {
    let home = Home::new();
    for (words, code, told_words) in [
        (&["add", "local", "ws://127.0.0.1:1"][..], 1, "\"local\" is no name"),
        (&["add", "a b", "ws://127.0.0.1:1"], 1, "is no name"),
        (&["add", "a", "box.example"], 2, "is no address of an environment"),
        (&["add", "a", "https://h"], 2, "--environment-id"),
        (&["add", "a", "http://h", "--environment-id", "x"], 2, "needs https://"),
        (&["add", "a", "ws://user:pw@h"], 1, "user name or password"),
        (&["add", "a", "wss://h", "--environment-id", "x"], 2, "goes with a registry's"),
        (&["add", "a", "wss://h", "--token-file", "/nosuch"], 1, "can't read the token from /nosuch"),
        (&["rm", "a"], 1, "no environment \"a\""),
        (&["use", "a"], 1, "no environment \"a\""),
        (&["status", "a"], 1, "no environment \"a\""),
    ] {
        told(&env(&home, words).await, code, told_words);
    }
    home.write("environments.toml", "default = \"x\"\n");
    told(&env(&home, &["ls"]).await, 1, "environments.toml: default is \"x\", which is not configured");
    home.write("environments.toml", "deafult = \"x\"\n");
    told(&env(&home, &["use", "local"]).await, 1, "environments.toml:1:1: unknown field `deafult`");
    told(&home.run(&["exec-server", "run", "--", "true"]).await, 1, "unknown field `deafult`");
    assert_eq!(home.run(&["exec-server", "run", "-E", "local", "--", "true"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn the_variable_of_released_clients_counts_where_there_is_no_file() {
    let server = Server::builder().env("WHERE", "there").start().await;
    let mut home = Home::new();
    home.set("CODEX_EXEC_SERVER_URL", format!(" {} ", server.url));
    let command = ["exec-server", "run", "--", "sh", "-c", "echo in $WHERE"];
    assert_eq!(home.run(&command).await.stdout, "in there\n");
    assert_eq!(env(&home, &["ls", "-q"]).await.stdout, "remote\n");
    home.set("CODEX_EXEC_SERVER_URL", "None");
    told(&home.run(&command).await, 1, "CODEX_EXEC_SERVER_URL is \"none\"");
    home.write("environments.toml", "");
    assert_eq!(home.run(&command).await.stdout, "in\n");
}

#[tokio::test]
async fn a_missing_or_refused_token_is_4_and_for_a_program_255() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    let bad = directory.path().join("bad");
    std::fs::write(&good, secret!("abc")).unwrap();
    std::fs::write(&bad, secret!("wrong")).unwrap();
    let server = Server::builder()
        .args(["--ws-auth", "capability-token", "--ws-token-file", good.to_str().unwrap()])
        .start()
        .await;
    let home = Home::new();
    for (name, file) in [("good", Some(&good)), ("bad", Some(&bad)), ("without", None)] {
        let file = file.map(|file| ["--token-file", file.to_str().unwrap()]);
        let words = [&["add", name, &server.url][..], file.as_ref().map_or(&[], |file| &file[..])].concat();
        assert_eq!(env(&home, &words).await.status.code(), Some(0));
    }
    assert_eq!(env(&home, &["status", "good"]).await.status.code(), Some(0));
    told(&env(&home, &["status", "bad"]).await, 4, "refused the bearer token");
    told(&env(&home, &["status", "without"]).await, 4, "asks for a bearer token");
    told(
        &home.run(&[&RUN[..], &["-E", "bad", "--", "true"]].concat()).await,
        255,
        "refused the bearer token",
    );
    let registry = ["status", "--registry", "https://127.0.0.1:1", "--environment-id", "x"];
    told(&env(&home, &registry).await, 4, "holds no token for the registry");
    told(&env(&home, &["status", "--url", "ws://127.0.0.1:1"]).await, 1, "can't reach");
}
