//! Files, directories and metadata (10.1 to 10.6).

use std::io;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use super::{Fixture, limits, read_file, run, shown, write_file};
use crate::filesystem::cached::metadata_if_cached;
use crate::filesystem::*;
use crate::protocol::ErrorCode;
use crate::protocol::filesystem::*;
use crate::sandbox::files::FileHelpers;

#[test]
fn system_errors_map_to_codes_by_kind() {
    let cases = [
        (libc::ENOENT, ErrorCode::NOT_FOUND),
        (libc::EINVAL, ErrorCode::INVALID_REQUEST),
        (libc::EACCES, ErrorCode::INVALID_REQUEST),
        (libc::EPERM, ErrorCode::INVALID_REQUEST),
        (libc::ENOTDIR, ErrorCode::INTERNAL),
        (libc::EISDIR, ErrorCode::INTERNAL),
        (libc::EEXIST, ErrorCode::INTERNAL),
        (libc::ENOTEMPTY, ErrorCode::INTERNAL),
        (libc::EROFS, ErrorCode::INTERNAL),
        (libc::ELOOP, ErrorCode::INTERNAL),
        (libc::EBADF, ErrorCode::INTERNAL),
        (libc::EIO, ErrorCode::INTERNAL),
        (libc::ENAMETOOLONG, ErrorCode::INTERNAL),
    ];
    for (errno, code) in cases {
        assert_eq!(rpc_error(io::Error::from_raw_os_error(errno)).code, code, "errno {errno}");
    }
    let text = rpc_error(io::Error::from_raw_os_error(libc::ENOENT)).message;
    assert_eq!(text, "No such file or directory (os error 2)");
}

