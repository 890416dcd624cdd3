//! Credentials as a JSON document: read tolerantly, written in the order of released programs, unknown members kept.

use super::{Provenance, StoredCredentials, Tokens, time};
use crate::opaque::{Opaque, Unknown};
use codex_outgoing::file::BYTE_ORDER_MARK;
use codex_secret::{Secret, SignInKind};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;
use zeroize::Zeroizing;

/// Room for a document of usual size, so that no half-written copy is left behind by a growing buffer.
/// Chosen for speed.
const USUAL_BYTES: usize = 32 * 1024;

/// Why a document does not hold credentials. Names the class and the place, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class} error at line {line} column {column}")]
pub struct DocumentError {
    /// `syntax`, `data` or `unexpected end`.
    pub class: &'static str,
    /// Line, counted from 1.
    pub line: usize,
    /// From 1; 0 at the very start.
    pub column: usize,
}

impl From<serde_json::Error> for DocumentError {
    fn from(error: serde_json::Error) -> Self {
        let class = match error.classify() {
            serde_json::error::Category::Syntax => "syntax",
            serde_json::error::Category::Data => "data",
            serde_json::error::Category::Eof => "unexpected end",
            serde_json::error::Category::Io => "read",
        };
        Self { class, line: error.line(), column: error.column() }
    }
}

impl StoredCredentials {
    /// Reads a document.
    pub fn from_json(json: &[u8]) -> Result<Self, DocumentError> {
        // Some editors put one before all that they save.
        Ok(serde_json::from_slice(json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json))?)
    }

    /// Writes the document of `auth.json`: indented by two spaces, no newline at the end.
    pub fn to_pretty_json(&self) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
        let mut json = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
        serde_json::to_writer_pretty(&mut *json, self)?;
        Ok(json)
    }

    /// Writes the document of a keyring entry: no white space.
    pub fn to_compact_json(&self) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
        let mut json = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
        serde_json::to_writer(&mut *json, self)?;
        Ok(json)
    }
}

impl Serialize for StoredCredentials {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        optional(&mut map, "auth_mode", self.auth_mode.as_ref())?;
        map.serialize_entry("OPENAI_API_KEY", &self.api_key.as_ref().map(Secret::expose))?;
        optional(&mut map, "tokens", self.tokens.as_ref())?;
        optional(&mut map, "last_refresh", self.last_refresh.map(time::format))?;
        optional(&mut map, "agent_identity", self.agent_identity.as_ref().map(|value| &value.0))?;
        optional(&mut map, "personal_access_token", self.personal_access_token.as_ref().map(Secret::expose))?;
        optional(&mut map, "bedrock_api_key", self.bedrock_api_key.as_ref().map(|value| &value.0))?;
        optional(&mut map, "bedrock_access_keys", self.bedrock_access_keys.as_ref().map(|value| &value.0))?;
        rest(&mut map, &self.unknown)?;
        map.end()
    }
}

impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id_token", self.id_token.expose())?;
        map.serialize_entry("access_token", self.access_token.expose())?;
        map.serialize_entry("refresh_token", self.refresh_token.expose())?;
        let unknown = &self.provenance_unknown;
        let provenance = self.provenance.as_ref().map(|known| ProvenanceDocument { known, unknown });
        optional(&mut map, "oauth_provenance", provenance)?;
        optional(&mut map, "login_owner_id", self.login_owner_id.as_ref())?;
        map.serialize_entry("account_id", &self.account_id)?;
        rest(&mut map, &self.unknown)?;
        map.end()
    }
}

struct ProvenanceDocument<'a> {
    known: &'a Provenance,
    unknown: &'a Unknown,
}

impl Serialize for ProvenanceDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("issuer", &self.known.issuer)?;
        map.serialize_entry("client_id", &self.known.client_id)?;
        rest(&mut map, self.unknown)?;
        map.end()
    }
}

fn optional<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    value: Option<impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
}

fn rest<M: SerializeMap>(map: &mut M, unknown: &Unknown) -> Result<(), M::Error> {
    unknown.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))
}

// Read by hand: serde's `flatten` loses the place of an error, and a derived struct takes an array as well.

impl<'de> Deserialize<'de> for StoredCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CredentialsVisitor)
    }
}

struct CredentialsVisitor;

