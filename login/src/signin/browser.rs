//! The browser flow: sends the user's browser to the issuer and serves the callback it comes back with (login.md 8.3).
//!
//! Three phases: wait for a callback with our state; exchange its code and save; wait until the browser fetched the
//! last page. Other visits are answered in each of them, so that a second tab or a second sign-in is never left waiting.

use std::fmt::Display;
use std::pin::pin;

use codex_secret::Secret;
use hyper::{StatusCode, Uri};
use url::form_urlencoded;

use super::authorize::Attempt;
use super::server::{CallbackServer, Reply, Visit};
use super::{Failure, Notice, SignIn, SignInError, SignedIn, answer, exchange, pages, port, token};

/// What only the browser flow needs.
#[derive(Debug, Clone)]
pub struct Browser {
    /// Ports for the callback, tried in this order; the released program's are [`super::PORTS`]. 0 is any free port.
    pub ports: Vec<u16>,
    /// Who asks, in the authorize URL (`codex_cli_rs`, login.md 8.3).
    pub originator: String,
}

/// Signs in by browser. `tell` shows the user where to go (and may open a browser; it must not block), `save` keeps
/// the credentials. Returns when the browser has fetched the page that says so.
///
/// Cancel-safe until `save` is called; dropping the future ends the callback server.
///
/// # Errors
/// See [`SignInError`]; nothing is saved then, unless somebody cancelled between the save and the last page.
pub async fn sign_in_by_browser<E: Display>(
    sign_in: &SignIn,
    browser: &Browser,
    mut tell: impl FnMut(Notice<'_>),
    save: impl AsyncFnOnce(SignedIn) -> Result<(), E>,
) -> Result<(), SignInError> {
    let listener = port::listen(&browser.ports).await?;
    let port = listener.local_addr().map_err(|cause| SignInError::Listen { port: 0, cause })?.port();
    let attempt = Attempt::new(&sign_in.issuer, port, &browser.originator, sign_in.workspaces.as_deref())?;
    let server = CallbackServer::start(listener);
    tracing::info!(port, "waiting for the browser");
    tell(Notice::Visit { port, url: &attempt.url });
    let mut flow = Flow { sign_in, attempt, port, server };
    let outcome = flow.run(tell, save).await;
    flow.server.finish().await;
    outcome
}

struct Flow<'a> {
    sign_in: &'a SignIn,
    attempt: Attempt,
    port: u16,
    server: CallbackServer,
}

