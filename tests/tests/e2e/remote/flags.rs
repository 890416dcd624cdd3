//! The command line of an executor (1.1, 11).

use codex_e2e::ExecutorBuilder;
use codex_e2e::registry::{Answer, ScriptedRegistry};
use codex_e2e::{ScriptedRendezvous, Server};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use super::{BEARER, Contract};

#[tokio::test]
async fn flags_that_do_not_go_together_are_usage_errors() {
    const LISTEN: &str = "error: the argument '--remote <URL>' cannot be used with '--listen <URL>'\n";
    let cases: [(&[&str], &str); 24] = [
        (&["--listen", "ws://127.0.0.1:0", "--environment-id", "e"], LISTEN),
        (&["--environment-id", "e", "--listen", "ws://127.0.0.1:0"], LISTEN),
        (&["--ws-auth", "none", "--environment-id", "e"], "--ws-auth"),
        (&["--environment-id", "e", "--executor-id", "x"], "--executor-id"),
        (&["--remote-contract", "noise"], "--environment-id <ID>"),
        (&["--remote-contract", "environment"], "--environment-id <ID>"),
        (&["--remote-contract", "executor"], "--executor-id <ID>"),
        (&["--remote-contract", "executor", "--environment-id", "e"], "--executor-id <ID>"),
        (&["--remote-contract", "noise", "--executor-id", "e"], "--environment-id <ID>"),
        (&["--remote-contract", "cloud", "--executor-id", "e"], "--environment-id <ID>"),
        (&["--remote-contract", "other", "--environment-id", "e"], "other"),
        (&["--remote-transport", "direct", "--environment-id", "e"], "--aws-sigv4"),
        (&["--aws-sigv4", "--environment-id", "e"], "--remote-transport direct"),
        (&["--remote-transport", "direct", "--aws-sigv4"], "--environment-id <ID>"),
        (&["--aws-region", "r", "--environment-id", "e"], "--aws-sigv4"),
        (&["--remote-transport", "pigeon", "--environment-id", "e"], "pigeon"),
        (&["--remote-transport", "noise"], "--environment-id"),
        (&["--remote-transport", "noise", "--executor-id", "e"], "--environment-id"),
        (
            &["--remote-transport", "noise", "--environment-id", "e", "--remote-contract", "environment"],
            "noise",
        ),
        (&["--environment-id", "e", "--chatgpt-account-id", "a"], "--chatgpt-token-stdin"),
        (
            &["--environment-id", "e", "--chatgpt-token-stdin", "--registration-bearer-stdin"],
            "cannot be used with",
        ),
        (&["--registration-bearer-stdin"], "--environment-id"),
        (&["--environment-id"], "--environment-id"),
        (&["--environment-id", "e", "--remote", "http://127.0.0.1:1"], "--remote"),
    ];
    for (flags, text) in cases {
        let outcome = ExecutorBuilder::new("http://127.0.0.1:1").args(flags).outcome().await;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{flags:?}: {outcome:?}");
        assert!(outcome.stderr.contains(text), "{flags:?}: {}", outcome.stderr);
    }
    let run = ["--environment-id", "e", "run", "--", "true"];
    let outcome = ExecutorBuilder::new("http://127.0.0.1:1").args(run).outcome().await;
    assert!(outcome.code == Some(2) && outcome.stderr.contains("subcommand 'run'"), "{outcome:?}");
    let wrong = ExecutorBuilder::new("http://127.0.0.1:1")
        .args(["--environment-id", "e"])
        .env("CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE", "yes");
    let outcome = wrong.outcome().await;
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
}

#[tokio::test]
async fn without_remote_ids_and_name_mean_nothing_and_the_other_flags_are_refused() {
    for flags in [["--environment-id", "e"], ["--executor-id", "../x"], ["--name", "n"]] {
        let server = Server::builder().args(flags).start().await;
        server.client().await;
    }
    let flags: [&[&str]; 5] = [
        &["--registration-bearer-stdin"],
        &["--exit-on-stdin-close"],
        &["--wait-for-registry"],
        &["--remote-contract", "noise"],
        &["--remote-transport", "relay"],
    ];
    for flags in flags {
        let refused = Server::builder().without_listen().args(flags.iter().copied()).refused().await;
        assert_eq!(refused.code, Some(2), "{flags:?}: {refused:?}");
        assert!(refused.stderr.contains("--remote <URL>"), "{flags:?}: {}", refused.stderr);
    }
}

