//! The manager against a real issuer: when it refreshes, what it keeps, and what it saves.

use crate::support::{
    GUARD, Home, Issuer, access_token, due, fresh, id_token, name_in, new_tokens, signed_in,
};
use codex_config::StoreMode;
use codex_e2e::machine::eventually;
use codex_login::{
    Auth, ClientSettings, HttpClient, Manager, PermanentFailure, RefreshError, Settings, Variables,
};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use wiremock::ResponseTemplate;

fn name(auth: &Auth) -> String {
    name_in(auth.bearer().unwrap().expose())
}

fn with_expiry(document: Value, token: &str) -> Value {
    let mut document = document;
    document["tokens"]["access_token"] = json!(token);
    document
}

#[tokio::test]
async fn a_due_sign_in_is_refreshed_and_saved_with_all_else_kept() {
    let before = due();
    let home = Home::with(&before);
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "new");
    assert_eq!(name(&manager.auth().await.unwrap()), "new");

    let requests = issuer.requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(requests[0].headers["originator"], "codex_cli_rs");
    assert!(requests[0].headers["user-agent"].to_str().unwrap().starts_with("codex_cli_rs/1.2.3 ("));
    assert!(!requests[0].headers.contains_key("authorization"));
    assert_eq!(
        issuer.bodies().await[0],
        json!({
            "client_id": "app_EMoamEEZ73f0CkXaXp7hrann", "grant_type": "refresh_token",
            "refresh_reason": "proactive_expiry", "refresh_token": "r1",
        })
    );
    let after = home.read();
    assert_eq!(after["tokens"]["refresh_token"], "r2");
    assert_ne!(after["last_refresh"], before["last_refresh"]);
    for kept in ["login_owner_id", "account_id", "from-the-future"] {
        assert_eq!(after["tokens"][kept], before["tokens"][kept], "{kept}");
    }
    assert_eq!(after["from-the-future"], before["from-the-future"]);
}

#[tokio::test]
async fn old_tokens_without_an_end_are_refreshed_on_schedule() {
    let mut document = signed_in("opaque");
    document["last_refresh"] = json!("2020-01-01T00:00:00Z");
    let home = Home::with(&document);
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "new");
    assert_eq!(issuer.bodies().await[0]["refresh_reason"], "scheduled");
}

#[tokio::test]
async fn fresh_tokens_keys_and_handed_in_tokens_are_left_alone() {
    let mut handed_in = due();
    handed_in["auth_mode"] = json!("chatgptAuthTokens");
    for document in [fresh(), json!({"OPENAI_API_KEY": "sk"}), json!({}), handed_in] {
        let home = Home::with(&document);
        let issuer = Issuer::answering(new_tokens()).await;
        let manager = Manager::new(home.settings(issuer.variables())).await;
        assert!(manager.auth().await.is_some(), "{document}");
        assert!(issuer.requests().await.is_empty(), "{document}");
        assert_eq!(home.read(), document);
    }
}

#[tokio::test]
async fn what_an_answer_leaves_out_stays() {
    for (answer, access, refresh) in [
        (json!({}), "old", "r1"),
        (json!({"access_token": access_token("new", 60)}), "new", "r1"),
        (json!({"refresh_token": "r2", "id_token": null, "expires_in": 5}), "old", "r2"),
    ] {
        let before = fresh();
        let home = Home::with(&before);
        let issuer = Issuer::answering(ResponseTemplate::new(200).set_body_json(&answer)).await;
        let manager = Manager::new(home.settings(issuer.variables())).await;
        assert_eq!(name(&manager.refresh().await.unwrap()), access, "{answer}");
        assert_eq!(issuer.bodies().await[0]["refresh_reason"], "forced");
        let after = home.read();
        assert_eq!(after["tokens"]["refresh_token"], refresh);
        assert_eq!(after["tokens"]["id_token"], before["tokens"]["id_token"]);
        assert_ne!(after["last_refresh"], before["last_refresh"]);
    }
}

