//! Coming back after a loss (5.1, 8.1), and what is told meanwhile.

use codex_e2e::client::guarded;
use codex_e2e::registry::Answer;
use codex_e2e::rendezvous::TICKET;
use codex_e2e::{ScriptedRegistry, ScriptedRendezvous};
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::{BEARER, Contract};

#[tokio::test]
async fn the_upgrade_is_a_plain_get_of_the_url_without_any_credential() {
    for contract in Contract::ALL {
        let (registry, rendezvous) = contract.stage().await;
        let _executor = contract.executor(&registry.url).start();
        let attempt = rendezvous.attempt().await;
        let head = attempt.head.clone();
        assert!(head.starts_with(&format!("GET /rv/executor?{TICKET} HTTP/1.1\r\n")), "{head}");
        let mut names: Vec<String> = head
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
            .collect();
        names.sort();
        let mut expected =
            vec!["connection", "host", "sec-websocket-key", "sec-websocket-version", "upgrade"];
        if contract == Contract::Noise {
            expected.push("x-request-id");
            let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: req_")).expect("an id");
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
        assert_eq!(names, expected, "{contract:?}");
    }
}

#[tokio::test]
async fn a_to_d_register_before_every_attempt_and_e_keeps_its_registration() {
    let cases = Contract::ALL.map(|contract| async move {
        let (registry, rendezvous) = contract.stage().await;
        let mut executor = contract.executor(&registry.url).start();
        drop(rendezvous.executor().await);
        executor.tells("lost the rendezvous").await;
        rendezvous.attempt().await.refuse("503 Service Unavailable", "").await;
        executor.tells("503 Service Unavailable").await;
        rendezvous.executor().await;
        let registrations = if contract == Contract::Noise { 1 } else { 3 };
        assert_eq!(registry.asked().len(), registrations, "{contract:?}");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn e_registers_again_after_any_4xx_and_after_nothing_else() {
    let (registry, rendezvous) = Contract::Noise.stage().await;
    let mut executor = Contract::Noise.executor(&registry.url).start();
    let first = rendezvous.attempt().await;
    let id = |head: &str| head.lines().find(|line| line.starts_with("x-request-id")).unwrap().to_string();
    let first_id = id(&first.head);
    first.refuse("410 Gone", "x-codex-rendezvous-rejection-reason: unknown_route\r\n").await;
    executor.tells("410 Gone (unknown_route)").await;
    registry.request(2).await;
    let second = rendezvous.attempt().await;
    assert_ne!(id(&second.head), first_id, "a new id for each attempt");
    second.refuse("302 Found", "x-codex-rendezvous-rejection-reason: made up\r\nlocation: /\r\n").await;
    executor.tells("302 Found;").await;
    rendezvous.executor().await;
    assert_eq!(registry.asked().len(), 2);
}

#[tokio::test]
async fn a_rendezvous_that_is_no_websocket_address_is_a_failed_connection() {
    let cases = Contract::ALL.into_iter().flat_map(|contract| {
        ["http://127.0.0.1:1/x", "nonsense", "", "ws://"].map(|bad| async move {
            let rendezvous = ScriptedRendezvous::start().await;
            let good = rendezvous.url();
            let registry = ScriptedRegistry::scripted(Box::new(move |number, _| {
                Answer::ok(contract.registered(if number == 0 { bad } else { &good }))
            }))
            .await;
            let mut executor = contract.executor(&registry.url).start();
            executor.tells("could not attach").await;
            if contract != Contract::Noise {
                rendezvous.executor().await;
            }
        })
    });
    join_all(cases).await;
}

#[tokio::test]
async fn once_registered_an_executor_waits_for_a_registry_that_is_away() {
    let cases = Contract::ALL.map(|contract| async move {
        let rendezvous = ScriptedRendezvous::start().await;
        let registry = ScriptedRegistry::answering([
            Answer::ok(contract.registered(&rendezvous.url())),
            Answer::status("500 Internal Server Error", "boom"),
            Answer::Raw(Vec::new()),
            Answer::ok("<html>maintenance</html>"),
            Answer::ok(contract.registered(&rendezvous.url())),
        ])
        .await;
        let mut executor = contract.executor(&registry.url).start();
        rendezvous.attempt().await.refuse("404 Not Found", "").await;
        executor.tells_times("could not register", 3).await;
        rendezvous.executor().await;
        assert_eq!(registry.asked().len(), 5, "{contract:?}");
        assert_eq!(executor.stop().await.code, Some(0));
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_refused_credential_a_wrong_contract_and_a_removed_environment_are_final_also_later() {
    let other = |contract: Contract| match contract {
        Contract::Executor => Contract::Environment,
        _ => Contract::Executor,
    };
    let finals = |contract: Contract| {
        [
            Answer::status("403 Forbidden", "no"),
            Answer::status("404 Not Found", r#"{"error":{"message":"removed"}}"#),
            Answer::status("410 Gone", "removed"),
            Answer::ok(other(contract).registered("ws://127.0.0.1:1")),
        ]
    };
    let cases = Contract::ALL.into_iter().flat_map(|contract| {
        finals(contract).map(|last| async move {
            let rendezvous = ScriptedRendezvous::start().await;
            let first = Answer::ok(contract.registered(&rendezvous.url()));
            let registry = ScriptedRegistry::answering([first, last.clone()]).await;
            let executor = contract.executor(&registry.url).start();
            rendezvous.attempt().await.refuse("404 Not Found", "").await;
            let outcome = executor.outcome().await;
            assert_eq!(outcome.code, Some(1), "{contract:?} {last:?}");
            assert!(outcome.stderr.lines().any(|line| line.starts_with("Error: ")), "{outcome:?}");
        })
    });
    join_all(cases).await;
}

#[tokio::test]
async fn wait_for_registry_waits_for_the_first_registration_too() {
    let rendezvous = ScriptedRendezvous::start().await;
    let contract = Contract::Noise;
    let away = Answer::status("503 Service Unavailable", "soon");
    let good = Answer::ok(contract.registered(&rendezvous.url()));
    let registry = ScriptedRegistry::answering([away.clone(), away, good]).await;
    let mut executor = contract.executor(&registry.url).args(["--wait-for-registry"]).start();
    rendezvous.executor().await;
    executor.tells_times("could not register", 2).await;
    // A typo is told at once all the same.
    let gone = ScriptedRegistry::answering([Answer::status("404 Not Found", "")]).await;
    let outcome = contract.executor(&gone.url).args(["--wait-for-registry"]).outcome().await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for contract in Contract::ALL {
        let outcome = contract.executor("registry.example").args(["--wait-for-registry"]).outcome().await;
        assert_eq!(outcome.code, Some(1), "{contract:?}: {outcome:?}");
        assert!(outcome.stderr.contains("relative URL without a base"), "{contract:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn every_step_is_told_and_no_secret_ever_even_in_the_logs() {
    let cases = Contract::ALL.map(|contract| async move {
        let (registry, rendezvous) = contract.stage().await;
        let mut executor = contract.executor(&registry.url).env("RUST_LOG", "trace").start();
        drop(rendezvous.executor().await);
        executor.tells("codex exec-server attached to ws://127.0.0.1:").await;
        executor.tells("codex exec-server lost the rendezvous: ").await;
        executor.tells("; again in ").await;
        rendezvous.attempt().await.refuse("401 Unauthorized", "").await;
        executor.tells("refused the upgrade with 401 Unauthorized; again in ").await;
        rendezvous.executor().await;
        let outcome = executor.stop().await;
        for secret in
            [codex_e2e::secret!("ticket"), BEARER, codex_e2e::secret!("at-0"), codex_e2e::secret!("rt-1")]
        {
            assert!(!outcome.stderr.contains(secret), "{contract:?} {secret}: {}", outcome.stderr);
        }
        assert_eq!(outcome.stdout, "", "nothing goes to stdout");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn what_a_rendezvous_says_at_its_close_is_told_and_no_terminal_obeys_it() {
    let cases = Contract::ALL.map(|contract| async move {
        let (registry, rendezvous) = contract.stage().await;
        let mut executor = contract.executor(&registry.url).start();
        let frame = |reason: &'static str| CloseFrame { code: 1012.into(), reason: reason.into() };
        for (close, told) in [
            (Some(frame("a newer\x1b[31m executor")), "(1012: a newer[31m executor); again in "),
            (Some(frame("")), "(1012); again in "),
            (None, "the connection was closed; again in "),
        ] {
            let mut socket = rendezvous.executor().await.into_inner();
            socket.close(close).await.unwrap();
            executor.tells(told).await;
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_rendezvous_that_answers_no_upgrade_is_left() {
    let (registry, rendezvous) = Contract::Noise.stage().await;
    let mut executor = Contract::Noise.executor(&registry.url).start();
    let mut silent = rendezvous.attempt().await.into_stream();
    // The connection's end is what is waited for; it takes the upgrade's time-out.
    guarded("the end of the attempt", silent.read_to_end(&mut Vec::new())).await.ok();
    executor.tells("no answer within 10 s").await;
    rendezvous.executor().await;
}

#[tokio::test]
async fn a_rendezvous_without_a_sign_of_life_is_left_and_one_that_answers_pings_stays() {
    let cases = Contract::ALL.map(|contract| async move {
        let (registry, rendezvous) = contract.stage().await;
        let limits = ["--limit", "ping_interval=100", "--limit", "silence_time=1500"];
        let mut executor = contract.executor(&registry.url).args(limits).start();
        let mut living = rendezvous.executor().await;
        for _ in 0..20 {
            // Reading answers the pings.
            match living.next_of_any_kind().await {
                Some(tokio_tungstenite::tungstenite::Message::Ping(payload)) => assert!(payload.is_empty()),
                other => panic!("{contract:?}: {other:?}"),
            }
        }
        assert!(!executor.told().contains("lost"), "{contract:?}");
        drop(living);
        let _silent = rendezvous.executor().await;
        executor.tells("no sign of life").await;
        rendezvous.executor().await;
    });
    join_all(cases).await;
}
