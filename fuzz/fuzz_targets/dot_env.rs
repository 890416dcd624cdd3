//! `.env` in the home directory (login.md 1.1): what is given can be set, and stays in proportion.
#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use codex_fuzz::target;

static DIR: LazyLock<tempfile::TempDir> = LazyLock::new(codex_fuzz::directory);

target!(|input: &[u8]| {
    std::fs::write(DIR.path().join(".env"), input).expect("a file");
    for (name, value) in codex_config::home::dot_env(DIR.path()) {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
        assert!(!name.starts_with("CODEX_"));
        assert!(value.len() <= 64 << 20);
    }
});
