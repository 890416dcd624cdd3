//! Tests of `client`.

use super::*;

fn settings() -> ClientSettings {
    ClientSettings { version: "1.2.3".into(), terminal: "xterm".into(), ..ClientSettings::default() }
}

#[test]
fn the_user_agent_names_program_version_system_and_terminal() {
    let client = HttpClient::from_settings(settings());
    let agent = client.user_agent();
    assert!(agent.starts_with("codex_cli_rs/1.2.3 ("), "{agent}");
    assert!(agent.ends_with(") xterm"), "{agent}");
    assert!(agent.contains(&format!("; {})", std::env::consts::ARCH)), "{agent}");
}

#[test]
fn the_originator_can_be_replaced_and_odd_terminals_are_made_harmless() {
    let client = HttpClient::from_settings(ClientSettings {
        originator: Some("me".into()),
        terminal: "x\r\nevil: ü".into(),
        ..settings()
    });
    let headers = client.named_headers().unwrap();
    assert_eq!(headers["originator"], "me");
    assert!(headers["user-agent"].to_str().unwrap().ends_with(" x__evil: _"));
}

#[test]
fn what_can_not_be_used_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let message = |settings| HttpClient::from_settings(settings).plain().unwrap_err().to_string();
    let missing = ClientSettings { ca_certificates: Some(folder.path().join("missing.pem")), ..settings() };
    assert!(message(missing).contains("missing.pem"));
    let endless = ClientSettings { ca_certificates: Some("/dev/zero".into()), ..settings() };
    assert!(message(endless).ends_with("it has more than 16777216 bytes"));
    let bad = ClientSettings { ca_certificates: Some(empty), ..settings() };
    assert!(message(bad).ends_with("are not a PEM bundle"));
    let proxies = Proxies { https: Some("http://user:s3cret@[".into()), ..Proxies::default() };
    let text = message(ClientSettings { proxies, ..settings() });
    assert_eq!(text, "HTTPS_PROXY does not hold the address of a proxy");
    let bad = HttpClient::from_settings(ClientSettings { originator: Some("a\nb".into()), ..settings() });
    assert!(bad.named_headers().unwrap_err().to_string().contains("CODEX_INTERNAL_ORIGINATOR_OVERRIDE"));
}

#[tokio::test]
async fn what_is_prepared_needs_the_disk_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let client =
        HttpClient::from_settings(ClientSettings { ca_certificates: Some(file.clone()), ..settings() });
    assert!(matches!(
        client.prepare().await,
        Err(ClientError::Outgoing(OutgoingError::BadCertificates { .. }))
    ));
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    std::fs::write(&file, certificate).unwrap();
    client.prepare().await.unwrap();
    std::fs::remove_file(&file).unwrap();
    client.prepare().await.unwrap();
    assert!(client.plain().is_ok());
}
