//! `codex login status`: who is signed in, told without a refresh and, except for a personal token and a workload's identity, without
//! a request.

use codex_login::SignInKind;

use super::context::Context;
use super::refusal::Refusal;
use crate::output;
use crate::setup::Setup;

/// Keys up to this length are not shown at all.
const HIDDEN_CHARS: usize = 13;
/// What is shown of a longer one.
const FIRST_CHARS: usize = 8;
const LAST_CHARS: usize = 5;

pub(super) async fn status(setup: &Setup) -> Result<u8, Refusal> {
    let context = Context::load_unlogged(setup)?;
    let auth = codex_login::load(&context.settings)
        .await
        .map_err(|error| Refusal::new(format!("Error checking login status: {error}")))?
        .ok_or_else(|| Refusal::new("Not logged in"))?;
    match auth.kind() {
        SignInKind::ApiKey => {
            let key = auth.bearer().map(|key| masked(key.expose())).unwrap_or_default();
            output::note(&format!("API key configured - {key}"));
            output::note("Authentication is checked when you send a request.");
        }
        SignInKind::PersonalAccessToken => output::note("Logged in using personal access token"),
        SignInKind::WorkloadIdentity => output::note("Logged in using workload identity"),
        // The others are not loaded at all.
        _ => output::note("Logged in using ChatGPT"),
    }
    Ok(0)
}

/// Enough of a key to recognise it, by characters: a key that is no ASCII must not break anything.
fn masked(key: &str) -> String {
    let count = key.chars().count();
    if count <= HIDDEN_CHARS {
        return "***".to_owned();
    }
    let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let first: String = key.chars().take(FIRST_CHARS).map(harmless).collect();
    let last: String = key.chars().skip(count - LAST_CHARS).map(harmless).collect();
    format!("{first}***{last}")
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn a_key_is_masked_by_characters() {
        let cases = [
            ("", "***"),
            ("sk-1234567890", "***"),
            ("sk-12345678901", "sk-12345***78901"),
            ("sk-proj-1234567890ABCDE", "sk-proj-***ABCDE"),
            ("ééééééééééééé", "***"),
            ("éééééééééééééü", "éééééééé***ééééü"),
            ("🗝🗝🗝🗝🗝🗝🗝🗝abcdefgh", "🗝🗝🗝🗝🗝🗝🗝🗝***defgh"),
            ("\x1b[31mabcdefghijkl", "\u{fffd}[31mabc***hijkl"),
        ];
        for (key, expected) in cases {
            assert_eq!(masked(key), expected, "{key:?}");
        }
    }
}
