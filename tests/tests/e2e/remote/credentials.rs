//! What an executor proves itself with, and where that may go (2.2, 3, `login.md` 7.4).

use codex_e2e::registry::Answer;
use codex_e2e::{ExecutorBuilder, ScriptedRegistry, ScriptedRendezvous};
use serde_json::{Value, json};

use super::{Contract, chatgpt, id_token};

/// An executor of a contract with neither id trouble nor credential.
fn bare(contract: Contract, registry: &str) -> ExecutorBuilder {
    let executor = ExecutorBuilder::new(registry);
    match contract {
        Contract::Cloud => executor,
        Contract::Executor => executor.args(["--executor-id", "id-1"]),
        Contract::Environment => {
            executor.args(["--environment-id", "id-1", "--remote-contract", "environment"])
        }
        Contract::Noise => executor.args(["--environment-id", "id-1"]),
    }
}

fn without(member: &str, text: &str) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap();
    value.as_object_mut().unwrap().remove(member);
    value.to_string()
}

fn api_key_file() -> String {
    json!({"auth_mode": "apikey", "OPENAI_API_KEY": codex_e2e::secret!("sk-1")}).to_string()
}

#[tokio::test]
async fn a_missing_or_unfit_credential_has_the_contracts_own_words_and_nothing_is_sent() {
    let signed_in = chatgpt(codex_e2e::secret!("at-0"), "acct-1");
    let no_account = {
        let mut value: Value = serde_json::from_str(&signed_in).unwrap();
        value["tokens"].as_object_mut().unwrap().remove("account_id");
        value.to_string()
    };
    let empty_bearer = chatgpt("", "acct-1");
    let no_refresh = without("last_refresh", &signed_in);
    let key = api_key_file();
    const D: &str = "remote exec-server registration requires ChatGPT authentication or API key authentication; \
                     run `codex login` or set CODEX_API_KEY\n\nCaused by:\n    there is no sign-in; for a registry \
                     of one's own, set CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN to its access token";
    const UNRESOLVED: &str = "environment registry authentication error: failed to resolve environment registry \
                              authentication: request auth build error: executor credential has";
    const A: &str = "cloud environment authentication error: cloud environments";
    let no_bearer = format!("{UNRESOLVED} no usable bearer");
    let blank_bearer = format!("{UNRESOLVED} an empty bearer");
    let c_unset = "executor registry authentication error: executor registry bearer token environment variable \
                   `CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN` is not set\n\nCaused by:\n    remote exec-server \
                   registration requires ChatGPT authentication; run `codex login` first";
    let c_prime_key = "remote exec-server registration requires ChatGPT authentication; API key and Agent Identity \
                       auth are not supported";
    let cases: Vec<(Contract, Option<&str>, String)> = vec![
        (Contract::Cloud, None, format!("{A} require ChatGPT authentication")),
        (Contract::Cloud, Some("not json"), format!("{A} require ChatGPT authentication")),
        (
            Contract::Cloud,
            Some(&key),
            format!("{A} require ChatGPT authentication; API key auth is not supported"),
        ),
        (Contract::Cloud, Some(&empty_bearer), format!("{A} require a non-empty ChatGPT bearer token")),
        (Contract::Cloud, Some(&no_account), format!("{A} are waiting for a ChatGPT account id")),
        (Contract::Executor, None, c_unset.into()),
        (Contract::Executor, Some(&key), c_prime_key.into()),
        (Contract::Environment, None, D.into()),
        (Contract::Noise, None, D.into()),
        (Contract::Noise, Some("not json"), D.into()),
        (Contract::Noise, Some(&no_refresh), no_bearer.clone()),
        (Contract::Noise, Some("{}"), no_bearer),
        (Contract::Noise, Some(&empty_bearer), blank_bearer),
    ];
    for (contract, file, text) in cases {
        let registry = ScriptedRegistry::answering([Answer::status("500 Oops", "")]).await;
        // OPENAI_API_KEY never counts.
        let mut executor =
            bare(contract, &registry.url).env("OPENAI_API_KEY", codex_e2e::secret!("sk-ignored"));
        if let Some(file) = file {
            executor = executor.file("auth.json", file);
        }
        let outcome = executor.outcome().await;
        let expected = format!("Error: {text}\n");
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(1), expected.as_str()),
            "{contract:?} {file:?}"
        );
        assert!(registry.asked().is_empty(), "{contract:?} {file:?}");
    }
    for blank in ["", "  "] {
        let outcome = bare(Contract::Executor, "http://127.0.0.1:1")
            .env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", blank)
            .outcome()
            .await;
        let expected = "Error: executor registry authentication error: executor registry bearer token environment \
                        variable `CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN` is empty\n";
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), expected));
    }
}