#[tokio::test]
async fn ids_and_base_urls_are_checked_before_anything_is_sent() {
    let registry = ScriptedRegistry::answering([Answer::status("500 Oops", "")]).await;
    let long = "x".repeat(257);
    for contract in Contract::ALL {
        let flag = if contract == Contract::Executor { "--executor-id" } else { "--environment-id" };
        for id in ["../x", "a?b#c", "é", ".", "a b", "a/b", &long] {
            let outcome = builder(contract, &registry.url).args([flag, id]).outcome().await;
            assert_eq!(outcome.code, Some(1), "{contract:?} {id}: {outcome:?}");
            assert!(outcome.stderr.contains("configuration error"), "{}", outcome.stderr);
        }
    }
    let required = [
        (
            Contract::Executor,
            "--executor-id",
            "executor registry configuration error: executor id is required",
        ),
        (
            Contract::Noise,
            "--environment-id",
            "environment registry configuration error: environment id is required",
        ),
    ];
    for (contract, flag, text) in required {
        let outcome = builder(contract, &registry.url).args([flag, "  "]).outcome().await;
        let line = format!("Error: {text} for remote exec-server registration\n");
        assert_eq!((outcome.code, outcome.stderr), (Some(1), line), "{contract:?}");
    }
    assert!(registry.asked().is_empty());
    let bases = [
        ("", "executor registry configuration error: executor registry base URL is required\n"),
        (" / ", "executor registry configuration error: executor registry base URL is required\n"),
        (
            "foo",
            "executor registry request failed: builder error\n\nCaused by:\n    relative URL without a base\n",
        ),
        (
            "ftp://h",
            "executor registry configuration error: the base URL has the scheme \"ftp\"; use https\n",
        ),
    ];
    for (base, text) in bases {
        let outcome = Contract::Executor.executor(base).outcome().await;
        assert_eq!((outcome.code, outcome.stderr), (Some(1), format!("Error: {text}")), "{base:?}");
    }
    for contract in [Contract::Environment, Contract::Noise] {
        let outcome = contract.executor("foo").outcome().await;
        let text = "Error: invalid remote exec-server registration URL: relative URL without a base\n";
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), text), "{contract:?}");
    }
    for base in ["http://user:pw@127.0.0.1:1", "http://127.0.0.1:1/?a=b", "http://127.0.0.1:1/#f"] {
        let outcome = Contract::Noise.executor(base).outcome().await;
        assert!(outcome.code == Some(1) && !outcome.stderr.contains("pw@"), "{outcome:?}");
    }
}

/// As [`Contract::executor`], without an id.
fn builder(contract: Contract, registry: &str) -> ExecutorBuilder {
    let executor = ExecutorBuilder::new(registry).env("CODEX_API_KEY", BEARER);
    match contract {
        Contract::Cloud => executor.args(["--remote-contract", "cloud"]),
        Contract::Executor => executor,
        Contract::Environment => executor.args(["--remote-contract", "environment"]),
        Contract::Noise => executor.args(["--remote-contract", "noise"]),
    }
}

#[tokio::test]
async fn white_space_and_slashes_around_the_base_url_go_and_its_path_stays() {
    for contract in Contract::ALL {
        let (registry, rendezvous) = contract.stage().await;
        let executor = contract.executor(&format!("  {}/base///  ", registry.url)).start();
        assert_eq!(registry.request(1).await.line(), format!("POST /base{}", contract.path()));
        rendezvous.executor().await;
        assert_eq!(executor.stop().await.code, Some(0));
    }
}