#[test]
fn read_file_answers_as_the_spec_says() {
    let at = Fixture::new();
    std::fs::write(at.path("empty"), "").unwrap();
    std::os::unix::fs::symlink("loop", at.path("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at.path("socket")).unwrap();
    let hello = json!({"dataBase64": "aGVsbG8K"});
    let cases = [
        (json!({"path": "a.txt"}), hello.clone()),
        (json!({"path": "a.txt/"}), hello.clone()),
        (json!({"path": "link"}), hello.clone()),
        (json!({"path": "link", "followSymlinks": null}), hello.clone()),
        (json!({"path": "a.txt", "followSymlinks": false}), hello),
        (json!({"path": "empty"}), json!({"dataBase64": ""})),
        (json!({"path": "dangling"}), json!(-32004)),
        (json!({"path": "missing"}), json!(-32004)),
        (json!({"path": "sub"}), json!(-32600)),
        (json!({"path": "fifo"}), json!(-32600)),
        (json!({"path": "socket"}), json!(-32600)),
        (json!({"path": "/dev/null"}), json!(-32600)),
        (json!({"path": "/"}), json!(-32600)),
        (json!({"path": "a.txt/x"}), json!(-32603)),
        (json!({"path": "loop"}), json!(-32603)),
        (json!({"path": "link", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "dangling", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "dlink/x", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "fifo", "followSymlinks": false}), json!(-32600)),
        (json!({"path": "missing", "followSymlinks": false}), json!(-32004)),
    ];
    for (params, wanted) in cases {
        assert_eq!(shown(read_file(&at.params(params.clone()), &limits())), wanted, "{params}");
    }
    let error = read_file(&at.params(json!({"path": "dlink/x", "followSymlinks": false})), &limits());
    assert_eq!(error.unwrap_err().message, "Not a directory (os error 20)");
}

#[test]
fn a_file_of_any_size_is_read_whole_up_to_the_limit() {
    let at = Fixture::new();
    for size in [1, 4095, 65_536, 65_537, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|byte| (byte % 251) as u8).collect();
        std::fs::write(at.path("big"), &bytes).unwrap();
        let params = at.params(json!({"path": "big"}));
        assert!(read_file(&params, &limits()).unwrap().data.0 == bytes);
        let exact = limits().with(|limits| limits.files.read_file_bytes = size as u64);
        assert!(read_file(&params, &exact).is_ok());
        let less = limits().with(|limits| limits.files.read_file_bytes = size as u64 - 1);
        assert_eq!(read_file(&params, &less).unwrap_err().code, ErrorCode::INVALID_REQUEST);
    }
}

#[test]
fn a_proc_file_of_size_0_is_read_whole_and_bounded() {
    let at = Fixture::new();
    let params = at.params(json!({"path": "/proc/self/status"}));
    let data = read_file(&params, &limits()).unwrap().data.0;
    assert!(String::from_utf8(data).unwrap().contains("Pid:"));
    let less = limits().with(|limits| limits.files.read_file_bytes = 10);
    assert_eq!(read_file(&params, &less).unwrap_err().code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn write_file_answers_as_the_spec_says() {
    let at = Fixture::new();
    let cases = [
        (json!({"path": "new", "dataBase64": "ZGF0YQ=="}), json!({})),
        (json!({"path": "new", "dataBase64": "ZDI="}), json!({})),
        (json!({"path": "empty", "dataBase64": ""}), json!({})),
        (json!({"path": "link", "dataBase64": "dmlh"}), json!({})),
        (json!({"path": "/dev/null", "dataBase64": "dmlh"}), json!({})),
        (json!({"path": "no/such", "dataBase64": "eA=="}), json!(-32004)),
        (json!({"path": "sub", "dataBase64": "eA=="}), json!(-32603)),
        (json!({"path": "fifo", "dataBase64": "eA=="}), json!(-32600)),
        (json!({"path": "bb", "dataBase64": "@@"}), json!(-32600)),
        (json!({"path": "bb", "dataBase64": "YQ"}), json!(-32600)),
        (json!({"path": "bb", "dataBase64": "YQ==\n"}), json!(-32600)),
        (json!({"path": "link", "dataBase64": "bmY=", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "dlink/n", "dataBase64": "bmY=", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "sub/n", "dataBase64": "bmY=", "followSymlinks": false}), json!({})),
    ];
    for (params, wanted) in cases {
        assert_eq!(shown(write_file(&at.params(params.clone()))), wanted, "{params}");
    }
    assert_eq!(std::fs::read(at.path("new")).unwrap(), b"d2");
    assert_eq!(std::fs::read(at.path("a.txt")).unwrap(), b"via");
    assert_eq!(std::fs::read(at.path("sub/n")).unwrap(), b"nf");
    assert!(!at.path("bb").exists());
}

#[test]
fn create_directory_answers_as_the_spec_says() {
    let at = Fixture::new();
    let cases = [
        (json!({"path": "d1"}), json!({})),
        (json!({"path": "d1"}), json!({})),
        (json!({"path": "d2/e", "recursive": null}), json!({})),
        (json!({"path": "d5/e/f", "recursive": true}), json!({})),
        (json!({"path": "dlink"}), json!({})),
        (json!({"path": "d4/e", "recursive": false}), json!(-32004)),
        (json!({"path": "d1", "recursive": false}), json!(-32603)),
        (json!({"path": "a.txt"}), json!(-32603)),
        (json!({"path": "a.txt/x"}), json!(-32603)),
        (json!({"path": "d6/e/f", "followSymlinks": false}), json!({})),
        (json!({"path": "d6/e/f", "followSymlinks": false}), json!({})),
        (json!({"path": "d6/g", "recursive": false, "followSymlinks": false}), json!({})),
        (json!({"path": "dlink/new", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "dlink/new", "recursive": false, "followSymlinks": false}), json!(-32603)),
        (json!({"path": "dlink", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "a.txt", "followSymlinks": false}), json!(-32603)),
        (json!({"path": "a.txt/x", "followSymlinks": false}), json!(-32603)),
    ];
    for (params, wanted) in cases {
        assert_eq!(shown(run::<CreateDirectory>(&at.params(params.clone()))), wanted, "{params}");
    }
    assert!(at.path("d6/e/f").is_dir() && at.path("d6/g").is_dir() && !at.path("sub/new").exists());
}

#[test]
fn get_metadata_answers_as_the_spec_says_on_the_worker_and_from_the_cache() {
    let at = Fixture::new();
    // isDirectory, isFile, isSymlink
    let cases: [(Value, Result<[bool; 3], i64>); 16] = [
        (json!({"path": "a.txt"}), Ok([false, true, false])),
        (json!({"path": "a.txt/"}), Ok([false, true, false])),
        (json!({"path": "link"}), Ok([false, true, true])),
        (json!({"path": "sub"}), Ok([true, false, false])),
        (json!({"path": "dlink"}), Ok([true, false, true])),
        (json!({"path": "dlink/x"}), Ok([false, true, false])),
        (json!({"path": "fifo"}), Ok([false, false, false])),
        (json!({"path": "/dev/null"}), Ok([false, false, false])),
        (json!({"path": "/proc/self/stat"}), Ok([false, true, false])),
        (json!({"path": "dangling"}), Err(-32004)),
        (json!({"path": "missing"}), Err(-32004)),
        (json!({"path": "a.txt/x"}), Err(-32603)),
        (json!({"path": "link", "followSymlinks": false}), Err(-32600)),
        (json!({"path": "dlink/x", "followSymlinks": false}), Err(-32603)),
        (json!({"path": "sub/x", "followSymlinks": false}), Ok([false, true, false])),
        (json!({"path": "sub/none", "followSymlinks": false}), Err(-32004)),
    ];
    for (params, wanted) in cases {
        let params_typed = at.params(params.clone());
        let answer = run::<GetMetadata>(&params_typed);
        let kinds = answer.clone().map(|m| [m.is_directory, m.is_file, m.is_symlink]).map_err(|e| e.code.0);
        assert_eq!(kinds, wanted, "{params}");
        if let Some(cached) = metadata_if_cached(&params_typed)
            && !params["path"].as_str().unwrap().starts_with("/proc")
        {
            assert_eq!(cached, answer, "cached {params}");
        }
    }
    let file = run::<GetMetadata>(&at.params(json!({"path": "link"}))).unwrap();
    let real = std::fs::metadata(at.path("a.txt")).unwrap();
    let since = real.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!((file.size, file.modified_at_ms), (6, since.as_millis() as i64));
}

#[test]
fn the_cache_answers_for_a_local_disk_it_has_learned_and_never_for_proc() {
    let at = Fixture::new();
    let params = at.params(json!({"path": "a.txt"}));
    let answer = run::<GetMetadata>(&params).unwrap();
    // An old kernel or a filter may lack what this needs; then every answer comes from a worker.
    if let Some(cached) = metadata_if_cached(&params) {
        assert_eq!(cached.unwrap(), answer);
        std::fs::write(at.path("a.txt"), "longer than before").unwrap();
        assert_eq!(metadata_if_cached(&params).unwrap().unwrap().size, 18);
        assert!(resolves_without_io(&at.path("sub")) && resolves_without_io(&at.path("sub/x")));
        assert!(!resolves_without_io(&at.path("missing")));
    }
    learn_filesystem(std::path::Path::new("/proc/self/status"));
    assert!(!resolves_without_io(std::path::Path::new("/proc/self/status")));
}

#[test]
fn canonicalize_answers_as_the_spec_says() {
    let at = Fixture::new();
    let real = std::fs::canonicalize(at.dir.path()).unwrap();
    let uri = |name: &str| json!({"path": crate::protocol::WirePath::uri_of(&real.join(name))});
    let cases = [
        ("a.txt", uri("a.txt")),
        ("link", uri("a.txt")),
        ("dlink/x", uri("sub/x")),
        ("sub/../a.txt", uri("a.txt")),
        ("dangling", json!(-32004)),
        ("missing", json!(-32004)),
        ("a.txt/x", json!(-32603)),
    ];
    for (path, wanted) in cases {
        assert_eq!(shown(run::<Canonicalize>(&at.params(json!({"path": path})))), wanted, "{path}");
    }
}

#[test]
fn read_directory_gives_names_with_the_kinds_of_their_targets() {
    let at = Fixture::new();
    std::os::unix::fs::symlink("loop", at.path("loop")).unwrap();
    std::fs::write(at.dir.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "z").unwrap();
    let list = |path: &str| ReadDirectory::run(&at.params(json!({"path": path})), &limits());
    let mut entries: Vec<_> = list("")
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| (entry.file_name, entry.is_directory, entry.is_file))
        .collect();
    entries.sort();
    let wanted = [
        ("a.txt", false, true),
        ("bad\u{fffd}", false, true),
        ("dlink", true, false),
        ("fifo", false, false),
        ("link", false, true),
        ("sub", true, false),
    ];
    assert_eq!(entries, wanted.map(|(name, directory, file)| (name.to_owned(), directory, file)));
    assert_eq!(list("dlink").unwrap().entries.len(), 2);
    for (path, code) in [("a.txt", -32603), ("fifo", -32603), ("missing", -32004), ("dangling", -32004)] {
        assert_eq!(list(path).unwrap_err().code.0, code, "{path}");
    }
    let small = limits().with(|limits| limits.transport.message_bytes = 100);
    let refused = ReadDirectory::run(&at.params(json!({"path": ""})), &small).unwrap_err();
    assert_eq!(refused.code, ErrorCode::INTERNAL);
}

#[test]
fn a_directory_of_10_000_is_listed_whole() {
    let at = Fixture::new();
    for number in 0..10_000 {
        std::fs::write(at.path(&format!("sub/deep/{number}")), "").unwrap();
    }
    let listed = ReadDirectory::run(&at.params(json!({"path": "sub/deep"})), &limits()).unwrap();
    assert_eq!(listed.entries.len(), 10_000);
}

#[test]
fn without_openat2_a_symlink_is_refused_name_by_name() {
    let at = Fixture::new();
    assert!(super::super::path::open_name_by_name(&at.path("sub/deep")).is_ok());
    for (path, errno) in [("dlink", libc::ENOTDIR), ("dlink/deep", libc::ENOTDIR), ("no", libc::ENOENT)] {
        let error = super::super::path::open_name_by_name(&at.path(path)).unwrap_err();
        assert_eq!(error.raw_os_error(), errno, "{path}");
    }
}

#[test]
fn a_sandbox_that_cannot_be_enforced_and_a_foreign_path_are_refused() {
    let at = Fixture::new();
    let permissions = json!({"type": "managed", "network": "restricted", "file_system": {"type": "restricted",
        "entries": [{"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"}]}});
    let sandbox = json!({"permissions": permissions, "windowsSandboxLevel": "disabled"});
    let nobody = FileHelpers::new(None, &limits());
    let sandboxed = json!({"path": "a.txt", "sandbox": sandbox});
    let opened = nobody.open::<ReadFileParams>(&at.params(sandboxed.clone())).unwrap_err();
    let looked = nobody.run::<GetMetadata>(at.params(sandboxed), &limits()).unwrap_err();
    for error in [opened, looked] {
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
        assert!(error.message.contains("sandbox"));
    }
    let foreign = serde_json::from_value(json!({"path": "file://other/x"})).unwrap();
    assert_eq!(read_file(&foreign, &limits()).unwrap_err().code, ErrorCode::INVALID_REQUEST);
}
