//! Section 7.1: every row of the table, and paths of any bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use codex_exec_protocol::path::LocalPath;
use codex_exec_protocol::{ErrorCode, WirePath};
use proptest::prelude::*;

fn local(bytes: &[u8]) -> WirePath {
    WirePath::Local(PathBuf::from(OsString::from_vec(bytes.to_vec())))
}

#[test]
fn both_dialects_name_the_same_paths() {
    for (text, path) in [
        ("/a/b", &b"/a/b"[..]),
        ("/a b/%41", b"/a b/%41"),
        ("/", b"/"),
        ("/a/../b", b"/a/../b"),
        ("file:///a/b", b"/a/b"),
        ("FILE:///a/b", b"/a/b"),
        ("file:/a/b", b"/a/b"),
        ("file://localhost/a/b", b"/a/b"),
        ("file://LocalHost/a/b", b"/a/b"),
        ("file:///sp%20ace%20%C3%A9", "/sp ace \u{e9}".as_bytes()),
        ("file:///\u{e9}", "/\u{e9}".as_bytes()),
        ("file:///%FF", b"/\xff"),
        ("file:///a%2Fb", b"/a/b"),
        ("file:///a%3Fb%23c", b"/a?b#c"),
        ("file:///a/./b/../c", b"/a/c"),
        ("file:///../../c", b"/c"),
        ("file:///a//b/", b"/a//b/"),
        ("file:a", b"/a"),
        ("file:///", b"/"),
        ("file:///C%3A/x", b"/C:/x"),
        ("/C:/x", b"/C:/x"),
    ] {
        assert_eq!(WirePath::parse(text), Ok(local(path)), "{text}");
    }
    // `PathBuf` equality overlooks a trailing slash.
    let WirePath::Local(kept) = WirePath::parse("file:///a/").unwrap() else { panic!("foreign") };
    assert!(kept.as_os_str().to_str().unwrap().ends_with('/'));
}

#[test]
fn what_is_no_path_does_not_decode() {
    for text in [
        "",
        "a/b",
        "~/x",
        "~",
        ".",
        "a:b",
        "file",
        "file:///a%00b",
        "/a\0b",
        "file:///a\0",
        "file:///a?q",
        "file:///a?",
        "file:///a#f",
        "file:///a#",
        "http://x/y",
        "https:///a",
        "files:///a",
        "file://user@localhost/a",
        "file://user:pw@host/a",
        "file://localhost:80/a",
        "file://host:80/a",
        " file:///a",
        "\u{e9}\u{e9}\u{e9}",
    ] {
        assert!(WirePath::parse(text).is_err(), "{text:?}");
        let json = serde_json::to_string(text).unwrap();
        assert!(serde_json::from_str::<WirePath>(&json).is_err(), "{text:?}");
    }
    for json in ["null", "5", "[]", "{}", "true"] {
        assert!(serde_json::from_str::<WirePath>(json).is_err(), "{json}");
    }
}

#[test]
fn a_foreign_path_decodes_where_it_is_refused_by_rule_and_nowhere_else() {
    for text in ["file://other/x", "file:///C:/x", "file:///c:"] {
        let path = WirePath::parse(text).unwrap();
        assert_eq!(path, WirePath::Foreign(text.into()));
        assert_eq!(path.local().unwrap_err().code, ErrorCode::INVALID_REQUEST);
        assert_eq!(serde_json::to_value(&path).unwrap(), text);
        let json = serde_json::to_string(text).unwrap();
        assert!(serde_json::from_str::<LocalPath>(&json).is_err(), "{text}");
    }
}

#[test]
fn answers_escape_everything_outside_the_unreserved_set() {
    let uri = |bytes: &[u8]| WirePath::uri_of(Path::new(&OsString::from_vec(bytes.to_vec())));
    assert_eq!(uri("/sp ace \u{e9}".as_bytes()), "file:///sp%20ace%20%C3%A9");
    assert_eq!(uri(b"/\xff"), "file:///%FF");
    assert_eq!(uri(b"/a-b.c_d~e/%?#"), "file:///a-b.c_d~e/%25%3F%23");
}

/// A path segment of any bytes; dot segments are left out because URIs do not keep them.
fn segment() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1_u8..=255, 0..12)
        .prop_map(|bytes| bytes.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect())
        .prop_filter("dot segments", |s: &Vec<u8>| s != b"." && s != b"..")
}

proptest! {
    #[test]
    fn any_absolute_path_survives_its_uri(segments in proptest::collection::vec(segment(), 1..6)) {
        let bytes: Vec<u8> = segments.iter().flat_map(|s| [&b"/"[..], s].concat()).collect();
        let path = PathBuf::from(OsString::from_vec(bytes));
        let WirePath::Local(back) = WirePath::parse(&WirePath::uri_of(&path)).unwrap() else {
            return Err(TestCaseError::fail("foreign"));
        };
        // Leading slashes may melt into one, which names the same place.
        prop_assert_eq!(back, path);
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC*") {
        let _ = WirePath::parse(&text);
    }

    #[test]
    fn no_file_uri_makes_parsing_panic_and_what_decodes_is_absolute(rest in "[ -~\\x00é%:/@?#\\\\|\\[\\]]{0,24}") {
        if let Ok(WirePath::Local(path)) = WirePath::parse(&format!("file:{rest}")) {
            prop_assert!(path.is_absolute());
        }
    }
}
