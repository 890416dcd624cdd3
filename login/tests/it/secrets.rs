//! No secret in any output: a child does everything with logging wide open, and its parent reads all that it printed.

use crate::support::{Home, Issuer, children, told};
use codex_config::StoreMode;
use codex_e2e::secret_service::SecretService;
use codex_login::{
    HttpClient, Manager, Settings, StoredCredentials, Variables, load, personal_token, revoke,
};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

/// Stands in every secret of the child.
const MARK: &str = "s3cretMark";

fn document() -> Value {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": format!("sk-{MARK}"),
        "tokens": {
            "id_token": "e30.e30.c2ln", "access_token": format!("access-{MARK}"),
            "refresh_token": format!("refresh-{MARK}"), "account_id": "acct-1", "unknown": MARK,
        },
        "last_refresh": "2020-01-01T00:00:00Z",
        "unknown": [MARK],
    })
}

#[test]
fn nothing_secret_is_printed_or_logged() {
    let service = SecretService::start();
    let mut command = children("secrets::child_does_everything");
    command.args(["--exact", "--nocapture"]).env("LOGIN_TEST_SECRETS", "1");
    if let Some(service) = &service {
        service.on(&mut command);
    }
    let output = command.output().unwrap();
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("TRACE"), "logging is wide open: {printed}");
    let line = printed.lines().find(|line| line.contains(MARK));
    assert_eq!(line, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child's part of nothing_secret_is_printed_or_logged"]
async fn child_does_everything() {
    let Some(_) = told("LOGIN_TEST_SECRETS") else { return };
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).init();
    let personal = format!("at-{MARK}");
    for status in [200, 400, 401, 500] {
        let issuer = Issuer::start().await;
        let answer = json!({
            "access_token": format!("new-{MARK}"), "refresh_token": format!("new-{MARK}"), "id_token": "e30.e30.c2ln",
            "error": {"code": MARK, "message": MARK},
        });
        let answer = ResponseTemplate::new(status).set_body_json(answer);
        Mock::given(method("POST")).respond_with(answer.clone()).mount(&issuer.0).await;
        Mock::given(method("GET"))
            .and(path("/v1/user-auth-credential/whoami"))
            .respond_with(answer)
            .mount(&issuer.0)
            .await;
        let variables =
            Variables { access_token: None, authapi_base_url: Some(issuer.0.uri()), ..issuer.variables() };
        let client = HttpClient::new("1.2.3", &variables);
        for mode in [StoreMode::File, StoreMode::Auto, StoreMode::Keyring, StoreMode::Ephemeral] {
            let home = Home::new();
            let store = home.store(mode);
            let settings =
                Settings { store: store.clone(), client: client.clone(), ..home.settings(variables.clone()) };
            let credentials = StoredCredentials::from_json(document().to_string().as_bytes()).unwrap();
            println!("{:?}", store.save(&credentials));
            let manager = Manager::new(settings.clone()).await;
            let auth = manager.auth().await;
            println!("{auth:?} {:?} {manager:?}", manager.refresh().await);
            if let Some(auth) = auth {
                println!("{:?}", manager.recovery(auth).next().await);
            }
            println!("{:?}", revoke(&settings.client, &variables, &credentials).await);
            println!(
                "{:?}",
                personal_token::look_up(&settings.client, &variables, &personal.clone().into()).await
            );
            println!("{:?}", store.remove());
            let token = Variables { access_token: Some(personal.clone().into()), ..variables.clone() };
            let settings = Settings { client: client.clone(), ..home.settings(token.clone()) };
            println!("{:?} {token:?}", load(&settings).await);
        }
    }
    for broken in [format!("{{\"{MARK}\"}}"), format!("\"{MARK}\""), format!("{{\"auth_mode\":\"{MARK}\"}}")]
    {
        let home = Home::new();
        std::fs::write(home.file(), broken).unwrap();
        println!("{:?}", load(&home.settings(Variables::default())).await);
        println!("{}", load(&home.settings(Variables::default())).await.unwrap_err());
    }
}
