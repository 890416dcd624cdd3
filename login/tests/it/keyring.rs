//! Credentials in a real Secret Service, shared with other programs, and what happens without one.
//!
//! The keyring's library finds its bus by an environment variable, so these tests run in child processes, one for each
//! bus, in which this very binary runs the ignored tests of a module.

use crate::support::children;
use codex_e2e::secret_service::SecretService;

mod on_bus;
mod without;

/// Runs the ignored tests of a module, on a bus or without one, and tells them the library's words they will meet.
fn run(module: &str, service: Option<&SecretService>, words: &str) {
    let mut command = children(module);
    if let Some(service) = service {
        service.on(&mut command);
    }
    let output = command.env("LOGIN_TEST_KEYRING", words).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("running 0 tests"), "{text}");
}

#[test]
fn a_secret_service_keeps_the_sign_in_and_shares_it() {
    if let Some(service) = SecretService::start() {
        run("keyring::on_bus::", Some(&service), "none");
    }
}

#[test]
fn without_a_bus_there_is_no_keyring() {
    run("keyring::without::", None, "no secret service provider or dbus session found");
}

#[test]
fn a_bus_that_nobody_serves_secrets_on_is_no_keyring() {
    if let Some(service) = SecretService::start_without_keyring() {
        run("keyring::without::", Some(&service), "zbus error: ");
    }
}
