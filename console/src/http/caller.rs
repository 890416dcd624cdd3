//! Who asks: the grant behind the session's cookie.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use axum::http::request::Parts;

use super::refusal::Refusal;
use crate::access::{Grant, Role};
use crate::app::App;

/// Somebody who is signed in.
pub(super) struct Caller(pub(super) Arc<Grant>);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let key = key_in(app, &parts.headers).ok_or_else(Refusal::signed_out)?;
        app.access.caller(key, Instant::now()).map(Self).ok_or_else(Refusal::signed_out)
    }
}

/// The key of a session, from whichever of the cookie headers.
fn key_in<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    headers.get_all(COOKIE).iter().find_map(|cookies| app.site.key_in(cookies.to_str().ok()?))
}

impl Caller {
    /// May see something of this environment.
    pub(super) fn reaches(&self, environment: &str) -> Result<(), Refusal> {
        // As if it was not there.
        let unknown =
            || Refusal::not_found(format!("there is no environment {environment:?} that you may see"));
        self.0.reaches(environment).then_some(()).ok_or_else(unknown)
    }

    /// May use the whole of this environment in this role.
    pub(super) fn covers(&self, environment: &str, role: Role, what: &str) -> Result<(), Refusal> {
        self.reaches(environment)?;
        match self.0.covers(environment) && self.0.role >= role {
            true => Ok(()),
            false => Err(Refusal::forbidden(what)),
        }
    }

    /// May see this process, and act on it if the role is such.
    pub(super) fn sees(
        &self,
        environment: &str,
        session: &str,
        process: &str,
        role: Role,
    ) -> Result<(), Refusal> {
        if !self.0.sees(environment, session, process) {
            return Err(Refusal::not_found(format!("there is no process {process:?} that you may see")));
        }
        match self.0.role >= role {
            true => Ok(()),
            false => Err(Refusal::forbidden("more than to look")),
        }
    }

    /// Owns the console.
    pub(super) fn owns(&self, what: &str) -> Result<(), Refusal> {
        match self.0.role {
            Role::Own => Ok(()),
            _ => Err(Refusal::forbidden(what)),
        }
    }
}
