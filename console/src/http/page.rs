//! The page and its files. They are the same for everybody, and tell nothing.

use axum::extract::Path;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use crate::assets;

pub(super) async fn page() -> Response {
    // xterm.js makes style elements of its own, which need the nonce, and sets style attributes.
    let nonce = hex::encode(rand::random::<[u8; 16]>());
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; \
         img-src 'self' data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8".to_owned()), (CONTENT_SECURITY_POLICY, policy)];
    (headers, assets::PAGE.replace("{{nonce}}", &nonce)).into_response()
}

pub(super) async fn asset(Path(path): Path<String>) -> Result<Response, Refusal> {
    let asset = assets::find(&path).ok_or_else(|| Refusal::not_found("the page has no such file"))?;
    Ok(([(CONTENT_TYPE, asset.kind)], asset.bytes).into_response())
}
