//! Tickets in the query of a websocket's URL: who may attach, as what, and to which registration.
//!
//! An executor's ticket is a random secret whose hash the registry keeps, so that it lives as long as the
//! registration. A harness's ticket is signed with a key that lives as long as the process, and expires. Where there are
//! several nodes, both are signed with keys that they share (`docs/scale.md`).

use std::time::Duration;

use codex_exec_protocol::registry::PublicKey;
use codex_secret::Secret;
use parking_lot::RwLock;
use ring::hmac;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::node_id::NodeId;

/// The path of the websocket.
pub const PATH: &str = "/rendezvous";

/// Signs tickets with the first key, and takes what any of its keys signed. Nodes that share their keys take each
/// other's tickets.
pub struct Signer(RwLock<Vec<hmac::Key>>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// What a harness's ticket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarnessTicket {
    /// Id of the environment.
    pub environment: String,
    /// Id of the executor's registration.
    pub registration: String,
    /// Short name of the token that asked for it.
    pub account: String,
    /// The node that has the executor, where there are several.
    pub node: Option<NodeId>,
    /// End of its life, as time since 1970.
    pub expires: Duration,
}

/// What an executor's ticket says that every node takes: all that a node has to know of the registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorTicket {
    /// Id of the environment.
    pub environment: String,
    /// Id of the registration.
    pub registration: String,
    /// The executor's identity.
    pub key: PublicKey,
    /// Short name of the token that registered it.
    pub account: String,
    /// Which of several registrations is the newest.
    pub generation: u64,
    /// End of its life, as time since 1970.
    pub expires: Duration,
}

/// What a query asks for.
#[derive(Debug)]
pub enum Wish {
    /// An executor with the secret of its registration.
    Executor {
        /// Id of the environment.
        environment: String,
        /// Id of the registration.
        registration: String,
        /// The secret that proves it.
        secret: Secret,
    },
    /// An executor with a ticket that is signed; it may have expired.
    Signed(ExecutorTicket),
    /// A harness with a ticket that is signed; it may have expired.
    Harness(HarnessTicket),
    /// A harness on a plain relay, which shows a token instead.
    Plain {
        /// Id of the environment.
        environment: String,
        /// The token, unless a header brings it.
        token: Option<Secret>,
    },
}

impl Signer {
    /// A key of this process.
    pub fn new() -> Self {
        let secret = Zeroizing::new(rand::random::<[u8; 32]>());
        Self::of([hmac::Key::new(hmac::HMAC_SHA256, &*secret)])
    }

    /// These keys, the first of which signs.
    pub fn of(keys: impl IntoIterator<Item = hmac::Key>) -> Self {
        Self(RwLock::new(keys.into_iter().collect()))
    }

    /// Takes other keys from now on.
    pub fn replace(&self, keys: impl IntoIterator<Item = hmac::Key>) {
        *self.0.write() = keys.into_iter().collect();
    }

    fn sign(&self, text: &[u8]) -> String {
        let keys = self.0.read();
        // Without a key nothing is signed that anybody would take.
        let signature = keys.first().map(|key| hmac::sign(key, text));
        let bytes = signature.as_ref().map_or(&[][..], AsRef::as_ref);
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
    }

