//! The parts without a network: PKCE, states, pages, what no error may show.

use std::collections::BTreeSet;

use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use proptest::prelude::*;

use crate::signin::answer::detail;
use crate::signin::authorize::Attempt;
use crate::signin::browser::{Route, route};
use crate::signin::{Failure, Issuer, SignInError, SignedIn, pages};

#[test]
fn the_challenge_is_that_of_the_spec() {
    let verifier = PkceCodeVerifier::new("own-example-verifier-0123456789-abcdefghijklmnop".to_owned());
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    assert_eq!(challenge.as_str(), "HE24Kr0MdhZY-tlwZW1Ew3OBPCltbJwiH_v9OlQ1w2E");
}

#[test]
fn every_attempt_has_a_verifier_and_a_state_of_its_own() {
    let attempts: Vec<Attempt> =
        (0..20).map(|_| Attempt::new(&Issuer::default(), 1455, "codex_cli_rs", None).unwrap()).collect();
    let distinct: BTreeSet<&str> =
        attempts.iter().flat_map(|attempt| [attempt.verifier.expose(), attempt.state.expose()]).collect();
    assert_eq!(distinct.len(), 40);
    for attempt in &attempts {
        assert_eq!(attempt.verifier.expose().len(), 86);
        assert_eq!(attempt.state.expose().len(), 43);
        assert!(attempt.url.starts_with("https://auth.openai.com/oauth/authorize?"));
        assert!(!attempt.url.contains("allowed_workspace_id"));
        assert!(!attempt.url.contains(attempt.verifier.expose()));
    }
}

#[test]
fn an_issuer_that_is_no_url_is_refused() {
    let issuer = Issuer { url: "not a url".to_owned(), client_id: "app".to_owned() };
    let error = Attempt::new(&issuer, 1455, "codex_cli_rs", None).err().unwrap();
    assert!(matches!(error, SignInError::BadIssuer { .. }), "{error}");
}

#[test]
fn debug_shows_no_token() {
    let signed_in = SignedIn {
        id_token: "s3cr3t-id".into(),
        access_token: "s3cr3t-access".into(),
        refresh_token: "s3cr3t-refresh".into(),
        api_key: Some("s3cr3t-key".into()),
    };
    assert!(!format!("{signed_in:?}").contains("s3cr3t"));
}

proptest! {
    #[test]
    fn any_refusal_has_a_detail_fit_for_a_terminal(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let detail = detail(&body, &[]);
        prop_assert!(!detail.is_empty());
        prop_assert!(!detail.contains(|c: char| c.is_control() && c != '\n'), "{:?}", detail);
    }

    #[test]
    fn no_request_without_our_state_gets_past_the_state(path in "/[ -~]{0,60}", query in "[!-~]{0,200}") {
        let attempt = Attempt::new(&Issuer::default(), 1455, "codex_cli_rs", None).unwrap();
        for target in [path, format!("/auth/callback?{query}"), format!("/auth/callback?code=1&state={query}")] {
            if let Ok(uri) = target.parse::<hyper::Uri>() {
                prop_assert!(!matches!(route(&attempt, &uri), Route::Callback(_)), "{}", target);
            }
        }
    }

    #[test]
    fn a_page_shows_foreign_text_as_text(code in "\\PC{0,40}", description in "\\PC{0,80}") {
        let page = pages::failure(&Failure::Refused { code, description: Some(description) });
        let inner = page.split("<p>").nth(1).unwrap().split("</dl>").next().unwrap();
        let tags: BTreeSet<&str> = inner.split('<').skip(1).filter_map(|tag| tag.split('>').next()).collect();
        let ours: BTreeSet<&str> = ["/p", "dl", "dt", "/dt", "dd", "/dd"].into();
        prop_assert!(tags.is_subset(&ours), "{:?}", tags);
    }
}