#[tokio::test]
async fn a_refresh_never_changes_the_account() {
    let home = Home::with(&fresh());
    let answer = json!({"id_token": id_token("acct-2"), "access_token": access_token("new", 60)});
    let issuer = Issuer::answering(ResponseTemplate::new(200).set_body_json(answer)).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(manager.refresh().await.unwrap().account_id(), Some("acct-1"));
    assert_eq!(home.read()["tokens"]["account_id"], "acct-1");
}

#[tokio::test]
async fn tokens_are_refreshed_where_they_came_from_and_lose_their_origin_elsewhere() {
    let issuer = Issuer::answering(new_tokens()).await;
    let mut document = fresh();
    document["tokens"]["oauth_provenance"] =
        json!({"issuer": format!("{}/", issuer.0.uri()), "client_id": "app_own"});
    for (variables, keeps) in [(Variables::default(), true), (issuer.variables(), false)] {
        let home = Home::with(&document);
        let manager = Manager::new(home.settings(variables)).await;
        manager.refresh().await.unwrap();
        assert_eq!(issuer.bodies().await.last().unwrap()["client_id"], "app_own");
        assert_eq!(home.read()["tokens"].get("oauth_provenance").is_some(), keeps);
    }
}

#[tokio::test]
async fn a_failed_refresh_changes_nothing_and_the_old_sign_in_stays() {
    use PermanentFailure::{AlreadyUsed, Expired, Other, Revoked};
    let permanent = RefreshError::Permanent;
    let json = |status: u16, body: Value| ResponseTemplate::new(status).set_body_json(body);
    let broken_id = json!({"id_token": "broken", "access_token": "x"});
    for (answer, wanted) in [
        (json(401, json!({"error": {"code": "refresh_token_expired"}})), Some(permanent(Expired))),
        (json(401, json!({"error": "refresh_token_reused"})), Some(permanent(AlreadyUsed))),
        (json(400, json!({"code": "refresh_token_invalidated"})), Some(permanent(Revoked))),
        (ResponseTemplate::new(401), Some(permanent(Other))),
        (json(400, json!({"error": "invalid_grant"})), Some(permanent(Other))),
        (json(400, json!({"error": "invalid_request"})), None),
        (json(500, json!({"error": "refresh_token_expired"})), None),
        (ResponseTemplate::new(503), None),
        (ResponseTemplate::new(302).insert_header("location", "/elsewhere"), None),
        (ResponseTemplate::new(200).set_body_string("<html>"), None),
        (ResponseTemplate::new(200).set_body_string(""), None),
        (json(200, json!([])), None),
        (json(200, json!({"access_token": 5})), None),
        (json(200, broken_id), None),
    ] {
        let before = due();
        let home = Home::with(&before);
        let issuer = Issuer::answering(answer).await;
        let manager = Manager::new(home.settings(issuer.variables())).await;
        assert_eq!(name(&manager.auth().await.unwrap()), "old");
        let error = manager.refresh().await.unwrap_err();
        match &wanted {
            Some(wanted) => assert_eq!(error, *wanted),
            None => assert!(matches!(error, RefreshError::Transient { .. }), "{error:?}"),
        }
        // A permanent failure is remembered; anything else is tried again.
        assert_eq!(issuer.requests().await.len(), if wanted.is_some() { 1 } else { 2 }, "{error:?}");
        assert_eq!(home.read(), before);
        assert!(!format!("{error:?} {error}").contains("r1"), "{error:?}");
    }
}

#[tokio::test]
async fn a_permanent_failure_ends_with_other_credentials() {
    let home = Home::with(&fresh());
    let issuer = Issuer::answering(ResponseTemplate::new(401)).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    manager.refresh().await.unwrap_err();
    manager.refresh().await.unwrap_err();
    assert_eq!(issuer.requests().await.len(), 1);
    home.write(&with_expiry(fresh(), &access_token("other", 60)));
    assert_eq!(name(&manager.refresh().await.unwrap()), "other");
    assert_eq!(issuer.requests().await.len(), 1);
    manager.refresh().await.unwrap_err();
    assert_eq!(issuer.requests().await.len(), 2);
}

