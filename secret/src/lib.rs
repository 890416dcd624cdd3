//! Text that grants something, and the kinds of sign-in that it comes from.

mod sign_in_kind;

pub use sign_in_kind::SignInKind;

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What stands in the place of a secret in a text that people see.
const BLOTTED: &str = "[hidden]";

/// Text that grants something: a token, a key, a ticket's URL. It is wiped after use, `Debug` never shows it, and two are
/// compared in a time that depends on their lengths only.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, to be sent or stored and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it holds nothing but white space.
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The same without white space around it, or nothing when nothing is left.
    pub fn trimmed(self) -> Option<Self> {
        match self.0.trim() {
            "" => None,
            text if text.len() == self.0.len() => Some(self),
            text => Some(text.into()),
        }
    }

    /// A text of others without this secret, should they have repeated it. White space around the secret does not count.
    pub fn hidden_in(&self, text: &str) -> String {
        match self.0.trim() {
            "" => text.to_owned(),
            secret => text.replace(secret, BLOTTED),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([hidden])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_goes_as_its_text() {
        let secret = Secret::from("sesame");
        assert_eq!(format!("{secret:?}"), "Secret([hidden])");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""sesame""#);
        assert_eq!(serde_json::from_str::<Secret>(r#""sesame""#).unwrap(), secret);
        assert_ne!(Secret::from("sesam"), secret);
        assert_ne!(Secret::from("sesamE"), secret);
    }

    #[test]
    fn white_space_around_a_secret_is_dropped_on_request() {
        for (text, left) in [("", None), (" \n", None), ("a", Some("a")), (" a b\n", Some("a b"))] {
            let secret = Secret::from(text);
            assert_eq!(secret.is_blank(), left.is_none(), "{text:?}");
            assert_eq!(secret.trimmed().as_ref().map(Secret::expose), left, "{text:?}");
        }
    }

    #[test]
    fn a_secret_that_others_repeat_is_hidden() {
        let repeated = "no such token: sesame (sesame)";
        assert_eq!(Secret::from("sesame\n").hidden_in(repeated), "no such token: [hidden] ([hidden])");
        assert_eq!(Secret::from(" ").hidden_in("a b"), "a b");
    }
}
