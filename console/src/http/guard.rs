//! What holds for every request and every answer: only our own page asks, and a browser keeps to what the page needs.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use crate::app::App;

/// For all that is no page: if a browser shows it, nothing in it runs.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'");

/// Applies to every request.
pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // The query may name files, and the head holds the cookie: neither is logged.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = match refused(&app, &request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    tracing::debug!(%method, %path, status = answer.status().as_u16(), "answered");
    let headers = answer.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        (CONTENT_SECURITY_POLICY, NOTHING),
    ] {
        headers.entry(name).or_insert(value);
    }
    answer
}

/// A name that leads here from elsewhere is a trick (DNS rebinding), and so is another site's page.
fn refused(app: &App, request: &Request) -> Option<Refusal> {
    let headers = request.headers();
    let host = text(headers, &HOST).unwrap_or_default();
    if !app.site.knows_host(host) {
        let message = format!("this console is not found under that name; its address is {}", app.site.url());
        return Some(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "host", message));
    }
    let other_site = || {
        let message = "only the console's own page may ask this";
        Some(Refusal::new(StatusCode::FORBIDDEN, "origin", message))
    };
    let acts = !matches!(*request.method(), Method::GET | Method::HEAD) || headers.contains_key(UPGRADE);
    match (headers.contains_key(ORIGIN), text(headers, &ORIGIN)) {
        (true, Some(origin)) if app.site.knows_origin(origin) => {}
        (true, _) => return other_site(),
        // Browsers name the origin of whatever acts.
        (false, _) if acts => return other_site(),
        (false, _) => {}
    }
    // The page itself may be opened from anywhere, what it asks may not.
    let from = text(headers, &HeaderName::from_static("sec-fetch-site")).unwrap_or("same-origin");
    match request.uri().path().starts_with("/api/") && !matches!(from, "same-origin" | "none") {
        true => other_site(),
        false => None,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