impl Flow<'_> {
    async fn run<E: Display>(
        &mut self,
        tell: impl FnMut(Notice<'_>),
        save: impl AsyncFnOnce(SignedIn) -> Result<(), E>,
    ) -> Result<(), SignInError> {
        let (visit, code) = self.callback().await?;
        let mut waiting = vec![visit];
        let finished = match self.exchange(&code, &mut waiting).await? {
            Ok(signed_in) => self.keep(signed_in, tell, save).await,
            Err(failure) => Err(failure),
        };
        let reply = match &finished {
            Ok(last_page) => Reply::Redirect(last_page.clone()),
            Err(failure) => Reply::Page(pages::failure(failure)),
        };
        for visit in waiting {
            visit.answer(reply.clone());
        }
        match finished {
            Ok(last_page) => self.last_page(&last_page).await,
            Err(failure) => Err(SignInError::Failed(failure)),
        }
    }

    /// Waits for the callback that brings a code.
    async fn callback(&mut self) -> Result<(Visit, Secret), SignInError> {
        loop {
            let visit = self.server.next().await;
            match self.route(&visit.uri) {
                Route::Callback(Ok(code)) => return Ok((visit, code)),
                Route::Callback(Err(failure)) => {
                    visit.answer(Reply::Page(pages::failure(&failure)));
                    return Err(SignInError::Failed(failure));
                }
                // Before the save, "signed in" would be a lie that any web page could make us tell.
                Route::Success => visit.answer(NOT_FOUND),
                Route::Cancel => return Err(cancelled(visit)),
                Route::Elsewhere(reply) => visit.answer(reply),
            }
        }
    }

    /// Exchanges the code. Another tab that comes with our state waits in `waiting` for the same answer: a code is
    /// good for one exchange. As many can wait as the server has connections.
    async fn exchange(
        &mut self,
        code: &Secret,
        waiting: &mut Vec<Visit>,
    ) -> Result<Result<SignedIn, Failure>, SignInError> {
        let (sign_in, attempt) = (self.sign_in, &self.attempt);
        let mut tokens = pin!(tokens(sign_in, attempt, code));
        loop {
            let visit = tokio::select! {
                outcome = tokens.as_mut() => return Ok(outcome),
                visit = self.server.next() => visit,
            };
            match route(attempt, &visit.uri) {
                Route::Callback(_) => waiting.push(visit),
                Route::Success => visit.answer(NOT_FOUND),
                Route::Cancel => return Err(cancelled(visit)),
                Route::Elsewhere(reply) => visit.answer(reply),
            }
        }
    }

    /// Saves what was exchanged and gives the URL of the last page. Not interrupted by visits: it is saved or not.
    async fn keep<E: Display>(
        &self,
        signed_in: SignedIn,
        mut tell: impl FnMut(Notice<'_>),
        save: impl AsyncFnOnce(SignedIn) -> Result<(), E>,
    ) -> Result<String, Failure> {
        let claims = token::check(&signed_in, self.sign_in.workspaces.as_deref())?;
        let query = token::success_query(&signed_in, &self.sign_in.issuer);
        save(signed_in).await.map_err(|error| Failure::Persist(error.to_string()))?;
        tracing::info!("signed in by browser");
        if !claims.has_account_claims {
            tell(Notice::NoAuthClaims);
        }
        Ok(format!("http://127.0.0.1:{}/success?{query}", self.port))
    }

    /// Waits until the last page was fetched.
    async fn last_page(&mut self, url: &str) -> Result<(), SignInError> {
        loop {
            let visit = self.server.next().await;
            match self.route(&visit.uri) {
                Route::Callback(_) => visit.answer(Reply::Redirect(url.to_owned())),
                Route::Success => {
                    visit.answer(Reply::Page(pages::success()));
                    return Ok(());
                }
                Route::Cancel => return Err(cancelled(visit)),
                Route::Elsewhere(reply) => visit.answer(reply),
            }
        }
    }

    fn route(&self, uri: &Uri) -> Route {
        route(&self.attempt, uri)
    }
}

/// Exchanges the code and, if the account may sign in, the id token for an API key.
async fn tokens(sign_in: &SignIn, attempt: &Attempt, code: &Secret) -> Result<SignedIn, Failure> {
    let mut signed_in = exchange::code_for_tokens(sign_in, code, &attempt.redirect_uri, &attempt.verifier)
        .await
        .map_err(|error| Failure::Exchange(error.to_string()))?;
    token::check(&signed_in, sign_in.workspaces.as_deref())?;
    signed_in.api_key = exchange::id_token_for_key(sign_in, &signed_in.id_token).await;
    Ok(signed_in)
}

const NOT_FOUND: Reply = Reply::Text(StatusCode::NOT_FOUND, "Not Found");

fn cancelled(visit: Visit) -> SignInError {
    visit.answer(Reply::Text(StatusCode::OK, "Login cancelled"));
    SignInError::Cancelled
}

/// What a request is about.
pub(super) enum Route {
    /// The issuer's redirect, with our state: a code, or why there is none.
    Callback(Result<Secret, Failure>),
    Success,
    Cancel,
    /// Nothing that changes the flow.
    Elsewhere(Reply),
}

pub(super) fn route(attempt: &Attempt, uri: &Uri) -> Route {
    match uri.path() {
        "/auth/callback" => callback(attempt, uri.query().unwrap_or_default()),
        "/success" => Route::Success,
        "/cancel" => Route::Cancel,
        _ => Route::Elsewhere(NOT_FOUND),
    }
}

/// Reads a callback's query; the state is compared before anything else is looked at.
fn callback(attempt: &Attempt, query: &str) -> Route {
    let parameter = |name: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    if !parameter("state").is_some_and(|state| Secret::from(state) == attempt.state) {
        tracing::info!("a callback came with a wrong state");
        return Route::Elsewhere(Reply::Text(StatusCode::BAD_REQUEST, "State mismatch"));
    }
    Route::Callback(match (parameter("error"), parameter("code").filter(|code| !code.is_empty())) {
        (Some(error), _) => Err(refusal(&error, parameter("error_description"))),
        (None, Some(code)) => Ok(code.into()),
        (None, None) => Err(Failure::NoCode),
    })
}

fn refusal(code: &str, description: Option<String>) -> Failure {
    let description = description.filter(|text| !text.is_empty()).map(|text| answer::printable(&text, &[]));
    match description {
        Some(description) if code == "access_denied" && description.contains("missing_codex_entitlement") => {
            Failure::NotEntitled { description }
        }
        description => Failure::Refused { code: answer::printable(code, &[]), description },
    }
}
