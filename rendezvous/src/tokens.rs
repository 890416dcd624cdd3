//! Access tokens: what a token may do, the file that holds their hashes, and how one is minted.

use std::collections::BTreeSet;
use std::fmt;

use codex_exec_protocol::EnvironmentId;
use codex_secret::Secret;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// How our tokens begin, so that scanners for leaked secrets know them.
pub const PREFIX: &str = "cxr_";
/// Random bytes of a token. Fixed by the wire.
const SECRET_BYTES: usize = 32;
/// Tokens in one file.
const TOKENS: usize = 10_000;
/// Longest line of the file. A safeguard, far from any real use.
const LINE_BYTES: usize = 64 << 10;

/// What a token's bearer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May register and validate.
    Executor,
    /// May connect to environments.
    Harness,
    /// May read the metrics.
    Observer,
}

impl Role {
    /// As it stands in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Executor => "executor",
            Self::Harness => "harness",
            Self::Observer => "observer",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Executor, Self::Harness, Self::Observer].into_iter().find(|role| role.word() == word)
    }
}

/// Which environments a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every environment, `*`.
    All,
    /// These environments and no others.
    Only(BTreeSet<String>),
}

/// As it stands in the file.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Only(ids) => f.write_str(&ids.iter().cloned().collect::<Vec<_>>().join(",")),
        }
    }
}

/// The SHA-256 of a token. It is no secret: tokens are too random to be found from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// A short name for tickets and logs; it opens nothing.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

/// All of it, as it stands in the file.
impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What one token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// SHA-256 of the token.
    pub hash: TokenHash,
    /// What its bearer is; not empty.
    pub roles: BTreeSet<Role>,
    /// The environments it is good for.
    pub scope: Scope,
    /// What people call it; may be empty.
    pub name: String,
}

/// A line of the token file that can't be used. Shows only the line's words for roles and ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// A line has too few words.
    #[error(
        "line {0} of the token file is not `ROLES ENVIRONMENTS SHA256 [NAME]`; make one with `rendezvous token`"
    )]
    Shape(usize),
    /// A line names a role that does not exist.
    #[error(
        "line {line} of the token file names the role {word:?}; roles are executor, harness and observer"
    )]
    Role {
        /// Number of the line, from 1.
        line: usize,
        /// The word that is no role.
        word: String,
    },
    /// A line names something that can't be an environment's id.
    #[error(
        "line {line} of the token file names the environment {word:?}; ids are 1 to 256 of A-Z a-z 0-9 - _, or `*` for all"
    )]
    Environment {
        /// Number of the line, from 1.
        line: usize,
        /// The word that is no id.
        word: String,
    },
    /// A line has no SHA-256.
    #[error(
        "line {0} of the token file has no SHA-256 of 64 hex digits as its third word; tokens themselves do not belong there"
    )]
    Hash(usize),
    /// Too many or too long.
    #[error("the token file has more than {TOKENS} tokens, or a line of more than {LINE_BYTES} bytes")]
    Size,
}

/// Reads a token file: one token a line, `#` begins a comment.
///
/// # Errors
/// For the first line that can't be used.
pub fn parse_file(text: &str) -> Result<Vec<Grant>, TokenFileError> {
    let mut grants = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.len() > LINE_BYTES || grants.len() > TOKENS {
            return Err(TokenFileError::Size);
        }
        let line = line.split('#').next().unwrap_or_default();
        if !line.trim().is_empty() {
            grants.push(parse_line(at + 1, line)?);
        }
    }
    Ok(grants)
}

fn parse_line(line: usize, text: &str) -> Result<Grant, TokenFileError> {
    let mut words = text.split_whitespace();
    let (Some(roles), Some(environments), Some(hash)) = (words.next(), words.next(), words.next()) else {
        return Err(TokenFileError::Shape(line));
    };
    let roles = roles
        .split(',')
        .map(|word| Role::parse(word).ok_or_else(|| TokenFileError::Role { line, word: shown(word) }))
        .collect::<Result<_, _>>()?;
    let mut digest = [0; 32];
    hex::decode_to_slice(hash, &mut digest).map_err(|_| TokenFileError::Hash(line))?;
    let scope =
        scope(environments).map_err(|word| TokenFileError::Environment { line, word: shown(&word) })?;
    let name = words.collect::<Vec<_>>().join(" ");
    Ok(Grant { hash: TokenHash(digest), roles, scope, name })
}

/// A token put at the wrong place is not repeated in an error.
fn shown(word: &str) -> String {
    if word.starts_with(PREFIX) { format!("{PREFIX}…") } else { word.chars().take(40).collect() }
}