impl<'de> Visitor<'de> for CredentialsVisitor {
    type Value = StoredCredentials;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of credentials")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StoredCredentials, A::Error> {
        let mut read = StoredCredentials::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "auth_mode" => read.auth_mode = map.next_value::<Option<SignInKind>>()?,
                "OPENAI_API_KEY" => read.api_key = map.next_value()?,
                "tokens" => read.tokens = map.next_value()?,
                "last_refresh" => {
                    let text: Option<String> = map.next_value()?;
                    let parsed =
                        text.map(|text| time::parse(&text).ok_or_else(|| A::Error::custom("not a time")));
                    read.last_refresh = parsed.transpose()?;
                }
                "agent_identity" => read.agent_identity = opaque(&mut map, &[Kind::Text, Kind::Object])?,
                "personal_access_token" => read.personal_access_token = map.next_value()?,
                "bedrock_api_key" => read.bedrock_api_key = opaque(&mut map, &[Kind::Object])?,
                "bedrock_access_keys" => read.bedrock_access_keys = opaque(&mut map, &[Kind::Object])?,
                _ => {
                    let value = map.next_value()?;
                    read.unknown.insert(name, value);
                }
            }
        }
        Ok(read)
    }
}

#[derive(PartialEq)]
enum Kind {
    Text,
    Object,
}

/// A member that is kept as it came, but has to be of one of the `kinds`, or null.
fn opaque<'de, A: MapAccess<'de>>(map: &mut A, kinds: &[Kind]) -> Result<Option<Opaque>, A::Error> {
    let value: serde_json::Value = map.next_value()?;
    match value {
        serde_json::Value::Null => Ok(None),
        value if value.is_string() && kinds.contains(&Kind::Text) => Ok(Some(Opaque(value))),
        value if value.is_object() && kinds.contains(&Kind::Object) => Ok(Some(Opaque(value))),
        _ => Err(A::Error::custom("wrong type")),
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TokensVisitor)
    }
}

struct TokensVisitor;

impl<'de> Visitor<'de> for TokensVisitor {
    type Value = Tokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
        let (mut id_token, mut access_token, mut refresh_token) = (None, None, None);
        let (mut provenance, mut login_owner_id, mut account_id) = (None, None, None);
        let mut unknown = Unknown::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "id_token" => id_token = Some(map.next_value::<Secret>()?),
                "access_token" => access_token = Some(map.next_value::<Secret>()?),
                "refresh_token" => refresh_token = Some(map.next_value::<Secret>()?),
                "oauth_provenance" => provenance = read_provenance(&mut map)?,
                "login_owner_id" => login_owner_id = map.next_value::<Option<String>>()?,
                "account_id" => account_id = map.next_value::<Option<String>>()?,
                _ => {
                    let value = map.next_value()?;
                    unknown.insert(name, value);
                }
            }
        }
        let missing = A::Error::missing_field;
        let mut tokens = Tokens::new(
            id_token.ok_or_else(|| missing("id_token"))?,
            access_token.ok_or_else(|| missing("access_token"))?,
            refresh_token.ok_or_else(|| missing("refresh_token"))?,
        )
        .map_err(A::Error::custom)?;
        if let Some((known, unknown)) = provenance {
            (tokens.provenance, tokens.provenance_unknown) = (Some(known), unknown);
        }
        tokens.login_owner_id = login_owner_id;
        (tokens.account_id, tokens.unknown) = (account_id, unknown);
        Ok(tokens)
    }
}

fn read_provenance<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<(Provenance, Unknown)>, A::Error> {
    let Some(members) = map.next_value::<Option<serde_json::Map<String, serde_json::Value>>>()? else {
        return Ok(None);
    };
    let (mut issuer, mut client_id, mut unknown) = (None, None, Unknown::default());
    for (name, value) in members {
        match (name.as_str(), value) {
            ("issuer", serde_json::Value::String(text)) => issuer = Some(text),
            ("client_id", serde_json::Value::String(text)) => client_id = Some(text),
            ("issuer" | "client_id", _) => return Err(A::Error::custom("wrong type")),
            (_, value) => unknown.insert(name, value),
        }
    }
    let missing = A::Error::missing_field;
    let issuer = issuer.ok_or_else(|| missing("issuer"))?;
    let client_id = client_id.ok_or_else(|| missing("client_id"))?;
    Ok(Some((Provenance { issuer, client_id }, unknown)))
}
