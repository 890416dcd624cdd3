//! The secret that nodes share, and the keys made from it.

use std::fmt;

use codex_secret::Secret;
use ring::hmac;

/// Shortest line of the file, in bytes. Shorter ones could be guessed. Our own pace: nothing outside depends on it.
const SHORTEST_SECRET: usize = 32;
/// Secrets in force at once: the one that signs, and those that are on their way out or in. A safeguard, far from any real use.
const MOST_SECRETS: usize = 8;

/// The secrets of a cluster's file: the first signs and seals, every one verifies and opens.
#[derive(Clone)]
pub struct ClusterSecrets(Vec<Secret>);

/// A secret file that can't be used. Shows nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// No line holds a secret.
    #[error(
        "it holds no secret; write a line of at least {SHORTEST_SECRET} random characters, such as `openssl rand -hex 32` prints"
    )]
    Empty,
    /// A line is too short.
    #[error("its line {0} has fewer than {SHORTEST_SECRET} characters, and could be guessed")]
    Short(usize),
    /// Too many lines.
    #[error("it holds more than {MOST_SECRETS} secrets")]
    Many,
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterSecrets({})", self.0.len())
    }
}

impl ClusterSecrets {
    /// Reads the file's text: one secret a line, `#` begins a line of comment.
    ///
    /// # Errors
    /// When there is none, one is short, or there are too many.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let mut secrets = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() < SHORTEST_SECRET {
                return Err(SecretsError::Short(at + 1));
            }
            secrets.push(Secret::from(line));
        }
        match secrets.len() {
            0 => Err(SecretsError::Empty),
            count if count > MOST_SECRETS => Err(SecretsError::Many),
            _ => Ok(Self(secrets)),
        }
    }

    /// A key for each secret, in their order. Keys for different purposes tell nothing of each other.
    pub(crate) fn keys(&self, purpose: &str) -> impl Iterator<Item = hmac::Key> {
        self.0.iter().map(move |secret| {
            let root = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose.as_bytes()).as_ref())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_one_that_can_not_be_used_told_apart() {
        let (one, two) = ("a".repeat(32), "b".repeat(40));
        for (text, count) in [(format!("{one}\n"), 1), (format!("# new\n  {two}  \n\n{one}"), 2)] {
            assert_eq!(ClusterSecrets::parse(&text).unwrap().0.len(), count);
        }
        for (text, error) in [
            (String::new(), SecretsError::Empty),
            ("# nothing\n".to_owned(), SecretsError::Empty),
            (format!("{one}\nshort"), SecretsError::Short(2)),
            (format!("{one}\n").repeat(9), SecretsError::Many),
        ] {
            assert_eq!(ClusterSecrets::parse(&text).unwrap_err(), error);
        }
        assert!(!format!("{:?}", ClusterSecrets::parse(&one).unwrap()).contains("aaa"));
    }
}
