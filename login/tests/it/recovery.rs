//! Recovery from a refusal: what is stored first, then the issuer, and never twice.

use crate::support::{Home, Issuer, access_token, fresh, jwt, name_in, new_tokens, signed_in};
use codex_login::{GiveUp, Manager, Outcome, RefreshError, Variables};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

fn other_token() -> Value {
    signed_in(&access_token("theirs", 60))
}

fn of_account(account_id: &str) -> Value {
    let mut document = other_token();
    document["tokens"]["account_id"] = json!(account_id);
    document
}

fn fedramp(document: Value) -> Value {
    let mut document = document;
    document["tokens"]["id_token"] = json!(jwt(&json!({
        "https://api.openai.com/auth": {"chatgpt_account_id": "acct-1", "chatgpt_account_is_fedramp": true},
    })));
    document
}

/// What recovery comes to, shortly: the name of the token to retry with, or why not.
async fn recover(manager: &Manager) -> String {
    let mut recovery = manager.recovery(manager.current().unwrap());
    let outcome = recovery.next().await;
    assert!(matches!(recovery.next().await, Outcome::GiveUp(GiveUp::AlreadyTried)), "never twice");
    match outcome {
        Outcome::Retry(auth) => name_in(auth.bearer().unwrap().expose()),
        Outcome::GiveUp(GiveUp::RefreshFailed(RefreshError::Permanent(_))) => "permanent".into(),
        Outcome::GiveUp(GiveUp::RefreshFailed(_)) => "transient".into(),
        Outcome::GiveUp(reason) => format!("{reason:?}"),
    }
}

#[tokio::test]
async fn a_refused_sign_in_is_recovered_from_the_store_else_from_the_issuer_else_not() {
    let json = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    let fedramp_tokens = json!({
        "id_token": fedramp(fresh())["tokens"]["id_token"], "access_token": access_token("new", 60),
    });
    for (stored, answer, wanted, requests) in [
        (Some(other_token()), new_tokens(), "theirs", 0),
        (None, new_tokens(), "new", 1),
        (None, json(json!({})), "SameToken", 1),
        (None, json(fedramp_tokens), "FedrampChanged", 1),
        (None, ResponseTemplate::new(401), "permanent", 1),
        (None, ResponseTemplate::new(500), "transient", 1),
        (Some(of_account("acct-2")), new_tokens(), "Mismatch", 0),
        (Some(json!({"OPENAI_API_KEY": "sk"})), new_tokens(), "Mismatch", 0),
        (Some(json!([])), new_tokens(), "Mismatch", 0),
        (Some(json!({})), new_tokens(), "Mismatch", 0),
        (Some(fedramp(other_token())), new_tokens(), "FedrampChanged", 0),
    ] {
        let home = Home::with(&fresh());
        let issuer = Issuer::answering(answer).await;
        let manager = Manager::new(home.settings(issuer.variables())).await;
        if let Some(stored) = &stored {
            home.write(stored);
        }
        assert_eq!(recover(&manager).await, wanted, "{stored:?}");
        let bodies = issuer.bodies().await;
        assert_eq!(bodies.len(), requests, "{wanted}");
        assert!(bodies.iter().all(|body| body["refresh_reason"] == "forced"));
    }
}

#[tokio::test]
async fn a_sign_out_is_not_recovered() {
    let home = Home::with(&fresh());
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    std::fs::remove_file(home.file()).unwrap();
    assert_eq!(recover(&manager).await, "Mismatch");
}

#[tokio::test]
async fn keys_and_handed_in_tokens_are_not_recovered() {
    let mut handed_in = fresh();
    handed_in["auth_mode"] = json!("chatgptAuthTokens");
    for document in [json!({"OPENAI_API_KEY": "sk"}), handed_in] {
        let home = Home::with(&document);
        let manager = Manager::new(home.settings(Variables::default())).await;
        assert_eq!(recover(&manager).await, "NotRecoverable");
    }
}

#[tokio::test]
async fn many_refusals_of_one_token_make_one_request() {
    let home = Home::with(&fresh());
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    let refused = manager.current().unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (manager, refused) = (manager.clone(), refused.clone());
            tokio::spawn(async move { manager.recovery(refused).next().await })
        })
        .collect();
    for task in tasks {
        match task.await.unwrap() {
            Outcome::Retry(auth) => assert_eq!(name_in(auth.bearer().unwrap().expose()), "new"),
            Outcome::GiveUp(reason) => panic!("{reason}"),
        }
    }
    assert_eq!(issuer.requests().await.len(), 1);
}