#[tokio::test]
async fn an_agent_identity_is_refused_before_anything_is_sent() {
    let registry = ScriptedRegistry::answering([Answer::status("500 Oops", "")]).await;
    let executor = || {
        bare(Contract::Noise, &registry.url)
            .args(["--use-agent-identity-auth"])
            .file("auth.json", &api_key_file())
    };
    let without = executor().outcome().await;
    let expected = "Error: CODEX_ACCESS_TOKEN is required when --use-agent-identity-auth is set\n";
    assert_eq!((without.code, without.stderr.as_str()), (Some(1), expected));
    let with = executor().env("CODEX_ACCESS_TOKEN", codex_e2e::secret!("agent-1")).outcome().await;
    assert_eq!(with.code, Some(1));
    assert!(
        with.stderr.starts_with("Error: Agent Identity authentication is unavailable: "),
        "{}",
        with.stderr
    );
    assert!(registry.asked().is_empty());
}

#[tokio::test]
async fn each_credential_goes_out_with_its_own_headers() {
    let fedramp = {
        let mut value: Value = serde_json::from_str(&chatgpt(codex_e2e::secret!("at-0"), "acct-1")).unwrap();
        value["tokens"]["id_token"] = json!(id_token(true));
        value.to_string()
    };
    let signed_in = chatgpt(codex_e2e::secret!("at-0"), "acct-1");
    let key = api_key_file();
    let variable = ("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", concat!(" ", codex_e2e::secret!("v-1"), " "));
    let api = ("CODEX_API_KEY", concat!(" ", codex_e2e::secret!("k-1"), " "));
    /// Contract, `auth.json`, variables, bearer, account, FedRAMP.
    type Case<'a> = (Contract, &'a str, &'a [(&'a str, &'a str)], &'a str, Option<&'a str>, Option<&'a str>);
    let cases: [Case<'_>; 10] = [
        (Contract::Cloud, &signed_in, &[api, variable], codex_e2e::secret!("at-0"), Some("acct-1"), None),
        (Contract::Executor, &signed_in, &[variable], codex_e2e::secret!("v-1"), None, None),
        (Contract::Executor, &signed_in, &[api], codex_e2e::secret!("at-0"), Some("acct-1"), None),
        (Contract::Environment, &signed_in, &[], codex_e2e::secret!("at-0"), Some("acct-1"), None),
        (Contract::Environment, &key, &[], codex_e2e::secret!("sk-1"), None, None),
        (Contract::Environment, &signed_in, &[api], codex_e2e::secret!("k-1"), None, None),
        (Contract::Noise, &signed_in, &[], codex_e2e::secret!("at-0"), Some("acct-1"), None),
        (Contract::Noise, &fedramp, &[], codex_e2e::secret!("at-0"), Some("acct-1"), Some("true")),
        (Contract::Noise, &signed_in, &[api], codex_e2e::secret!("k-1"), None, None),
        (Contract::Noise, &signed_in, &[variable, api], codex_e2e::secret!("v-1"), None, None),
    ];
    for (contract, file, variables, bearer, account, marked) in cases {
        let (registry, rendezvous) = contract.stage().await;
        let executor = bare(contract, &registry.url).args(match contract {
            Contract::Cloud => ["--environment-id", "id-1", "--remote-contract", "cloud"].as_slice(),
            _ => &[],
        });
        let executor = variables
            .iter()
            .fold(executor.file("auth.json", file), |executor, (name, value)| executor.env(name, value))
            .start();
        let asked = registry.request(1).await;
        assert_eq!(asked.header("authorization"), Some(format!("Bearer {bearer}").as_str()), "{contract:?}");
        assert_eq!(asked.header("chatgpt-account-id"), account, "{contract:?}");
        assert_eq!(asked.header("x-openai-fedramp"), marked, "{contract:?}");
        rendezvous.executor().await;
        drop(executor);
    }
}

