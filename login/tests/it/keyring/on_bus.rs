//! The stores on a real Secret Service (login.md 3.1 to 3.3). `secret-tool` plays the other program.

use crate::support::{Home, Issuer, due, fresh, name_in, new_tokens, told};
use codex_config::StoreMode;
use codex_login::{Manager, Settings, Store, StoredCredentials};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn account(home: &Path) -> String {
    let path = home.canonicalize().unwrap();
    format!("cli|{}", &hex::encode(Sha256::digest(path.to_str().unwrap()))[..16])
}

fn secret_tool(args: &[&str], input: &str) -> String {
    let mut tool = Command::new("secret-tool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    // `search` tells attributes on one channel and values on the other.
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Stores an item as another program, with these attributes beside service and account.
fn store_foreign(home: &Home, more: &[&str], secret: &str) {
    let account = account(home.path());
    let args = [&["store", "--label=foreign", "service", "Codex Auth", "username", &account], more].concat();
    assert_eq!(secret_tool(&args, secret), "");
}

/// All items of a home, as `secret-tool` tells them.
fn items(home: &Home) -> String {
    secret_tool(&["search", "--all", "service", "Codex Auth", "username", &account(home.path())], "")
}

fn count(home: &Home) -> usize {
    items(home).matches("label = ").count()
}

fn key(store: &Store) -> Option<String> {
    store.load().unwrap().map(|credentials| credentials.api_key().unwrap().expose().to_owned())
}

fn api_key(key: &str) -> StoredCredentials {
    StoredCredentials::from_api_key(key.into())
}

fn credentials(document: &Value) -> StoredCredentials {
    StoredCredentials::from_json(document.to_string().as_bytes()).unwrap()
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn an_entry_looks_as_released_programs_make_it() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::new();
    home.store(StoreMode::Keyring).save(&api_key("sk-1")).unwrap();
    let (account, items) = (account(home.path()), items(&home));
    for line in [
        &format!("label = {account}@Codex Auth:default (keyring v3.6.3)"),
        r#"secret = {"auth_mode":"apikey","OPENAI_API_KEY":"sk-1"}"#,
        "attribute.application = rust-keyring",
        "attribute.service = Codex Auth",
        "attribute.target = default",
        &format!("attribute.username = {account}"),
    ] {
        assert!(items.lines().any(|found| found == line), "{line}\n{items}");
    }
    assert_eq!(count(&home), 1);
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn an_entry_of_another_program_is_found_changed_in_place_and_removed() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    for more in [
        &[][..],
        &["target", "default"],
        &["application", "rust-keyring"],
        &["target", "default", "application", "rust-keyring", "xdg:schema", "org.freedesktop.Secret.Generic"],
    ] {
        let home = Home::new();
        let store = home.store(StoreMode::Keyring);
        store_foreign(&home, more, r#"{"OPENAI_API_KEY":"sk-foreign","future":1}"#);
        assert_eq!(key(&store).as_deref(), Some("sk-foreign"), "{more:?}");
        store.save(&api_key("sk-ours")).unwrap();
        assert_eq!(count(&home), 1, "{more:?}");
        assert!(items(&home).contains("label = foreign"), "{more:?}");
        assert!(items(&home).contains("sk-ours"), "{more:?}");
        assert!(store.remove().unwrap());
        assert_eq!(count(&home), 0, "{more:?}");
        assert!(!store.remove().unwrap());
    }
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn a_sign_out_leaves_no_entry_of_an_older_release() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::new();
    let store = home.store(StoreMode::Keyring);
    store.save(&api_key("sk-new")).unwrap();
    store_foreign(&home, &["application", "older"], r#"{"OPENAI_API_KEY":"sk-old"}"#);
    assert_eq!(count(&home), 2);
    assert_eq!(key(&store).as_deref(), Some("sk-new"));
    assert!(store.remove().unwrap());
    assert_eq!(count(&home), 0);
    assert!(store.load().unwrap().is_none());
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn a_keyring_store_takes_no_notice_of_a_file_but_removes_it() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::with(&json!({"OPENAI_API_KEY": "sk-file"}));
    let store = home.store(StoreMode::Keyring);
    assert!(store.load().unwrap().is_none());
    store.save(&api_key("sk-1")).unwrap();
    assert_eq!(home.names(), ["auth.json.lock", "auth.lock"]);
    home.write(&json!({"OPENAI_API_KEY": "sk-file"}));
    assert_eq!(key(&store).as_deref(), Some("sk-1"));
    assert!(store.remove().unwrap());
    assert_eq!((home.file().exists(), count(&home)), (false, 0));
    home.write(&json!({}));
    assert!(store.remove().unwrap(), "the file alone counts as something");
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn an_automatic_store_prefers_the_entry_to_the_file() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::with(&json!({"OPENAI_API_KEY": "sk-file"}));
    let store = home.store(StoreMode::Auto);
    assert_eq!(key(&store).as_deref(), Some("sk-file"));
    store.save(&api_key("sk-1")).unwrap();
    assert!(!home.file().exists());
    home.write(&json!({"OPENAI_API_KEY": "sk-file"}));
    assert_eq!(key(&store).as_deref(), Some("sk-1"));
    // An entry that can't be understood is an error of the keyring, too.
    store_foreign(&home, &["target", "default", "application", "rust-keyring"], "broken");
    assert_eq!(key(&store).as_deref(), Some("sk-file"));
    assert!(store.remove().unwrap());
    assert_eq!((home.file().exists(), count(&home)), (false, 0));
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn a_broken_entry_is_told_by_class_and_place() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    for (secret, wanted) in [
        ("s3cret", "syntax error at line 1 column 1"),
        (r#"{"auth_mode":"s3cret"}"#, "data error at line 1 column 21"),
    ] {
        let home = Home::new();
        let store = home.store(StoreMode::Keyring);
        store_foreign(&home, &[], secret);
        let error = store.load().unwrap_err().to_string();
        assert_eq!(error, format!("failed to deserialize CLI auth from keyring: {wanted}"));
        assert!(store.remove().unwrap());
    }
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn a_home_has_one_entry_by_whatever_name_it_goes() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::new();
    let real = home.path().join("real");
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, home.path().join("link")).unwrap();
    let store = |path: &str| Store::new(&home.path().join(path), StoreMode::Keyring);
    store("link").save(&api_key("sk-1")).unwrap();
    for name in ["real", "real/.", "link/../real", "link"] {
        assert_eq!(key(&store(name)).as_deref(), Some("sk-1"), "{name}");
    }
    assert!(store("real/.").remove().unwrap());
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn a_long_document_is_one_entry_with_all_it_had() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::new();
    let mut document = fresh();
    document["long"] = json!("ü".repeat(20_000));
    let store = home.store(StoreMode::Keyring);
    store.save(&credentials(&document)).unwrap();
    assert_eq!(count(&home), 1);
    let loaded = store.load().unwrap().unwrap().to_compact_json().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&loaded).unwrap(), document);
}

#[test]
#[ignore = "run by the tests of keyring, in a child process"]
fn a_keyring_store_takes_the_locks_too() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    let home = Home::new();
    let held = File::create(home.path().join("auth.json.lock")).unwrap();
    held.lock().unwrap();
    let error = home.store(StoreMode::Keyring).save(&api_key("sk")).unwrap_err();
    assert_eq!(error.to_string(), "credential commit lock timed out");
    assert_eq!(count(&home), 0);
}

#[tokio::test]
#[ignore = "run by the tests of keyring, in a child process"]
async fn a_due_sign_in_in_the_keyring_is_refreshed_there() {
    let Some(_) = told("LOGIN_TEST_KEYRING") else { return };
    for mode in [StoreMode::Keyring, StoreMode::Auto] {
        let home = Home::new();
        // Called from a thread of the runtime, which the keyring's library could not bear.
        home.store(mode).save(&credentials(&due())).unwrap();
        let issuer = Issuer::answering(new_tokens()).await;
        let settings = Settings { store: home.store(mode), ..home.settings(issuer.variables()) };
        let manager = Manager::new(settings).await;
        let auth = manager.auth().await.unwrap();
        assert_eq!(name_in(auth.bearer().unwrap().expose()), "new");
        let stored = home.store(mode).load().unwrap().unwrap();
        assert_eq!(stored.tokens().unwrap().refresh_token().expose(), "r2");
        assert!(!home.file().exists());
        assert_eq!(issuer.requests().await.len(), 1);
    }
}
