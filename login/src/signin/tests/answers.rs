//! What an issuer's slow, broken and refusing answers become.

use std::time::Duration;

use serde_json::json;
use wiremock::ResponseTemplate;

use super::support::{browse, id_token, issuer, raw_issuer, sign_in, tokens};
use crate::signin::answer::{detail, printable};

#[test]
fn a_refusals_detail_is_found_in_each_form() {
    let cases = [
        (r#"{"error_description":"D","error":{"message":"M"}}"#, "D"),
        (r#"{"error":{"message":"M","code":"C"}}"#, "M"),
        (r#"{"error":"invalid_grant"}"#, "invalid_grant"),
        (r#"{"error":{"code":"C"}}"#, "C"),
        (r#"{"error":{"message":"","code":"C"}}"#, "C"),
        (r#"{"error_description":" ","error":"E"}"#, "E"),
        (r#"{"error_description":7,"error":"E"}"#, "E"),
        (r#"{"detail":"other"}"#, r#"{"detail":"other"}"#),
        ("[1]", "[1]"),
        ("  plain text\n", "plain text"),
        ("<html>busy</html>", "<html>busy</html>"),
        ("", "unknown error"),
        (" \n ", "unknown error"),
    ];
    for (body, expected) in cases {
        assert_eq!(detail(body.as_bytes(), &[]), expected, "{body}");
    }
    assert_eq!(detail(b"\xff\xfe", &[]), "\u{fffd}\u{fffd}");
}

#[test]
fn foreign_text_is_bounded_harmless_and_without_our_secrets() {
    assert_eq!(printable("a\x1b[2Jb\rc\nd\u{9b}e", &[]), "a\u{fffd}[2Jb\u{fffd}c\nd\u{fffd}e");
    assert_eq!(printable("code code-1 is bad", &["code-1", "", "is"]), "code [redacted] is bad");
    let long = printable(&"é".repeat(100_000), &[]);
    assert_eq!(long.chars().count(), 2001);
}

#[tokio::test]
async fn a_refusal_never_repeats_the_code_or_the_verifier() {
    let issuer = issuer(
        ResponseTemplate::new(400).set_body_json(json!({ "error": "bad code s3cr3t-code-1" })),
        ResponseTemplate::new(500),
    )
    .await;
    let outcome =
        browse(&sign_in(&issuer.uri()), async |visitor| visitor.come_back("code=s3cr3t-code-1").await).await;
    assert_eq!(
        outcome.message(),
        "Token exchange failed: token endpoint returned status 400 Bad Request: bad code [redacted]"
    );
    assert!(!outcome.seen.body.contains("s3cr3t"));
}

#[tokio::test]
async fn an_unusable_answer_is_invalid() {
    let answers = [
        ResponseTemplate::new(200).set_body_string("no JSON"),
        ResponseTemplate::new(200).set_body_string(""),
        ResponseTemplate::new(200).set_body_json(json!([])),
        ResponseTemplate::new(200).set_body_json(json!({ "id_token": id_token("a"), "access_token": "a" })),
        ResponseTemplate::new(200)
            .set_body_json(json!({ "id_token": 1, "access_token": "a", "refresh_token": "r" })),
    ];
    for answer in answers {
        let issuer = issuer(answer, ResponseTemplate::new(500)).await;
        let outcome =
            browse(&sign_in(&issuer.uri()), async |visitor| visitor.come_back("code=code-1").await).await;
        assert_eq!(outcome.message(), "Token exchange failed: OAuth token response is invalid");
        assert!(outcome.seen.body.contains("token_exchange_failed"));
        assert!(outcome.saved.is_none());
    }
}

#[tokio::test]
async fn a_broken_or_silent_issuer_is_told_without_its_url() {
    let cases: [(&'static [u8], bool, &str); 5] = [
        (b"", false, ""),
        (b"garbage\r\n\r\n", false, ""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id_token\"", false, ""),
        (b"", true, "no answer within 0.5 s"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id_token\"", true, "no answer within 0.5 s"),
    ];
    for (bytes, hold, expected) in cases {
        let issuer = raw_issuer(bytes, hold);
        let mut sign_in = sign_in(&issuer);
        if hold {
            sign_in.waits.request = Duration::from_millis(500);
        }
        let outcome = browse(&sign_in, async |visitor| visitor.come_back("code=code-1").await).await;
        let message = outcome.message();
        assert!(message.starts_with("Token exchange failed: token endpoint can't be asked: "), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains(&issuer) && !message.contains("code-1"), "{message}");
        assert!(outcome.seen.body.contains("token_exchange_failed"));
    }
}

#[tokio::test]
async fn an_issuer_that_is_not_there_is_told() {
    let outcome =
        browse(&sign_in("http://127.0.0.1:1"), async |visitor| visitor.come_back("code=code-1").await).await;
    assert!(outcome.message().contains("refused"), "{}", outcome.message());
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let huge = tokens(&"x".repeat(2 << 20));
    let issuer = issuer(huge, ResponseTemplate::new(500)).await;
    let outcome =
        browse(&sign_in(&issuer.uri()), async |visitor| visitor.come_back("code=code-1").await).await;
    assert!(outcome.message().ends_with("the answer is longer than 1048576 bytes"), "{}", outcome.message());
}
