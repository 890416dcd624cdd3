//! Remote attachment: the executor against a scripted registry and rendezvous (`remote.md`).

mod attach;
mod credentials;
mod direct;
mod flags;
mod forward;
mod noise;
mod plain;
mod registration;
mod signed;
mod tls;

use codex_e2e::registry::Answer;
use codex_e2e::{ExecutorBuilder, ScriptedRegistry, ScriptedRendezvous};
use serde_json::{Value, json};

/// The bearer of contract C in these tests.
const BEARER: &str = codex_e2e::secret!("tok-1");

/// How an executor is started for a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contract {
    Cloud,
    Executor,
    Environment,
    Noise,
}

impl Contract {
    const ALL: [Self; 4] = [Self::Cloud, Self::Executor, Self::Environment, Self::Noise];

    /// An executor with a good credential and the id `id-1`.
    fn executor(self, registry: &str) -> ExecutorBuilder {
        let executor = ExecutorBuilder::new(registry);
        match self {
            Self::Cloud => executor
                .args(["--environment-id", "id-1", "--remote-contract", "cloud"])
                .file("auth.json", &chatgpt(codex_e2e::secret!("at-0"), "acct-1")),
            Self::Executor => {
                executor.args(["--executor-id", "id-1"]).env("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN", BEARER)
            }
            Self::Environment => executor
                .args(["--environment-id", "id-1", "--remote-contract", "environment"])
                .env("CODEX_API_KEY", BEARER),
            Self::Noise => executor.args(["--environment-id", "id-1"]).env("CODEX_API_KEY", BEARER),
        }
    }

    /// The subject of its request errors (1.2).
    fn what(self) -> &'static str {
        match self {
            Self::Cloud => "cloud environments",
            Self::Executor => "executor registry",
            Self::Environment | Self::Noise => "environment registry",
        }
    }

    /// The target of its registration.
    fn path(self) -> &'static str {
        match self {
            Self::Cloud => "/api/cloud/executor",
            Self::Executor => "/cloud/executor/id-1/register",
            Self::Environment | Self::Noise => "/cloud/environment/id-1/register",
        }
    }

    /// A good answer to a registration.
    fn registered(self, url: &str) -> Value {
        match self {
            Self::Cloud => json!({"id": "exec-1", "environment_id": "id-1", "url": url}),
            Self::Executor => json!({"executor_id": "id-1", "url": url}),
            Self::Environment => json!({"environment_id": "id-1", "url": url}),
            Self::Noise => json!({
                "environment_id": "id-1", "url": url, "security_profile": "noise_hybrid_ik_v1",
                "executor_registration_id": "reg-1", "unknown": {"is": "ignored"},
            }),
        }
    }

    /// A rendezvous, and a registry that sends there.
    async fn stage(self) -> (ScriptedRegistry, ScriptedRendezvous) {
        let rendezvous = ScriptedRendezvous::start().await;
        let registry = ScriptedRegistry::answering([Answer::ok(self.registered(&rendezvous.url()))]).await;
        (registry, rendezvous)
    }
}

/// An `auth.json` of a ChatGPT sign-in that was refreshed just now. Its access token is no JWT, so only that date counts.
fn chatgpt(access_token: &str, account_id: &str) -> String {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": id_token(false),
            "access_token": access_token,
            "refresh_token": codex_e2e::secret!("rt-1"),
            "account_id": account_id,
        },
        "last_refresh": codex_e2e::now(),
    })
    .to_string()
}

/// An unsigned id token.
fn id_token(fedramp: bool) -> String {
    let part = |value: Value| {
        codex_e2e::base64(value.to_string()).trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let claims = json!({
        "email": "u@example.com",
        "https://api.openai.com/auth": {"chatgpt_account_is_fedramp": fedramp, "chatgpt_plan_type": "plus"},
    });
    format!("{}.{}.c2ln", part(json!({"alg": "none"})), part(claims))
}
