//! Says what went wrong without saying a secret: URLs may hold passwords and tokens.

use reqwest::Url;
use reqwest::header::HeaderValue;

/// The whole chain of causes as one sentence, without the URL.
pub(super) fn sentence(error: reqwest::Error) -> String {
    codex_outgoing::sentence(&error.without_url())
}

/// What an error may show of a URL: no user info, no query, no fragment.
pub(super) fn shown(url: &Url) -> String {
    let mut url = without_user_info(url.clone());
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// The URL as it is asked for.
pub(super) fn without_user_info(mut url: Url) -> Url {
    // Both fail only for URLs without a host, which have no user info either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// The basic-auth value of a URL's user info.
pub(super) fn user_info(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let mut pair = decode(url.username());
    pair.push(b':');
    pair.extend(decode(url.password().unwrap_or("")));
    let mut text = b"Basic ".to_vec();
    codex_exec_protocol::bytes::append(&pair, &mut text);
    let mut value = HeaderValue::from_bytes(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether the peer ended the connection instead of an answer.
pub(super) fn hung_up(error: &reqwest::Error) -> bool {
    use std::error::Error as _;
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};

    if error.is_connect() || error.is_timeout() {
        return false;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        let closed = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let broke = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof));
        if closed || broke {
            return true;
        }
        cause = error.source();
    }
    false
}
