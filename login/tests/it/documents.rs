//! Example documents of every mode are read, and written again as they were, unknown members included.

use crate::support::Home;
use codex_config::StoreMode;
use codex_login::{SignInKind, StoredCredentials};
use serde_json::Value;

/// A document, its mode, and whether it is written byte for byte as it was read. The others lack a member that is
/// always written.
const DOCUMENTS: [(&str, SignInKind, bool); 14] = [
    (include_str!("documents/apikey.json"), SignInKind::ApiKey, true),
    (include_str!("documents/apikey-0.131-bare.json"), SignInKind::ApiKey, true),
    (include_str!("documents/chatgpt.json"), SignInKind::Chatgpt, true),
    (include_str!("documents/chatgpt-0.131.json"), SignInKind::Chatgpt, true),
    (include_str!("documents/chatgpt-unknown-members.json"), SignInKind::Chatgpt, true),
    (include_str!("documents/chatgpt-auth-tokens.json"), SignInKind::ChatgptAuthTokens, true),
    (include_str!("documents/personal-access-token.json"), SignInKind::PersonalAccessToken, true),
    (include_str!("documents/personal-access-token-named.json"), SignInKind::PersonalAccessToken, true),
    (include_str!("documents/agent-identity-jwt.json"), SignInKind::AgentIdentity, true),
    (include_str!("documents/agent-identity-object.json"), SignInKind::AgentIdentity, true),
    (include_str!("documents/bedrock-api-key.json"), SignInKind::BedrockApiKey, true),
    (include_str!("documents/bedrock-access-keys.json"), SignInKind::BedrockAccessKeys, true),
    (include_str!("documents/headers.json"), SignInKind::Headers, true),
    (include_str!("documents/empty.json"), SignInKind::Chatgpt, false),
];

#[test]
fn a_document_of_every_mode_is_written_as_it_was_read() {
    for (document, mode, exact) in DOCUMENTS {
        let home = Home::new();
        std::fs::write(home.file(), document).unwrap();
        let read = home.store(StoreMode::File).load().unwrap().unwrap();
        assert_eq!(read.kind(), mode, "{document}");
        if mode != SignInKind::ChatgptAuthTokens {
            home.store(StoreMode::File).save(&read).unwrap();
        }
        let written = std::fs::read_to_string(home.file()).unwrap();
        if exact {
            assert_eq!(written, document);
        }
        assert_eq!(read.to_pretty_json().unwrap().as_slice(), written.as_bytes());
    }
}

#[test]
fn a_keyring_payload_is_the_same_document_without_white_space() {
    for (document, mode, _) in DOCUMENTS {
        let compact = StoredCredentials::from_json(document.as_bytes()).unwrap().to_compact_json().unwrap();
        let text = std::str::from_utf8(&compact).unwrap();
        assert!(!text.contains('\n') && !text.contains("\": "), "{text}");
        let again = StoredCredentials::from_json(&compact).unwrap();
        assert_eq!(again.kind(), mode);
        assert_eq!(
            serde_json::from_slice::<Value>(&again.to_pretty_json().unwrap()).unwrap(),
            serde_json::from_slice::<Value>(&compact).unwrap()
        );
    }
}