#[tokio::test]
async fn credentials_go_only_where_they_may() {
    const HTTPS: &str = "configuration error: remote transport requires https for non-loopback endpoints";
    const KEY: &str = "remote exec-server API-key authentication is restricted to HTTPS openai.com and openai.org \
                       hosts and subdomains or loopback hosts";
    let signed_in = chatgpt(codex_e2e::secret!("at-0"), "acct-1");
    let variable = "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN";
    // Nothing of this is resolved or connected to: each is refused before.
    /// Contract, registry, a variable to set, the error.
    type Case<'a> = (Contract, &'a str, Option<(&'a str, &'a str)>, &'a str);
    let cases: [Case<'_>; 11] = [
        (Contract::Cloud, "http://registry.invalid", None, HTTPS),
        (Contract::Executor, "http://registry.invalid", None, HTTPS),
        (Contract::Environment, "http://registry.invalid", None, HTTPS),
        (Contract::Noise, "http://registry.invalid", None, HTTPS),
        (Contract::Environment, "http://registry.invalid", Some((variable, "v")), HTTPS),
        (Contract::Noise, "http://10.0.0.1", Some((variable, "v")), HTTPS),
        (Contract::Noise, "http://127.0.0.1.registry.invalid", Some((variable, "v")), HTTPS),
        (Contract::Noise, "https://registry.invalid", Some(("CODEX_API_KEY", "k")), KEY),
        (Contract::Noise, "http://openai.com", Some(("CODEX_API_KEY", "k")), KEY),
        (Contract::Environment, "https://notopenai.com", Some(("CODEX_API_KEY", "k")), KEY),
        (Contract::Environment, "https://openai.com.registry.invalid", Some(("CODEX_API_KEY", "k")), KEY),
    ];
    for (contract, base, set, text) in cases {
        let mut executor = bare(contract, base).file("auth.json", &signed_in);
        if let Some((name, value)) = set {
            executor = executor.env(name, value);
        }
        let outcome = executor.outcome().await;
        assert_eq!(outcome.code, Some(1), "{contract:?} {base}: {outcome:?}");
        assert!(
            outcome.stderr.starts_with("Error: ") && outcome.stderr.contains(text),
            "{base}: {}",
            outcome.stderr
        );
    }
}

/// Answers 401 until the bearer is one of those that are good.
async fn registry_for(
    contract: Contract,
    rendezvous: &ScriptedRendezvous,
    good: &'static str,
) -> ScriptedRegistry {
    refusing(contract, rendezvous, good, "401 Unauthorized").await
}

