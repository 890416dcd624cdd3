//! The header that carries a token.

use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// The value of an `authorization` header with this token, marked as sensitive.
///
/// # Errors
/// The token holds characters that a header can't carry.
pub(crate) fn header(token: &str) -> Result<HeaderValue, &'static str> {
    let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {token}")))
        .map_err(|_| "the bearer token holds characters that a header can't carry")?;
    value.set_sensitive(true);
    Ok(value)
}