    fn verify(&self, text: &[u8], signature: &str) -> Result<(), &'static str> {
        let signature = base64_simd::URL_SAFE_NO_PAD
            .decode_to_vec(signature.as_bytes())
            .map_err(|_| "invalid_signature")?;
        // `verify` compares in constant time.
        let good = self.0.read().iter().any(|key| hmac::verify(key, text, &signature).is_ok());
        if good { Ok(()) } else { Err("invalid_signature") }
    }

    /// The query of a harness's URL.
    pub fn harness_query(&self, ticket: &HarnessTicket) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("role", "harness")
            .append_pair("environment", &ticket.environment)
            .append_pair("registration", &ticket.registration)
            .append_pair("account", &ticket.account)
            .append_pair("expires", &ticket.expires.as_secs().to_string());
        if let Some(node) = ticket.node {
            query.append_pair("node", &node.to_string());
        }
        query.append_pair("signature", &self.sign(&signed(ticket))).finish()
    }

    /// The query of an executor's URL that every node takes.
    pub fn executor_query(&self, ticket: &ExecutorTicket) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("role", "executor")
            .append_pair("environment", &ticket.environment)
            .append_pair("registration", &ticket.registration)
            .append_pair("key", &base64_simd::URL_SAFE_NO_PAD.encode_to_string(key_bytes(&ticket.key)))
            .append_pair("account", &ticket.account)
            .append_pair("generation", &ticket.generation.to_string())
            .append_pair("expires", &ticket.expires.as_secs().to_string())
            .append_pair("signature", &self.sign(&signed_executor(ticket)))
            .finish()
    }

    /// Reads what the query of a websocket URL asks for.
    ///
    /// # Errors
    /// One of the reasons of `remote.md` 8.1.
    pub fn read(&self, query: &str) -> Result<Wish, &'static str> {
        let mut pairs = Pairs::parse(query)?;
        let wish = match pairs.take("role").ok_or("missing_role")?.as_str() {
            "executor" | "environment" if pairs.has("generation") => self.read_executor(&mut pairs)?,
            "executor" | "environment" => Wish::Executor {
                environment: pairs.take("environment").ok_or("malformed_query")?,
                registration: pairs.take("registration").ok_or("missing_executor_registration_id")?,
                secret: Secret::new(pairs.take("secret").ok_or("missing_signature")?),
            },
            "harness" => self.read_harness(&mut pairs)?,
            _ => return Err("invalid_role"),
        };
        if pairs.0.is_empty() { Ok(wish) } else { Err("extra_query_param") }
    }

    fn read_executor(&self, pairs: &mut Pairs) -> Result<Wish, &'static str> {
        let signature = pairs.take("signature").ok_or("missing_signature")?;
        let ticket = ExecutorTicket {
            environment: pairs.take("environment").ok_or("malformed_query")?,
            registration: pairs.take("registration").ok_or("missing_executor_registration_id")?,
            key: pairs.take("key").and_then(|text| key_of(&text)).ok_or("malformed_query")?,
            account: pairs.take("account").ok_or("malformed_query")?,
            generation: pairs
                .take("generation")
                .and_then(|text| text.parse().ok())
                .ok_or("missing_version")?,
            expires: pairs.expiry()?,
        };
        self.verify(&signed_executor(&ticket), &signature)?;
        Ok(Wish::Signed(ticket))
    }

    fn read_harness(&self, pairs: &mut Pairs) -> Result<Wish, &'static str> {
        let environment = pairs.take("environment").ok_or("malformed_query")?;
        let Some(signature) = pairs.take("signature") else {
            if pairs.has("registration") || pairs.has("expires") {
                return Err("missing_signature");
            }
            return Ok(Wish::Plain { environment, token: pairs.take("token").map(Secret::new) });
        };
        let ticket = HarnessTicket {
            environment,
            registration: pairs.take("registration").ok_or("missing_executor_registration_id")?,
            account: pairs.take("account").ok_or("malformed_query")?,
            expires: pairs.expiry()?,
            node: match pairs.take("node") {
                None => None,
                Some(node) => Some(NodeId::try_from(node).map_err(|_| "malformed_query")?),
            },
        };
        self.verify(&signed(&ticket), &signature)?;
        Ok(Wish::Harness(ticket))
    }
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}

/// The query of an executor's URL.
pub fn executor_query(environment: &str, registration: &str, secret: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("role", "executor")
        .append_pair("environment", environment)
        .append_pair("registration", registration)
        .append_pair("secret", secret)
        .finish()
}

/// What is signed: each part behind its length, so that no two tickets look alike.
fn signed(ticket: &HarnessTicket) -> Vec<u8> {
    let expires = ticket.expires.as_secs().to_string();
    let node = ticket.node.map(|node| node.to_string()).unwrap_or_default();
    parts(
        &["harness", &ticket.environment, &ticket.registration, &ticket.account, &expires, &node]
            .map(str::as_bytes),
    )
}

