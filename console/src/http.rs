//! What browsers ask for: the page, and what it asks the console.

mod body;
mod caller;
mod environments;
mod files;
mod forwards;
mod guard;
mod links;
mod output;
mod page;
mod processes;
mod refusal;
mod session;
mod terminal;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

use crate::app::App;
use refusal::Refusal;

/// Largest body that is no file. A safeguard, far from any real use.
const LARGEST_BODY: usize = 64 << 10;

/// Everything that the console answers.
pub(crate) fn routes(app: Arc<App>) -> Router {
    let process = "/api/environments/{environment}/processes/{session}/{process}";
    let log = "/api/environments/{environment}/logs/{log}";
    let of_process = |end: &str| format!("{process}{end}");
    let of_log = |end: &str| format!("{log}{end}");
    Router::new()
        .route("/", get(page::page))
        .route("/page/{*path}", get(page::asset))
        .route("/api/session", get(session::who).post(session::sign_in).delete(session::sign_out))
        .route("/api/links", get(links::list).post(links::make))
        .route("/api/links/{id}", delete(links::revoke))
        .route("/api/environments", get(environments::list))
        .route("/api/environments/{environment}", get(environments::describe))
        .route("/api/environments/{environment}/connection", post(environments::describe))
        .route("/api/environments/{environment}/processes", get(processes::list).post(processes::start))
        .route(&of_process("/signal"), post(processes::signal))
        .route(&of_process("/terminal"), get(terminal::open))
        .route(&of_process("/output"), get(output::of_process))
        .route(&of_process("/output/search"), get(output::search_process))
        .route(&of_process("/output/download"), get(output::download_process))
        .route("/api/environments/{environment}/logs", get(output::logs))
        .route(&of_log("/output"), get(output::of_log))
        .route(&of_log("/output/search"), get(output::search_log))
        .route(&of_log("/output/download"), get(output::download_log))
        .route("/api/environments/{environment}/directory", get(files::list))
        .route("/api/environments/{environment}/file", get(files::download).put(files::upload))
        .route("/api/forwards", get(forwards::list).post(forwards::start))
        .route("/api/forwards/{id}", delete(forwards::stop))
        .fallback(async || Refusal::not_found("there is no such address here"))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}
