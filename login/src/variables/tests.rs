//! Tests of `variables`.

use super::*;

fn from(pairs: &[(&str, &str)]) -> Variables {
    Variables::from_lookup(|name| {
        pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn secrets_are_trimmed_and_blank_ones_are_unset() {
    let variables = from(&[("CODEX_API_KEY", " sk-1\n"), ("CODEX_ACCESS_TOKEN", " \t")]);
    assert_eq!(variables.api_key.unwrap().expose(), "sk-1");
    assert!(variables.access_token.is_none());
    assert!(from(&[("OPENAI_API_KEY", "sk-1")]).api_key.is_none());
}

#[test]
fn each_address_comes_from_its_variable() {
    let variables = from(&[
        ("CODEX_REFRESH_TOKEN_URL_OVERRIDE", "http://refresh"),
        ("CODEX_REVOKE_TOKEN_URL_OVERRIDE", "http://revoke"),
        ("CODEX_APP_SERVER_LOGIN_CLIENT_ID", "app"),
        ("CODEX_AUTHAPI_BASE_URL", "http://api"),
        ("CODEX_INTERNAL_ORIGINATOR_OVERRIDE", "me"),
    ]);
    assert_eq!(variables.refresh_url.as_deref(), Some("http://refresh"));
    assert_eq!(variables.revoke_url.as_deref(), Some("http://revoke"));
    assert_eq!(variables.client_id.as_deref(), Some("app"));
    assert_eq!(variables.authapi_base_url.as_deref(), Some("http://api"));
    assert_eq!(variables.originator.as_deref(), Some("me"));
}

#[test]
fn the_own_certificates_win_over_the_usual_ones() {
    let certificates = |pairs| from(pairs).ca_certificates;
    assert_eq!(certificates(&[("SSL_CERT_FILE", "/a")]), Some("/a".into()));
    assert_eq!(certificates(&[("SSL_CERT_FILE", "/a"), ("CODEX_CA_CERTIFICATE", "/b")]), Some("/b".into()));
    assert_eq!(certificates(&[("SSL_CERT_FILE", "")]), None);
}

#[test]
fn proxies_come_in_either_case_but_a_request_header_sets_none() {
    let proxies =
        from(&[("https_proxy", "http://a"), ("HTTPS_PROXY", "http://b"), ("NO_PROXY", "x")]).proxies;
    assert_eq!((proxies.https.as_deref(), proxies.none_for.as_deref()), (Some("http://a"), Some("x")));
    assert_eq!(from(&[("HTTP_PROXY", "http://c")]).proxies.http.as_deref(), Some("http://c"));
    assert_eq!(from(&[("HTTP_PROXY", "http://c"), ("REQUEST_METHOD", "GET")]).proxies.http, None);
}

#[test]
fn the_terminal_names_itself_with_its_version_else_by_its_kind() {
    let terminal = |pairs| from(pairs).terminal;
    assert_eq!(terminal(&[("TERM_PROGRAM", "vscode"), ("TERM_PROGRAM_VERSION", "1.2")]), "vscode/1.2");
    assert_eq!(terminal(&[("TERM_PROGRAM", "tmux"), ("TERM", "screen")]), "tmux");
    assert_eq!(terminal(&[("TERM", "xterm")]), "xterm");
    assert_eq!(terminal(&[]), "");
}

#[test]
fn nothing_secret_shows_in_debug() {
    let shown = format!(
        "{:?}",
        from(&[
            ("CODEX_API_KEY", "s3cret"),
            ("CODEX_ACCESS_TOKEN", "s3cret"),
            ("HTTPS_PROXY", "http://user:s3cret@proxy"),
        ])
    );
    assert!(!shown.contains("s3cret"), "{shown}");
}
