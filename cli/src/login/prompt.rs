//! What the user is told while a sign-in waits.

use crate::output;

const BLUE: &str = "\x1b[94m";
const GREY: &str = "\x1b[90m";
const PLAIN: &str = "\x1b[0m";

/// Where to go with the browser (login.md 8.3), on stderr.
pub(super) fn visit(port: u16, url: &str) {
    output::note(&format!(
        "Starting local login server on http://localhost:{port}.\n\
         If your browser did not open, navigate to this URL to authenticate:\n\n\
         {url}\n\n\
         On a remote or headless machine? Use `codex login --device-auth` instead."
    ));
}

/// Where to enter which code (login.md 8.5), on stdout; in colours also when piped, as released programs have it.
pub(super) fn enter_code(page: &str, code: &str) {
    let prompt = format!(
        "\nWelcome to Codex [v{GREY}{version}{PLAIN}]\n\n\
         To sign in with ChatGPT on this machine:\n\n\
         1. Open this page in a browser, on any device, and sign in\n   {BLUE}{page}{PLAIN}\n\n\
         2. Enter this one-time code {GREY}(expires in 15 minutes){PLAIN}\n   {BLUE}{code}{PLAIN}\n\n\
         {GREY}Whoever has you enter a code signs in as you: never share this one, and never enter one that you\n\
         did not ask for yourself. Waiting for the code to be entered; Ctrl-C gives up.{PLAIN}\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    // Without a stdout nobody sees the code, and the wait ends by itself.
    let _ = output::line(&prompt);
}

/// The sign-in lacks the claims that tell the account.
pub(super) fn no_auth_claims() {
    output::note(
        "Warning: the ID token has no https://api.openai.com/auth claims, so the account and its plan are not known.",
    );
}
