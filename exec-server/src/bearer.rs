//! A bearer token as a client is given it.

use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// A bearer token: never shown, wiped after use.
#[derive(Clone)]
pub struct Bearer(Zeroizing<String>);

impl Bearer {
    /// Takes the token's text.
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }

    /// The value of an `authorization` header, marked as sensitive.
    pub(crate) fn header(&self) -> Result<HeaderValue, String> {
        let mut value = HeaderValue::try_from(Zeroizing::new(format!("Bearer {}", self.0.trim())).as_str())
            .map_err(|_| "the bearer token holds characters that a header can't carry")?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// A text of others without this token, should they have repeated it.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        match self.0.trim() {
            "" => text.to_owned(),
            token => text.replace(token, "[hidden]"),
        }
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(hidden)")
    }
}