async fn refusing(
    contract: Contract,
    rendezvous: &ScriptedRendezvous,
    good: &'static str,
    status: &'static str,
) -> ScriptedRegistry {
    let registered = contract.registered(&rendezvous.url());
    ScriptedRegistry::scripted(Box::new(move |_, asked| {
        match asked.header("authorization") == Some(&format!("Bearer {good}")) {
            true => Answer::ok(&registered),
            false => Answer::status(status, r#"{"error":{"code":"expired","message":"too old"}}"#),
        }
    }))
    .await
}

/// An issuer that answers every refresh so.
async fn issuer(answer: Answer) -> ScriptedRegistry {
    ScriptedRegistry::answering([answer]).await
}

fn signed_in(contract: Contract, registry: &ScriptedRegistry, issuer: &ScriptedRegistry) -> ExecutorBuilder {
    let executor = bare(contract, &registry.url)
        .file("auth.json", &chatgpt("at-old", "acct-1"))
        .env("CODEX_REFRESH_TOKEN_URL_OVERRIDE", &format!("{}/token", issuer.url));
    match contract {
        Contract::Cloud => executor.args(["--environment-id", "id-1", "--remote-contract", "cloud"]),
        _ => executor,
    }
}

#[tokio::test]
async fn a_refused_sign_in_is_refreshed_once_and_the_new_token_goes_out() {
    for contract in Contract::ALL {
        let rendezvous = ScriptedRendezvous::start().await;
        let registry = registry_for(contract, &rendezvous, codex_e2e::secret!("at-new")).await;
        let issuer = issuer(Answer::ok(json!({"access_token": codex_e2e::secret!("at-new"), "refresh_token": codex_e2e::secret!("rt-2")}))).await;
        let executor = signed_in(contract, &registry, &issuer).start();
        rendezvous.executor().await;
        assert_eq!(registry.asked().len(), 2, "{contract:?}");
        let refresh = issuer.request(1).await.json();
        assert_eq!(
            (&refresh["refresh_token"], &refresh["refresh_reason"]),
            (&json!(codex_e2e::secret!("rt-1")), &json!("forced"))
        );
        let saved: Value =
            serde_json::from_slice(&std::fs::read(executor.home().join("auth.json")).unwrap()).unwrap();
        assert_eq!(saved["tokens"]["access_token"], codex_e2e::secret!("at-new"));
    }
}

#[tokio::test]
async fn a_failed_recovery_reports_the_first_refusal() {
    let failures = [
        Answer::status("400 Bad Request", r#"{"error":{"code":"refresh_token_expired"}}"#),
        Answer::status("500 Internal Server Error", ""),
        Answer::ok(json!({"access_token": "at-old"})),
        Answer::ok(json!({"access_token": codex_e2e::secret!("at-new"), "id_token": id_token(true)})),
    ];
    for contract in [Contract::Executor, Contract::Environment, Contract::Noise] {
        for failure in failures.clone() {
            let shown = format!("{contract:?} {failure:?}");
            let rendezvous = ScriptedRendezvous::start().await;
            let registry = registry_for(contract, &rendezvous, "none is good").await;
            let issuer = issuer(failure).await;
            let outcome = signed_in(contract, &registry, &issuer).outcome().await;
            let what = contract.what();
            let line = format!(
                "Error: {what} authentication error: {what} authentication failed (401 Unauthorized): too old"
            );
            assert_eq!(outcome.code, Some(1), "{shown}");
            assert!(outcome.stderr.lines().any(|told| told == line), "{shown}: {}", outcome.stderr);
            assert_eq!(registry.asked().len(), 1, "{shown}");
        }
    }
}

#[tokio::test]
async fn a_token_that_somebody_else_stored_meanwhile_is_used_without_a_refresh() {
    let home_changes: [(&str, usize, &str); 2] = [("acct-1", 2, ""), ("acct-2", 1, "empty error body")];
    for (account, requests, message) in home_changes {
        let contract = Contract::Noise;
        let rendezvous = ScriptedRendezvous::start().await;
        let registered = contract.registered(&rendezvous.url());
        let home: std::sync::Arc<std::sync::OnceLock<std::path::PathBuf>> = Default::default();
        let place = home.clone();
        let registry = ScriptedRegistry::scripted(Box::new(move |_, asked| {
            if asked.header("authorization") == Some(concat!("Bearer ", codex_e2e::secret!("at-new"))) {
                return Answer::ok(&registered);
            }
            let home = loop {
                if let Some(home) = place.get() {
                    break home;
                }
                std::thread::yield_now();
            };
            std::fs::write(home.join("auth.json"), chatgpt(codex_e2e::secret!("at-new"), account)).unwrap();
            Answer::status("401 Unauthorized", r#"{"error":{"message":"too old"}}"#)
        }))
        .await;
        let issuer = issuer(Answer::status("500 Internal Server Error", "")).await;
        let executor = signed_in(contract, &registry, &issuer).start();
        home.set(executor.home().to_path_buf()).unwrap();
        if message.is_empty() {
            rendezvous.executor().await;
        } else {
            let outcome = executor.outcome().await;
            assert!(outcome.stderr.contains(&format!("(401 Unauthorized): {message}\n")), "{outcome:?}");
        }
        assert_eq!(registry.asked().len(), requests);
        assert!(issuer.asked().is_empty());
    }
}

#[tokio::test]
async fn only_contract_a_recovers_from_a_403() {
    for contract in Contract::ALL {
        let rendezvous = ScriptedRendezvous::start().await;
        let registry = refusing(contract, &rendezvous, codex_e2e::secret!("at-new"), "403 Forbidden").await;
        let issuer = issuer(Answer::ok(json!({"access_token": codex_e2e::secret!("at-new")}))).await;
        let executor = signed_in(contract, &registry, &issuer).start();
        if contract == Contract::Cloud {
            rendezvous.executor().await;
            assert_eq!(registry.asked().len(), 2);
        } else {
            let outcome = executor.outcome().await;
            assert!(outcome.code == Some(1) && outcome.stderr.contains("(403 Forbidden)"), "{outcome:?}");
            assert!(registry.asked().len() == 1 && issuer.asked().is_empty(), "{contract:?}");
        }
    }
}

#[tokio::test]
async fn contract_a_tries_once_more_with_what_is_current_and_a_second_refusal_is_final() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let rendezvous = ScriptedRendezvous::start().await;
        let registry = refusing(Contract::Cloud, &rendezvous, "none is good", status).await;
        let issuer = issuer(Answer::status("500 Internal Server Error", "")).await;
        let outcome = signed_in(Contract::Cloud, &registry, &issuer).outcome().await;
        let line = format!("Error: cloud environments request failed ({status}, expired): too old");
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.lines().any(|told| told == line), "{outcome:?}");
        assert_eq!(registry.asked().len(), 2, "{status}");
    }
}

