//! Paths in both dialects (7.1): what is taken comes back as it was, but for `.` and `..`.
#![cfg_attr(fuzzing, no_main)]

use codex_exec_protocol::WirePath;
use codex_fuzz::target;

target!(|text: &str| {
    let Ok(path) = WirePath::parse(text) else { return };
    if let WirePath::Local(local) = &path {
        assert!(local.is_absolute(), "{local:?}");
        let written = serde_json::to_value(&path).expect("a path can be written");
        let again = WirePath::parse(written.as_str().expect("as text")).expect("and read again");
        // A URI is normalised when it is read (7.1); a native path is not.
        let dots = local
            .as_os_str()
            .as_encoded_bytes()
            .split(|byte| *byte == b'/')
            .any(|name| matches!(name, b"." | b".."));
        assert!(again == path || dots, "{again:?}");
    }
});