#[tokio::test]
async fn an_issuer_that_hangs_up_is_a_transient_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for half in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"access"] {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(GUARD)).unwrap();
            assert!(socket.read(&mut [0; 4096]).unwrap() > 0);
            socket.write_all(half.as_bytes()).unwrap();
        }
    });
    let home = Home::with(&fresh());
    let variables =
        Variables { refresh_url: Some(format!("http://{address}/oauth/token")), ..Variables::default() };
    let manager = Manager::new(home.settings(variables)).await;
    for _ in 0..2 {
        let error = manager.refresh().await.unwrap_err();
        assert!(matches!(error, RefreshError::Transient { .. }), "{error:?}");
    }
    server.join().unwrap();
}

#[tokio::test]
async fn a_slow_issuer_is_a_transient_failure() {
    let home = Home::with(&due());
    let issuer = Issuer::answering(new_tokens().set_delay(GUARD)).await;
    let client = HttpClient::from_settings(ClientSettings {
        timeout: Some(Duration::from_millis(50)),
        ..ClientSettings::default()
    });
    let manager = Manager::new(Settings { client, ..home.settings(issuer.variables()) }).await;
    let error = manager.refresh().await.unwrap_err();
    assert!(matches!(error, RefreshError::Transient { status: None, .. }), "{error:?}");
    assert_eq!(home.read()["tokens"]["refresh_token"], "r1");
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_lose_the_new_tokens() {
    let home = Home::with(&due());
    let asked = Arc::new(Notify::new());
    let ring = Arc::clone(&asked);
    let answer = new_tokens().set_delay(Duration::from_millis(50));
    let issuer = Issuer::meanwhile(move || ring.notify_one(), answer).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    tokio::select! {
        biased;
        () = asked.notified() => {}
        _ = manager.auth() => panic!("the answer is late"),
    }
    eventually("the new tokens are stored", || home.read()["tokens"]["refresh_token"] == "r2").await;
    assert_eq!(name(&manager.auth().await.unwrap()), "new");
    assert_eq!(issuer.requests().await.len(), 1);
}

#[tokio::test]
async fn many_tasks_that_need_a_due_sign_in_make_one_request() {
    let home = Home::with(&due());
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let manager = manager.clone();
            tokio::spawn(async move { name(&manager.auth().await.unwrap()) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "new");
    }
    assert_eq!(issuer.requests().await.len(), 1);
}

#[tokio::test]
async fn what_another_process_stored_is_taken_without_a_request() {
    let home = Home::with(&due());
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    home.write(&with_expiry(fresh(), &access_token("theirs", 60)));
    assert_eq!(name(&manager.auth().await.unwrap()), "theirs");
    assert!(issuer.requests().await.is_empty());
}

#[tokio::test]
async fn what_is_stored_during_the_request_wins_over_its_answer() {
    let home = Home::with(&due());
    let theirs = with_expiry(fresh(), &access_token("theirs", 60));
    let file = home.file();
    let written = theirs.to_string();
    let issuer = Issuer::meanwhile(move || std::fs::write(&file, &written).unwrap(), new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "theirs");
    assert_eq!(home.read(), theirs);
}

#[tokio::test]
async fn members_that_others_add_during_the_request_are_kept() {
    let before = due();
    let home = Home::with(&before);
    let file = home.file();
    let mut theirs = before;
    theirs["added"] = json!("meanwhile");
    let written = theirs.to_string();
    let issuer = Issuer::meanwhile(move || std::fs::write(&file, &written).unwrap(), new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "new");
    assert_eq!(home.read()["added"], "meanwhile");
    assert_eq!(home.read()["tokens"]["refresh_token"], "r2");
}

#[tokio::test]
async fn a_sign_out_during_the_request_is_not_undone() {
    let home = Home::with(&due());
    let file = home.file();
    let issuer = Issuer::meanwhile(move || std::fs::remove_file(&file).unwrap(), new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(
        manager.refresh().await.unwrap_err(),
        RefreshError::Permanent(PermanentFailure::AccountChanged)
    );
    assert!(!home.file().exists());
}

#[tokio::test]
async fn no_lock_is_held_during_the_request() {
    let home = Home::with(&due());
    let path = home.path().to_owned();
    let look = move || {
        for name in ["auth.lock", "auth.json.lock"] {
            File::create(path.join(name)).unwrap().try_lock().unwrap();
        }
    };
    let issuer = Issuer::meanwhile(look, new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "new");
}

#[tokio::test]
async fn another_account_or_none_is_not_refreshed_and_not_taken() {
    let mut other = fresh();
    other["tokens"]["account_id"] = json!("acct-2");
    for stored in [Some(other), Some(json!({"OPENAI_API_KEY": "sk"})), Some(json!([])), None] {
        let home = Home::with(&fresh());
        let issuer = Issuer::answering(new_tokens()).await;
        let manager = Manager::new(home.settings(issuer.variables())).await;
        match &stored {
            Some(document) => home.write(document),
            None => std::fs::remove_file(home.file()).unwrap(),
        }
        assert_eq!(
            manager.refresh().await.unwrap_err(),
            RefreshError::Permanent(PermanentFailure::AccountChanged)
        );
        assert_eq!(name(&manager.auth().await.unwrap()), "old");
        assert!(issuer.requests().await.is_empty());
    }
    let mut nobody = due();
    nobody["tokens"]["account_id"] = Value::Null;
    let home = Home::with(&nobody);
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "old");
    assert!(issuer.requests().await.is_empty());
}

#[tokio::test]
async fn a_reload_takes_what_is_there_whoever_it_is() {
    let home = Home::with(&fresh());
    let manager = Manager::new(home.settings(Variables::default())).await;
    home.write(&json!({"OPENAI_API_KEY": "sk"}));
    assert!(manager.auth().await.unwrap().is_chatgpt(), "an edit is seen only through a reload");
    manager.reload().await;
    assert!(!manager.auth().await.unwrap().is_chatgpt());
    std::fs::write(home.file(), "broken").unwrap();
    manager.reload().await;
    assert!(manager.auth().await.is_none());
    assert_eq!(manager.refresh().await.unwrap_err(), RefreshError::NotRefreshable);
}

#[tokio::test]
async fn tokens_that_can_not_be_saved_still_serve_this_process() {
    let home = Home::with(&due());
    let lock = home.path().join("auth.json.lock");
    // A folder in the place of the lock file makes every save fail at once.
    let spoil = move || {
        std::fs::remove_file(&lock).unwrap();
        std::fs::create_dir(&lock).unwrap();
    };
    let issuer = Issuer::meanwhile(spoil, new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "new");
    assert_eq!(home.read()["tokens"]["refresh_token"], "r1");
}

#[tokio::test]
async fn a_store_that_takes_nothing_costs_no_refresh_token() {
    let home = Home::with(&due());
    std::fs::create_dir(home.path().join("auth.json.lock")).unwrap();
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "old");
    assert!(issuer.requests().await.is_empty());
}

#[tokio::test]
async fn a_home_that_takes_no_lock_file_is_not_refreshed() {
    let home = Home::with(&due());
    std::fs::create_dir(home.path().join("auth.refresh.lock")).unwrap();
    let issuer = Issuer::answering(new_tokens()).await;
    let manager = Manager::new(home.settings(issuer.variables())).await;
    assert_eq!(name(&manager.auth().await.unwrap()), "old");
    assert!(issuer.requests().await.is_empty(), "the old refresh token would be lost");
}

#[tokio::test]
async fn nothing_secret_shows_in_the_debug_of_a_manager() {
    let home = Home::with(&signed_in("s3cret-access"));
    let variables = Variables { access_token: None, api_key: None, ..Variables::default() };
    let manager = Manager::new(home.settings(variables)).await;
    let shown = format!("{manager:?} {:?}", home.store(StoreMode::File));
    assert!(!shown.contains("s3cret") && !shown.contains("\"r1\""), "{shown}");
}
