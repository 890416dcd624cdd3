//! `auth.json` and the claims of tokens (login.md 2, 4): what is read is written and read again as it was, unknown members
//! included, and no error or `Debug` repeats what the document held.
#![cfg_attr(fuzzing, no_main)]

use codex_fuzz::target;
use codex_login::StoredCredentials;
use codex_login::claims::{self, IdClaims};

target!(|input: &[u8]| {
    let payload = base64_simd::URL_SAFE_NO_PAD.encode_to_string(input);
    let jwt = format!("h.{payload}.s");
    let _ = IdClaims::read(&jwt);
    let _ = claims::access_expiry(&jwt);
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = IdClaims::read(text);
        let _ = claims::access_expiry(text);
    }
    let Ok(credentials) = StoredCredentials::from_json(input) else { return };
    for written in [credentials.to_pretty_json(), credentials.to_compact_json()] {
        let written = written.expect("credentials can be written");
        let again = StoredCredentials::from_json(&written).expect("and read again");
        assert!(again.same_secrets(&credentials) && again.kind() == credentials.kind());
        assert_eq!(again.last_refresh(), credentials.last_refresh());
        assert_eq!(again.has_agent_identity(), credentials.has_agent_identity());
        let members =
            |json: &[u8]| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json);
        let (before, after) = (members(input), members(&written).expect("an object"));
        // What serde_json's plain reading refuses, such as a number out of range, has nothing to compare.
        for (name, _) in before.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            assert!(after.contains_key(&name), "{name} was lost");
        }
    }
    let shown = format!("{credentials:?}");
    for secret in [credentials.api_key(), credentials.personal_access_token()].into_iter().flatten() {
        let secret = secret.expose();
        assert!(secret.len() < 16 || !shown.contains(secret), "Debug shows a secret");
    }
});
