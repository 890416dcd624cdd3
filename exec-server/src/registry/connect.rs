//! A harness asks a registry the way to an environment (`remote.md` 6.2, 9.2).

use codex_exec_protocol::EnvironmentId;
use codex_exec_protocol::registry::{Connect, Connected, NOISE_PROFILE, PublicKey};
use codex_outgoing::{Outgoing, is_loopback, sentence};
use codex_secret::Secret;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{StatusCode, Url};

use super::client::{ANSWER_BYTES, RegistryClient, RequestError, Told};
use crate::bearer;

/// How much of an answer's text an error shows, in characters.
const SHOWN: usize = 1024;

/// An environment that a registry knows, and what lets us use it.
#[derive(Debug, Clone)]
pub struct RegistryEnvironment {
    /// The registry's base URL; a path is kept. `https`, or `http` to loopback.
    pub url: String,
    /// The environment: 1 to 256 of `A–Z a–z 0–9 - _`.
    pub environment_id: String,
    /// Sent as `authorization: Bearer …`.
    pub token: Secret,
    /// Sent as `chatgpt-account-id`.
    pub account_id: Option<String>,
}

impl RegistryEnvironment {
    /// Whether a registry's URL and an environment's id can be used at all; asks nobody.
    ///
    /// # Errors
    /// A sentence for whoever wrote them, without any secret.
    pub fn check_address(url: &str, environment_id: &str) -> Result<(), String> {
        address(url, environment_id).map(drop)
    }
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectRefusal {
    /// Asking again would end the same way.
    Final(String),
    /// The same, because of the token.
    Unauthorized(String),
    /// It may work later; this attempt is over.
    Now(String),
    /// Worth another request within this attempt.
    Soon(String),
}

/// A registry's `/connect` for one environment.
#[derive(Debug)]
pub(crate) struct HarnessRegistry {
    base: Url,
    environment: RegistryEnvironment,
    client: RegistryClient,
}

impl HarnessRegistry {
    /// Checks everything that can be checked before anything is sent.
    ///
    /// # Errors
    /// A sentence for whoever wrote the URL, the id or the token.
    pub(crate) fn new(environment: RegistryEnvironment, outgoing: Outgoing) -> Result<Self, String> {
        let (base, id) = address(&environment.url, &environment.environment_id)?;
        bearer::header(environment.token.expose().trim())?;
        if environment.account_id.as_deref().is_some_and(|id| HeaderValue::from_str(id).is_err()) {
            return Err("the account id holds characters that a header can't carry".into());
        }
        let environment = RegistryEnvironment { environment_id: id.to_string(), ..environment };
        let client = RegistryClient::new(outgoing, base.scheme() == "http");
        Ok(Self { base, environment, client })
    }

    /// What messages call it; holds no secret.
    pub(crate) fn target(&self) -> String {
        format!("{} (environment {})", self.base, self.environment.environment_id)
    }

    pub(crate) fn environment_id(&self) -> &str {
        &self.environment.environment_id
    }

    /// Asks for one websocket attempt's bundle, and checks it.
    pub(crate) async fn connect(&self, harness: &PublicKey) -> Result<Connected, ConnectRefusal> {
        let path = format!("cloud/environment/{}/connect", self.environment.environment_id);
        let url = Url::parse(&format!("{}/{path}", self.base.as_str().trim_end_matches('/')));
        let url =
            url.map_err(|error| ConnectRefusal::Final(format!("the registry's URL can't be used: {error}")))?;
        let token = bearer::header(self.environment.token.expose().trim())
            .map_err(|unfit| ConnectRefusal::Final(unfit.to_owned()))?;
        let answered = self.client.post(url, |request| {
            let request =
                request.header(AUTHORIZATION, token).json(&Connect { harness_public_key: harness.clone() });
            match &self.environment.account_id {
                Some(account) => request.header("chatgpt-account-id", account),
                None => request,
            }
        });
        let answer = answered.await.map_err(unanswered)?;
        if answer.cut {
            return Err(ConnectRefusal::Final(format!(
                "the registry's answer has over {ANSWER_BYTES} bytes"
            )));
        }
        if !answer.status.is_success() {
            return Err(refused(answer.status, &answer.body, &self.environment.token));
        }
        let unusable =
            |why: String| ConnectRefusal::Final(format!("the registry's answer can't be used: {why}"));
        let connected = serde_json::from_slice(&answer.body).map_err(|error| unusable(error.to_string()))?;
        self.check(&connected).map_err(unusable)?;
        Ok(connected)
    }

