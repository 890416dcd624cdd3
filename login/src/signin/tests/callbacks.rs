//! The rows of the table of error pages (8.3), each through a real callback.

use reqwest::StatusCode;
use serde_json::json;
use wiremock::ResponseTemplate;

use super::support::{asked, browse_on, id_token, issuer, jwt, sign_in, tokens};

struct Row {
    query: &'static str,
    exchange: ResponseTemplate,
    workspaces: Option<Vec<String>>,
    save: Result<(), &'static str>,
    first_line: Option<&'static str>,
    message: &'static str,
    code: &'static str,
    /// What the page shows besides.
    shows: &'static str,
}

fn row() -> Row {
    Row {
        query: "code=code-1",
        exchange: tokens(&id_token("acct-1")),
        workspaces: None,
        save: Ok(()),
        first_line: None,
        message: "",
        code: "",
        shows: "",
    }
}

fn rows() -> Vec<Row> {
    vec![
        Row {
            query: "error=access_denied&error_description=The+user+said+no",
            first_line: Some("OAuth callback error: Sign-in failed: The user said no"),
            message: "Sign-in failed: The user said no",
            code: "access_denied",
            ..row()
        },
        Row {
            query: "error=server_error",
            first_line: Some("OAuth callback error: Sign-in failed: server_error"),
            message: "Sign-in failed: server_error",
            code: "server_error",
            ..row()
        },
        Row {
            query: "error=server_error&error_description=",
            first_line: Some("OAuth callback error: Sign-in failed: server_error"),
            message: "Sign-in failed: server_error",
            code: "server_error",
            ..row()
        },
        Row {
            query: "error=access_denied&error_description=missing_codex_entitlement%3A+ask",
            first_line: Some(
                "OAuth callback error: Codex is not enabled for your workspace. Ask your workspace administrator \
                 for access to Codex, then sign in again.",
            ),
            message: "Codex is not enabled for your workspace. Ask your workspace administrator for access to \
                      Codex, then sign in again.",
            code: "access_denied",
            shows: "You do not have access to Codex",
            ..row()
        },
        Row {
            query: "error=other&error_description=missing_codex_entitlement",
            first_line: Some("OAuth callback error: Sign-in failed: missing_codex_entitlement"),
            message: "Sign-in failed: missing_codex_entitlement",
            code: "other",
            ..row()
        },
        Row {
            query: "error=server_error&code=code-1",
            first_line: Some("OAuth callback error: Sign-in failed: server_error"),
            message: "Sign-in failed: server_error",
            code: "server_error",
            ..row()
        },
        Row {
            query: "error=x&error_description=%1B%5B31mred%07%3Cscript%3Ealert('1')%3C%2Fscript%3E%26",
            first_line: Some(
                "OAuth callback error: Sign-in failed: \u{fffd}[31mred\u{fffd}<script>alert('1')</script>&",
            ),
            message: "Sign-in failed: \u{fffd}[31mred\u{fffd}<script>alert('1')</script>&",
            code: "x",
            shows: "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;",
            ..row()
        },
        Row {
            query: "nothing=here",
            message: "Missing authorization code. Sign-in could not be completed.",
            code: "missing_authorization_code",
            ..row()
        },
        Row {
            query: "code=",
            message: "Missing authorization code. Sign-in could not be completed.",
            code: "missing_authorization_code",
            ..row()
        },
        Row {
            exchange: ResponseTemplate::new(400)
                .set_body_json(json!({ "error_description": "code is stale" })),
            first_line: Some(
                "Token exchange error: token endpoint returned status 400 Bad Request: code is stale",
            ),
            message: "Token exchange failed: token endpoint returned status 400 Bad Request: code is stale",
            code: "token_exchange_failed",
            ..row()
        },
        Row {
            workspaces: Some(vec!["a".to_owned(), "b".to_owned()]),
            first_line: Some("Workspace restriction error: Login is restricted to workspace id(s) a, b."),
            message: "Login is restricted to workspace id(s) a, b.",
            code: "workspace_restriction",
            ..row()
        },
        Row {
            workspaces: Some(vec!["a".to_owned()]),
            exchange: tokens(&jwt(&json!({}))),
            first_line: Some("Workspace restriction error: Login is restricted to workspace id(s) a."),
            message: "Login is restricted to workspace id(s) a.",
            code: "workspace_restriction",
            ..row()
        },
        Row {
            workspaces: Some(vec!["a".to_owned()]),
            exchange: tokens("unreadable"),
            first_line: Some("Workspace restriction error: Login is restricted to workspace id(s) a."),
            message: "Login is restricted to workspace id(s) a.",
            code: "workspace_restriction",
            ..row()
        },
        Row {
            save: Err("the disk is full"),
            first_line: Some("Persist error: the disk is full"),
            message: "Sign-in completed but credentials could not be saved locally.",
            code: "persist_failed",
            ..row()
        },
        Row {
            exchange: tokens("unreadable"),
            first_line: Some("Persist error: invalid ID token format"),
            message: "Sign-in completed but credentials could not be saved locally.",
            code: "persist_failed",
            ..row()
        },
        Row {
            exchange: tokens(&jwt(&json!({ "https://api.openai.com/auth": "text" }))),
            first_line: Some("Persist error: invalid ID token claims"),
            message: "Sign-in completed but credentials could not be saved locally.",
            code: "persist_failed",
            ..row()
        },
    ]
}

#[tokio::test]
async fn every_failure_shows_its_page_and_says_its_lines() {
    for row in rows() {
        let name = format!("{} {:?}", row.query, row.message);
        let refused_early = !row.query.starts_with("code=c") || row.code.ends_with("restriction");
        let issuer = issuer(row.exchange, ResponseTemplate::new(500)).await;
        let mut sign_in = sign_in(&issuer.uri());
        sign_in.workspaces = row.workspaces;
        let outcome =
            browse_on(&[0], &sign_in, row.save, async |visitor| visitor.come_back(row.query).await).await;
        assert_eq!(outcome.message(), row.message, "{name}");
        assert_eq!(outcome.first_line().as_deref(), row.first_line, "{name}");
        assert!(outcome.saved.is_none(), "{name}");
        let page = &outcome.seen;
        assert_eq!(page.status, StatusCode::OK, "{name}");
        assert_eq!(page.content_type, "text/html; charset=utf-8", "{name}");
        assert!(page.closes, "{name}");
        assert!(page.body.contains(&format!("<dd>{}</dd>", row.code)), "{name}: {}", page.body);
        assert!(page.body.contains(row.shows), "{name}: {}", page.body);
        if !row.message.contains('<') {
            assert!(page.body.contains(row.message), "{name}: {}", page.body);
        }
        assert!(!page.body.contains("<script"), "{name}: {}", page.body);
        assert!(!page.body.contains("disk"), "local causes are for the terminal: {}", page.body);
        if refused_early {
            assert_eq!(asked(&issuer, "requested_token").await.len(), 0, "{name}: no key is asked for");
        }
    }
}