#[tokio::test]
async fn both_signals_end_an_executor_gracefully_in_every_contract() {
    for contract in Contract::ALL {
        for signal in [Signal::TERM, Signal::INT] {
            let (registry, rendezvous) = contract.stage().await;
            let mut executor = contract.executor(&registry.url).start();
            let mut socket = rendezvous.executor().await;
            executor.tells("attached").await;
            executor.signal(signal);
            let outcome = executor.outcome().await;
            assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{contract:?} {outcome:?}");
            assert!(socket.next().await.is_none());
        }
    }
}

#[tokio::test]
async fn a_signal_ends_an_executor_that_waits() {
    let silent = ScriptedRegistry::answering([Answer::Silence]).await;
    let executor = Contract::Noise.executor(&silent.url).start();
    silent.request(1).await;
    assert_eq!(executor.stop().await.code, Some(0));
}

#[tokio::test]
async fn the_end_of_stdin_ends_an_executor_that_was_told_so_and_no_other() {
    let ways: [fn(ExecutorBuilder) -> ExecutorBuilder; 2] = [
        |executor| executor.args(["--exit-on-stdin-close"]),
        |executor| executor.env("CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE", "true"),
    ];
    for told in ways {
        let (registry, rendezvous) = Contract::Noise.stage().await;
        let mut executor = told(Contract::Noise.executor(&registry.url)).with_stdin().start();
        let _socket = rendezvous.executor().await;
        executor.stdin().as_mut().unwrap().write_all(b"noise\n").await.unwrap();
        drop(executor.stdin().take());
        assert_eq!(executor.outcome().await.code, Some(0));
    }
    // Without, stdin (here /dev/null, at its end from the start) does not matter.
    let (registry, rendezvous) = Contract::Noise.stage().await;
    let executor =
        Contract::Noise.executor(&registry.url).env("CODEX_EXEC_SERVER_EXIT_ON_STDIN_CLOSE", "false").start();
    let mut socket = rendezvous.executor().await;
    socket.message(tokio_tungstenite::tungstenite::Message::Ping(b"there?".as_slice().into())).await;
    assert!(matches!(
        socket.next_of_any_kind().await,
        Some(tokio_tungstenite::tungstenite::Message::Pong(payload)) if payload == b"there?".as_slice()
    ));
    assert_eq!(executor.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_bearer_from_stdin_is_one_line_and_its_end_does_not_matter() {
    let (registry, rendezvous) = Contract::Noise.stage().await;
    let mut executor = ExecutorBuilder::new(&registry.url)
        .args(["--environment-id", "id-1", "--registration-bearer-stdin"])
        .with_stdin()
        .start();
    executor.stdin().as_mut().unwrap().write_all(b"from-stdin\n").await.unwrap();
    drop(executor.stdin().take());
    assert_eq!(registry.request(1).await.header("authorization"), Some("Bearer from-stdin"));
    rendezvous.executor().await;
    executor.tells("lost the rendezvous").await;
    assert_eq!(executor.stop().await.code, Some(0));

    let long = format!("{}\n", "x".repeat(16 << 10));
    let expected = "expected a newline-terminated registration bearer of at most 16 KiB";
    let cases = [
        ("no-newline", expected),
        ("", expected),
        (long.as_str(), expected),
        ("\n", "invalid registration bearer"),
        ("a b\n", "invalid registration bearer"),
        ("a\r\n", "invalid registration bearer"),
        ("a\u{7}\n", "invalid registration bearer"),
    ];
    for (input, text) in cases {
        let mut executor = ExecutorBuilder::new("http://127.0.0.1:1")
            .args(["--environment-id", "id-1", "--registration-bearer-stdin"])
            .with_stdin()
            .start();
        let mut stdin = executor.stdin().take().unwrap();
        // It may stop reading before all of it is written.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let outcome = executor.outcome().await;
        let line = format!("Error: {text}\n");
        assert_eq!((outcome.code, outcome.stderr), (Some(1), line), "{input:.20}");
    }
}

#[tokio::test]
async fn a_refusal_of_a_bearer_from_stdin_never_shows_the_body() {
    for status in ["401 Unauthorized", "500 Internal Server Error"] {
        let body = r#"{"error":{"code":"c","message":"from-stdin echoed"}}"#;
        let registry = ScriptedRegistry::answering([Answer::status(status, body)]).await;
        let mut executor = ExecutorBuilder::new(&registry.url)
            .args(["--environment-id", "id-1", "--registration-bearer-stdin"])
            .with_stdin()
            .start();
        executor.stdin().as_mut().unwrap().write_all(b"from-stdin\n").await.unwrap();
        let outcome = executor.outcome().await;
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains("environment registry executor registration failed"), "{outcome:?}");
        assert!(!outcome.stderr.contains("echoed"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_chatgpt_token_from_stdin_goes_over_https_only() {
    const TOKEN: &str = codex_e2e::secret!("chatgpt-token-of-stdin");
    let flags = ["--environment-id", "id-1", "--chatgpt-token-stdin", "--chatgpt-account-id", "acct-1"];
    let registry = ScriptedRegistry::answering([]).await;
    for base in [&*registry.url, "https://user@registry.test", "https://registry.test/#part"] {
        let mut executor = ExecutorBuilder::new(base).args(flags).with_stdin().start();
        executor.stdin().as_mut().unwrap().write_all(format!("{TOKEN}\n").as_bytes()).await.unwrap();
        let outcome = executor.outcome().await;
        assert_eq!(outcome.code, Some(1), "{base}: {outcome:?}");
        let sentence = "ChatGPT token registry URLs must use HTTPS without userinfo or fragments";
        assert!(outcome.stderr.contains(sentence), "{base}: {outcome:?}");
    }
    assert!(registry.asked().is_empty(), "no token went out");
}

#[tokio::test]
async fn credentials_in_frames_are_refused_in_the_released_words() {
    let registry = ScriptedRegistry::answering([]).await;
    for (input, expected) in [
        ("", "Error: exec-server executor credential pipe closed\n"),
        (
            "{",
            "Error: invalid exec-server executor credential frame\n\nCaused by:\n    this program does not know",
        ),
        (
            "{}\n",
            "Error: invalid exec-server executor credential frame\n\nCaused by:\n    this program does not know",
        ),
    ] {
        let flags = ["--environment-id", "id-1", "--executor-credential-stdin"];
        let mut executor = ExecutorBuilder::new(&registry.url).args(flags).with_stdin().start();
        let mut stdin = executor.stdin().take().expect("it has one");
        stdin.write_all(input.as_bytes()).await.expect("it reads");
        // The end is waited for only where nothing came.
        let _kept = (!input.is_empty()).then_some(stdin);
        let outcome = executor.outcome().await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.starts_with(expected), "{input:?}: {outcome:?}");
    }
    assert!(registry.asked().is_empty());
}

#[tokio::test]
async fn the_ids_imply_the_contract() {
    let rendezvous = ScriptedRendezvous::start().await;
    let cases: [(Contract, &[&str]); 7] = [
        (Contract::Cloud, &[]),
        (Contract::Cloud, &["--remote-contract", "auto"]),
        (Contract::Executor, &["--executor-id", "id-1"]),
        (Contract::Executor, &["--executor-id", "id-1", "--remote-contract", "auto"]),
        (Contract::Noise, &["--environment-id", "id-1"]),
        (Contract::Noise, &["--environment-id", "id-1", "--remote-transport", "relay"]),
        (Contract::Noise, &["--environment-id", "id-1", "--remote-transport", "noise"]),
    ];
    for (contract, flags) in cases {
        let registry =
            ScriptedRegistry::answering([Answer::ok(contract.registered(&rendezvous.url()))]).await;
        let executor = ExecutorBuilder::new(&registry.url)
            .args(flags)
            .file("auth.json", &super::chatgpt("t", "a"))
            .start();
        let asked = registry.request(1).await;
        assert_eq!(asked.line(), format!("POST {}", contract.path()));
        assert_eq!(asked.body.is_empty(), contract == Contract::Executor, "{flags:?}");
        rendezvous.executor().await;
        assert_eq!(executor.stop().await.code, Some(0));
    }
}