    fn check(&self, connected: &Connected) -> Result<(), String> {
        if connected.environment_id != self.environment.environment_id {
            return Err("it is about another environment".into());
        }
        if connected.security_profile != NOISE_PROFILE {
            return Err(format!("its security profile is {:?}", connected.security_profile));
        }
        let blank = connected.executor_registration_id.trim().is_empty();
        if blank || connected.url.is_blank() || connected.harness_key_authorization.is_blank() {
            return Err("its URL, registration id or authorization is blank".into());
        }
        let url = Url::parse(connected.url.expose()).map_err(|error| format!("its URL: {error}"))?;
        match url.scheme() {
            "wss" => Ok(()),
            "ws" if is_loopback(&url) => Ok(()),
            "ws" => Err("a rendezvous that is not on this machine needs wss://".into()),
            other => Err(format!("its URL has the scheme {other:?} instead of wss")),
        }
    }
}

/// The base URL and the trimmed id, if they can be used.
fn address(url: &str, id: &str) -> Result<(Url, EnvironmentId), String> {
    let id = id.trim();
    let id: EnvironmentId = id.parse().map_err(|error| {
        let shown: String = id.chars().take(60).collect();
        format!("the environment id {shown:?} can't be used: {error}")
    })?;
    let base = Url::parse(url.trim().trim_end_matches('/'))
        .map_err(|error| format!("the registry's URL can't be used: {error}; give https://HOST"))?;
    match base.scheme() {
        "https" => {}
        "http" if is_loopback(&base) => {}
        "http" => return Err("a registry that is not on this machine needs https://".into()),
        other => return Err(format!("the registry's URL has the scheme {other:?}; use https")),
    }
    let user = !base.username().is_empty() || base.password().is_some();
    if user || base.query().is_some() || base.fragment().is_some() {
        return Err("the registry's URL has a user, a query or a fragment; give its address alone".into());
    }
    Ok((base, id))
}

/// What a status other than 2xx means (9.2).
fn refused(status: StatusCode, body: &[u8], token: &Secret) -> ConnectRefusal {
    let sentence = format!("the registry answered {}", told(status, body, token));
    match status.as_u16() {
        401 | 403 => ConnectRefusal::Unauthorized(sentence),
        408 | 429 | 500 | 502 | 503 | 504 => ConnectRefusal::Soon(sentence),
        _ => ConnectRefusal::Final(sentence),
    }
}

/// The status, and the error body's code and sentence (1.2), without our token, control characters and great length.
fn told(status: StatusCode, body: &[u8], token: &Secret) -> String {
    let Told { code, message } = Told::by(body);
    let shown = |text: String| -> String {
        let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
        token.hidden_in(&text).chars().take(SHOWN).collect()
    };
    let code = code.map(|code| format!(", {}", shown(code))).unwrap_or_default();
    let text = shown(message.unwrap_or_default());
    if text.is_empty() { format!("{status}{code}") } else { format!("{status}{code}: {text}") }
}

/// Why no answer came.
fn unanswered(error: RequestError) -> ConnectRefusal {
    match error {
        RequestError::Outgoing(error) => ConnectRefusal::Final(error.to_string()),
        RequestError::Http(error) => {
            let causes = sentence(&error.without_url());
            ConnectRefusal::Now(format!("the registry can't be reached: {causes}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(url: &str, id: &str) -> RegistryEnvironment {
        RegistryEnvironment {
            url: url.into(),
            environment_id: id.into(),
            token: "sesame".into(),
            account_id: None,
        }
    }

    #[test]
    fn what_can_be_seen_to_be_wrong_is_refused_before_anything_is_sent() {
        let wrong = [
            ("http://registry.example", "env", "https"),
            ("ws://127.0.0.1:1", "env", "scheme"),
            ("registry", "env", "URL"),
            ("https://user:pw@registry.example", "env", "user"),
            ("https://registry.example?x=1", "env", "query"),
            ("https://registry.example/#x", "env", "fragment"),
            ("https://registry.example", "../env", "A-Z"),
            ("https://registry.example", "  ", "A-Z"),
            ("https://registry.example", "é", "A-Z"),
        ];
        for (url, id, word) in wrong {
            let refused = HarnessRegistry::new(environment(url, id), Outgoing::default()).unwrap_err();
            assert!(refused.contains(word), "{url} {id}: {refused}");
            assert!(!refused.contains("pw"), "{refused}");
        }
        assert!(
            HarnessRegistry::new(
                environment("https://registry.example", &"x".repeat(257)),
                Outgoing::default()
            )
            .is_err()
        );
        let account_id = Some("a\nb".to_owned());
        let odd = RegistryEnvironment { account_id, ..environment("https://registry.example", "e") };
        assert!(HarnessRegistry::new(odd, Outgoing::default()).unwrap_err().contains("account id"));
        for url in
            [" https://registry.example/base// ", "http://127.0.0.1:1", "http://[::1]:1/", "http://localhost"]
        {
            let registry = HarnessRegistry::new(environment(url, " env_1-A "), Outgoing::default()).unwrap();
            assert_eq!(registry.environment_id(), "env_1-A");
            assert!(!format!("{registry:?} {}", registry.target()).contains("sesame"));
        }
    }

    #[test]
    fn an_error_tells_what_the_registry_said() {
        let token = Secret::from(" sesame\n");
        let told = |body: &str| told(StatusCode::NOT_FOUND, body.as_bytes(), &token);
        assert_eq!(told(r#"{"error":{"code":"nf","message":"no such"}}"#), "404 Not Found, nf: no such");
        assert_eq!(told(r#"{"error":{"message":"no such"}}"#), "404 Not Found: no such");
        assert_eq!(told("plain\x1b[31m text\n"), "404 Not Found: plain[31m text");
        assert_eq!(told(""), "404 Not Found");
        let repeated = r#"{"error":{"code":"no sesame","message":"not with ses\u0007ame"}}"#;
        assert_eq!(told(repeated), "404 Not Found, no [hidden]: not with [hidden]");
        assert_eq!(told("who is sesame?"), "404 Not Found: who is [hidden]?");
    }
}