fn signed_executor(ticket: &ExecutorTicket) -> Vec<u8> {
    let numbers = [ticket.generation, ticket.expires.as_secs()].map(u64::to_be_bytes);
    let texts = ["executor", &ticket.environment, &ticket.registration, &ticket.account].map(str::as_bytes);
    let [role, environment, registration, account] = texts;
    let key = key_bytes(&ticket.key);
    parts(&[role, environment, registration, account, &key, &numbers[0], &numbers[1]])
}

fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn key_bytes(key: &PublicKey) -> Vec<u8> {
    [key.x25519.as_slice(), key.mlkem768.as_slice()].concat()
}

fn key_of(text: &str) -> Option<PublicKey> {
    let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text.as_bytes()).ok()?;
    let (x25519, mlkem768) = bytes.split_at_checked(32)?;
    Some(PublicKey { x25519: x25519.try_into().ok()?, mlkem768: Box::new(mlkem768.try_into().ok()?) })
}

/// The pairs of a query; each name once.
struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Pairs in one query.
    const BOUND: usize = 16;

    fn parse(query: &str) -> Result<Self, &'static str> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if pairs.len() >= Self::BOUND || pairs.iter().any(|(known, _)| *known == name) {
                return Err("malformed_query");
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    fn expiry(&mut self) -> Result<Duration, &'static str> {
        let seconds = self.take("expires").ok_or("missing_expiry")?.parse().map_err(|_| "invalid_expiry")?;
        Ok(Duration::from_secs(seconds))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> HarnessTicket {
        HarnessTicket {
            environment: "env-1".to_owned(),
            registration: "reg".to_owned(),
            account: "abc".to_owned(),
            node: None,
            expires: Duration::from_secs(77),
        }
    }

    #[test]
    fn a_signed_ticket_is_read_back_and_has_the_role_that_plain_clients_look_for() {
        let signer = Signer::new();
        let query = signer.harness_query(&ticket());
        assert!(query.split('&').any(|pair| pair == "role=harness"));
        assert!(matches!(signer.read(&query), Ok(Wish::Harness(read)) if read == ticket()));
        assert_eq!(Signer::new().read(&query).unwrap_err(), "invalid_signature");
    }

    #[test]
    fn an_executor_s_query_is_read_back() {
        let query = executor_query("env-1", "reg", "s+/=");
        let Ok(Wish::Executor { environment, registration, secret }) = Signer::new().read(&query) else {
            panic!("not read")
        };
        assert_eq!((environment.as_str(), registration.as_str(), secret.expose()), ("env-1", "reg", "s+/="));
    }

    #[test]
    fn queries_are_refused_for_the_reason_that_clients_know() {
        let signer = Signer::new();
        let good = signer.harness_query(&ticket());
        let without =
            |name: &str| good.split('&').filter(|pair| !pair.starts_with(name)).collect::<Vec<_>>().join("&");
        for (query, reason) in [
            (String::new(), "missing_role"),
            ("role=".to_owned(), "missing_role"),
            ("role=king".to_owned(), "invalid_role"),
            ("role=executor&role=harness".to_owned(), "malformed_query"),
            ("role=executor".to_owned(), "malformed_query"),
            ("role=executor&environment=e".to_owned(), "missing_executor_registration_id"),
            ("role=executor&environment=e&registration=r".to_owned(), "missing_signature"),
            (executor_query("e", "r", "s") + "&x=1", "extra_query_param"),
            (without("signature"), "missing_signature"),
            (without("expires"), "missing_expiry"),
            (without("registration"), "missing_executor_registration_id"),
            (good.replace("expires=77", "expires=never"), "invalid_expiry"),
            (good.replace("expires=77", "expires=78"), "invalid_signature"),
            (good.replace("env-1", "env-2"), "invalid_signature"),
            (good.replace("account=abc", "account=abd"), "invalid_signature"),
            (without("signature") + "&signature=%21", "invalid_signature"),
            (good.clone() + "&x=1", "extra_query_param"),
            ("role=harness&environment=e&token=t&x=1".to_owned(), "extra_query_param"),
        ] {
            assert_eq!(signer.read(&query).unwrap_err(), reason, "{query}");
        }
        assert!(matches!(signer.read("role=harness&environment=e"), Ok(Wish::Plain { token: None, .. })));
    }
}