#[tokio::test]
async fn an_api_key_and_a_bearer_never_recover() {
    for (contract, variable) in [
        (Contract::Noise, "CODEX_API_KEY"),
        (Contract::Noise, "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN"),
        (Contract::Executor, "CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN"),
    ] {
        let rendezvous = ScriptedRendezvous::start().await;
        let registry = registry_for(contract, &rendezvous, codex_e2e::secret!("at-new")).await;
        let issuer = issuer(Answer::ok(json!({"access_token": codex_e2e::secret!("at-new")}))).await;
        let outcome =
            signed_in(contract, &registry, &issuer).env(variable, codex_e2e::secret!("v-1")).outcome().await;
        assert_eq!(outcome.code, Some(1));
        assert!(registry.asked().len() == 1 && issuer.asked().is_empty(), "{variable}");
    }
}

#[tokio::test]
async fn the_configuration_has_to_load_and_its_restrictions_count() {
    let registry = ScriptedRegistry::answering([Answer::status("500 Oops", "")]).await;
    let broken = bare(Contract::Noise, &registry.url).file("config.toml", "model = ").outcome().await;
    assert_eq!(broken.code, Some(1));
    assert!(broken.stderr.starts_with("Error: ") && broken.stderr.contains("config.toml:1:9:"), "{broken:?}");
    let forced = bare(Contract::Noise, &registry.url)
        .file("auth.json", &chatgpt(codex_e2e::secret!("at-0"), "acct-1"))
        .args(["-c", "forced_login_method=api"])
        .outcome()
        .await;
    assert!(
        forced.code == Some(1) && forced.stderr.contains("run `codex login` or set CODEX_API_KEY"),
        "{forced:?}"
    );
    assert!(registry.asked().is_empty());
}