/// Reads `*` or ids with commas between them; the error is the word that is no id.
///
/// # Errors
/// For a word that is no id.
pub fn scope(text: &str) -> Result<Scope, String> {
    if text == "*" {
        return Ok(Scope::All);
    }
    let ids = text
        .split(',')
        .map(|id| if EnvironmentId::fits(id) { Ok(id.to_owned()) } else { Err(id.to_owned()) });
    Ok(Scope::Only(ids.collect::<Result<_, _>>()?))
}

impl Grant {
    /// Whether the token may do this for this environment.
    pub fn allows(&self, role: Role, environment: &str) -> bool {
        let here = match &self.scope {
            Scope::All => true,
            Scope::Only(ids) => ids.contains(environment),
        };
        here && self.roles.contains(&role)
    }

    /// Whether the token is for any environment in this role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Compares a hash in constant time.
    pub(crate) fn matches(&self, hash: &TokenHash) -> Choice {
        self.hash.0.ct_eq(&hash.0)
    }
}

/// As a line of the token file.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<_> = self.roles.iter().map(|role| role.word()).collect();
        write!(f, "{} {} {}", roles.join(","), self.scope, self.hash)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " {}", self.name) }
    }
}

/// Makes a token that can't be guessed, and the grant that it carries. The token is kept nowhere.
pub fn mint(roles: BTreeSet<Role>, scope: Scope, name: &str) -> (Secret, Grant) {
    let token = Secret::new(format!("{PREFIX}{}", random_text::<SECRET_BYTES>().expose()));
    let name = name.replace(|c: char| c.is_control() || c == '#', " ");
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let grant = Grant { hash: TokenHash::of(token.expose()), roles, scope, name };
    (token, grant)
}

/// Random bytes from a cryptographic generator as URL-safe text.
pub(crate) fn random_text<const N: usize>() -> Secret {
    let bytes = Zeroizing::new(rand::random::<[u8; N]>());
    Secret::new(base64_simd::URL_SAFE_NO_PAD.encode_to_string(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_s_line_is_read_back() {
        let roles = BTreeSet::from([Role::Executor, Role::Harness]);
        for (scope_text, name) in [("*", "the laptop #1"), ("env-1,env_2", ""), ("x", "x")] {
            let (token, grant) = mint(roles.clone(), scope(scope_text).unwrap(), name);
            let token = token.expose();
            assert!(token.starts_with(PREFIX) && token.len() == 47, "{}", token.len());
            let line = grant.to_string();
            assert!(!line.contains(&token[4..]), "the file holds no token");
            let read = parse_file(&format!("# tokens\n\n{line}  # note\n")).unwrap();
            assert_eq!(read, std::slice::from_ref(&grant));
            assert!(bool::from(read[0].matches(&TokenHash::of(token))));
            assert!(!bool::from(read[0].matches(&TokenHash::of("cxr_other"))));
        }
    }

    #[test]
    fn a_token_allows_its_role_in_its_environments_only() {
        let grants = parse_file(&format!("executor a,b {0}\nharness * {0}", "0".repeat(64))).unwrap();
        for (at, role, id, allowed) in [
            (0, Role::Executor, "a", true),
            (0, Role::Executor, "b", true),
            (0, Role::Executor, "c", false),
            (0, Role::Harness, "a", false),
            (1, Role::Harness, "c", true),
            (1, Role::Executor, "c", false),
            (1, Role::Observer, "c", false),
        ] {
            assert_eq!(grants[at].allows(role, id), allowed, "{role:?} {id}");
        }
    }

    #[test]
    fn lines_that_can_not_be_used_are_told_without_repeating_a_token() {
        let hash = "0".repeat(64);
        for (line, part) in [
            ("executor *".to_owned(), "line 2"),
            (format!("root * {hash}"), "\"root\""),
            (format!("executor a/b {hash}"), "\"a/b\""),
            (format!("executor , {hash}"), "\"\""),
            ("executor * cxr_secret".to_owned(), "third word"),
            (format!("cxr_secret * {hash}"), "cxr_…"),
        ] {
            let error = parse_file(&format!("# x\n{line}")).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{line}: {error}");
        }
    }

    #[test]
    fn ids_are_told_from_what_is_none() {
        for id in ["a", "env-1", "A_b-9", &"x".repeat(256)] {
            assert!(EnvironmentId::fits(id), "{id}");
        }
        for id in ["", "a b", "../x", "é", "a.b", "%2e", &"x".repeat(257)] {
            assert!(!EnvironmentId::fits(id), "{id}");
        }
    }
}
