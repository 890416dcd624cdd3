//! The stores where no Secret Service can be reached (login.md 3.1, 3.3).

use crate::support::{Home, told};
use codex_config::StoreMode;
use codex_login::StoredCredentials;
use serde_json::json;

const CAUSE: &str = "Platform secure storage failure: ";

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn every_call_of_a_keyring_store_says_so() {
    let Some(words) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::with(&json!({"OPENAI_API_KEY": "sk-file"}));
    let store = home.store(StoreMode::Keyring);
    let key = StoredCredentials::from_api_key("sk".into());
    for (error, wanted) in [
        (store.load().unwrap_err(), "failed to load CLI auth from keyring"),
        (store.save(&key).unwrap_err(), "failed to write OAuth tokens to keyring"),
        (store.remove().unwrap_err(), "failed to delete auth from keyring"),
    ] {
        let error = error.to_string();
        assert!(error.starts_with(&format!("{wanted}: {CAUSE}{words}")), "{error}");
    }
    assert_eq!(home.read()["OPENAI_API_KEY"], "sk-file");
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn an_automatic_store_uses_the_file_but_does_not_remove_it() {
    let Some(words) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::new();
    let store = home.store(StoreMode::Auto);
    assert!(store.load().unwrap().is_none());
    store.save(&StoredCredentials::from_api_key("sk".into())).unwrap();
    assert_eq!(home.read()["OPENAI_API_KEY"], "sk");
    assert!(store.load().unwrap().is_some());
    let error = store.remove().unwrap_err().to_string();
    assert!(error.starts_with(&format!("failed to delete auth from keyring: {CAUSE}{words}")), "{error}");
    assert!(home.file().exists());
}
