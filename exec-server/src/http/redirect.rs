//! Follows redirects, and keeps secrets in the origin that they were meant for.
//!
//! The library would send a header of the client's own anywhere, and the whole address as `referer`.

use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, LOCATION,
    PROXY_AUTHORIZATION, REFERER, TRANSFER_ENCODING,
};
use reqwest::{Method, Request, Response, StatusCode, Url};

use super::failure;

/// Headers about a body.
const OF_BODIES: [HeaderName; 4] = [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING];
/// Headers that are secrets by name, whoever set them.
const SECRETS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// The request that `response` leads to; `sent` is the one that it answers. None if it leads nowhere.
///
/// # Errors
/// It leads to an address that is not HTTP, or the body can't be sent twice.
pub(super) fn next(sent: &Request, response: &Response) -> Result<Option<Request>, String> {
    let status = response.status();
    let Some(url) = target(sent.url(), response) else { return Ok(None) };
    let (method, keeps_body) = match (status, sent.method()) {
        (StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND, method) if *method != Method::POST => {
            (method.clone(), true)
        }
        (StatusCode::SEE_OTHER, &Method::HEAD) => (Method::HEAD, false),
        (StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER, _) => {
            (Method::GET, false)
        }
        (StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT, method) => (method.clone(), true),
        _ => return Ok(None),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("error following redirect: URL scheme is not allowed".into());
    }
    let mut next = sent.try_clone().ok_or("error following redirect: the body can't be sent again")?;
    *next.method_mut() = method;
    if !keeps_body {
        *next.body_mut() = None;
        for name in OF_BODIES {
            next.headers_mut().remove(name);
        }
    }
    let same_origin = url.origin() == sent.url().origin();
    if !same_origin {
        let headers = next.headers_mut();
        let secret: Vec<HeaderName> = headers
            .iter()
            .filter(|(name, value)| value.is_sensitive() || SECRETS.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in secret {
            headers.remove(name);
        }
    }
    next.headers_mut().remove(REFERER);
    if let Some(referer) = referer(sent.url(), &url, same_origin) {
        next.headers_mut().insert(REFERER, referer);
    }
    *next.url_mut() = url;
    Ok(Some(next))
}

fn target(from: &Url, response: &Response) -> Option<Url> {
    let location = response.headers().get(LOCATION)?;
    let mut url = from.join(std::str::from_utf8(location.as_bytes()).ok()?).ok()?;
    if url.fragment().is_none() {
        url.set_fragment(from.fragment());
    }
    Some(url)
}

/// Where we come from: elsewhere only the origin is told, and nothing to whom anybody on the way can read.
fn referer(from: &Url, to: &Url, same_origin: bool) -> Option<HeaderValue> {
    if from.scheme() == "https" && to.scheme() == "http" {
        return None;
    }
    let mut shown = failure::without_user_info(from.clone());
    shown.set_fragment(None);
    if !same_origin {
        shown.set_path("/");
        shown.set_query(None);
    }
    shown.as_str().parse().ok()
}
