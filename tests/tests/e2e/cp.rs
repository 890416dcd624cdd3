//! `codex exec-server cp`, `ls`, `cat` and `edit`, as people use them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use codex_e2e::client::guarded;
use codex_e2e::machine::eventually;
use codex_e2e::{Cutter, Server};

fn command(verb: &str, url: &str, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(codex_e2e::binary::codex());
    command.args(["exec-server", verb, "--url", url]).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn ended(child: Child) -> Output {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    guarded("its end", waiting).await.unwrap()
}

/// Runs a verb to its end; its stdout and its stderr with the exit code.
async fn verb(verb: &str, url: &str, arguments: &[&OsStr]) -> (Option<i32>, Vec<u8>, String) {
    let output = ended(command(verb, url, arguments).spawn().unwrap()).await;
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn cp(url: &str, source: impl AsRef<OsStr>, destination: impl AsRef<OsStr>) -> (Option<i32>, String) {
    let (code, _, said) = verb("cp", url, &[source.as_ref(), destination.as_ref()]).await;
    (code, said)
}

/// The path as one there.
fn there(path: &Path) -> std::ffi::OsString {
    let mut word = std::ffi::OsString::from(":");
    word.push(path);
    word
}

/// All that a copy keeps, by path; content as its bytes, or the length of what is too large to show.
fn kept(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let times = (metadata.mtime(), metadata.mtime_nsec());
        let what = if metadata.is_symlink() {
            format!("link {:?} {times:?}", fs::read_link(&path).unwrap())
        } else if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            format!("directory {:o} {times:?}", metadata.mode() & 0o7777)
        } else {
            let content = fs::read(&path).unwrap();
            let sum =
                content.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
            format!("file {:o} {times:?} {} {sum:x}", metadata.mode() & 0o7777, content.len())
        };
        found.insert(name, what);
    }
    found
}

fn random(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(step).collect()
}

/// A tree with one of everything that is kept.
fn tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("empty.txt"), "").unwrap();
    fs::write(root.join("small"), "hello\0world").unwrap();
    fs::write(root.join("deep/er/large"), random(3_333_333, 5)).unwrap();
    fs::write(root.join("secret"), "mine").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not \xff utf-8\n")), "x").unwrap();
    symlink("no/such\u{e9}", root.join("dangling")).unwrap();
    symlink("small", root.join("deep/link")).unwrap();
    let mut sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all(b"begin").unwrap();
    sparse.set_len(20 << 20).unwrap();
    for (name, mode) in [("secret", 0o600), ("small", 0o4755), ("deep/er", 0o750), ("empty", 0o700)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, time) in [
        ("small", 1_000_000_000_123_456_789),
        ("deep/er/large", 5),
        ("empty", 86_400_000_000_001),
        ("deep", 7),
    ] {
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_nanos(time));
        File::open(root.join(name)).unwrap().set_times(times).unwrap();
    }
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[tokio::test]
async fn a_tree_goes_there_and_back_with_all_that_is_kept_of_it() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let (from, to, back) =
        (directory.path().join("from"), directory.path().join("to"), directory.path().join("back"));
    tree(&from);
    assert_eq!(cp(&server.url, &from, there(&to)).await.0, Some(0));
    assert_eq!(kept(&to), kept(&from));
    assert!(allocated(&to.join("sparse")) < 1 << 20, "holes stay holes");
    assert_eq!(cp(&server.url, there(&to), &back).await.0, Some(0));
    assert_eq!(kept(&back), kept(&from));
    assert!(allocated(&back.join("sparse")) < 1 << 20, "holes stay holes");
    // What is there already is not sent again, and what was changed is.
    fs::write(from.join("small"), "other").unwrap();
    let (code, said) = cp(&server.url, from.join("."), there(&to)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 copied (5 B)") && said.contains("7 there already"), "{said}");
    assert_eq!(kept(&to), kept(&from));
    // Into a directory that is there.
    assert_eq!(cp(&server.url, from.join("deep"), there(&back)).await.0, Some(0));
    assert_eq!(kept(&back.join("deep")), kept(&from.join("deep")));
    assert_eq!(cp(&server.url, there(&from), there(&directory.path().join("third"))).await.0, Some(0));
    assert_eq!(kept(&directory.path().join("third")), kept(&from));
}

#[tokio::test]
async fn what_an_earlier_copy_left_is_taken_up_if_it_is_right() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let content = random(5 << 20, 9);
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let part = directory.path().join(".to.codex-part");
    fs::write(&from, &content).unwrap();
    for (left, resumed) in
        [(content[..3 << 20].to_vec(), true), (vec![1; 3 << 20], false), (Vec::new(), false)]
    {
        let _ = fs::remove_file(&to);
        fs::write(&part, left).unwrap();
        let (code, said) = cp(&server.url, &from, there(&to)).await;
        assert_eq!((code, said.contains("taken up from before")), (Some(0), resumed), "{said}");
        assert!(fs::read(&to).unwrap() == content && !part.exists());
    }
}

#[tokio::test]
async fn a_copy_goes_on_after_cuts_and_after_it_was_killed() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let cutter = Cutter::start(server.address()).await;
    let url = cutter.url().replace("http://", "ws://");
    let content = random(48 << 20, 3);
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let part = directory.path().join(".to.codex-part");
    fs::write(&from, &content).unwrap();
    let grown = |to: u64| part.metadata().is_ok_and(|part| part.len() >= to);
    let begin = || command("cp", &url, &[from.as_os_str(), &there(&to)]).spawn().unwrap();
    let mut child = begin();
    eventually("a part", || grown(1 << 20) || to.exists()).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let child = begin();
    eventually("more of it", || grown(8 << 20) || to.exists()).await;
    cutter.cut();
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(fs::read(&to).unwrap() == content);
}

#[tokio::test]
async fn what_can_not_be_copied_is_told_and_the_rest_is_copied() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("good"), "good").unwrap();
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, from.join("fifo"), fifo, mode, 0).unwrap();
    let (code, said) = cp(&server.url, &from, there(&to)).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("fifo: it is a socket, FIFO or device")
            && said.contains("1 copied")
            && said.contains("1 failed"),
        "{said}"
    );
    assert_eq!(fs::read(to.join("good")).unwrap(), b"good");
    for (source, destination, code, words) in [
        (OsStr::new("a"), OsStr::new("b"), 2, "both ends are here"),
        (OsStr::new("box:a"), OsStr::new("b"), 1, "no environment"),
        (OsStr::new(":/no/such/file"), OsStr::new("."), 1, "No such file"),
        (from.as_os_str(), OsStr::new(":/dev/null/x"), 1, "Not a directory"),
    ] {
        let (found, said) = cp(&server.url, source, destination).await;
        assert_eq!(found, Some(code), "{source:?}: {said}");
        assert!(said.contains(words), "{source:?}: {said}");
    }
}

#[tokio::test]
async fn streams_go_into_a_file_and_out_of_one() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let (to, content) = (directory.path().join("to"), random(3_000_001, 8));
    let mut child =
        command("cp", &server.url, &[OsStr::new("-"), &there(&to)]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, sent) = (child.stdin.take().unwrap(), content.clone());
    let feeding = std::thread::spawn(move || stdin.write_all(&sent));
    assert_eq!(ended(child).await.status.code(), Some(0));
    feeding.join().unwrap().unwrap();
    assert!(fs::read(&to).unwrap() == content);
    let (code, stdout, _) = verb("cp", &server.url, &[&there(&to), OsStr::new("-")]).await;
    assert!(code == Some(0) && stdout == content);
    let (code, stdout, said) =
        verb("cat", &server.url, &[to.as_os_str(), OsStr::new("/no/such"), to.as_os_str()]).await;
    assert_eq!(code, Some(1));
    assert!(stdout == [content.clone(), content].concat() && said.contains("/no/such"), "{said}");
}

#[tokio::test]
async fn a_listing_shows_names_and_with_l_what_they_stand_for() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().cwd(directory.path()).start().await;
    tree(&directory.path().join("tree"));
    fs::write(directory.path().join(".hidden"), "").unwrap();
    let (code, stdout, _) = verb("ls", &server.url, &[]).await;
    assert_eq!((code, stdout.as_slice()), (Some(0), &b"tree\n"[..]));
    let (_, stdout, _) = verb("ls", &server.url, &["-la".as_ref(), "tree".as_ref()]).await;
    let text = String::from_utf8(stdout).unwrap();
    assert!(text.contains("-rwsr-xr-x\t11\t2001-09-09T01:46:40Z\tsmall\n"), "{text}");
    assert!(
        text.contains("\tdangling -> no/such\u{e9}\n") && text.contains("not \u{fffd} utf-8\\n\n"),
        "{text}"
    );
    let (_, stdout, _) = verb("ls", &server.url, &["--json".as_ref(), "tree/small".as_ref()]).await;
    let entry: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((&entry["kind"], &entry["size"]), (&"file".into(), &11.into()));
    assert_eq!(verb("ls", &server.url, &["none".as_ref()]).await.0, Some(1));
}

#[tokio::test]
async fn an_edited_file_is_put_back_only_if_nobody_changed_it() {
    let (server, directory) = (Server::start().await, tempfile::tempdir().unwrap());
    let file = directory.path().join("file");
    fs::write(&file, "one\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let edit = async |path: &Path, editor: &str| {
        let mut command = command("edit", &server.url, &[path.as_os_str()]);
        command.env_remove("VISUAL").env("EDITOR", editor);
        let output = ended(command.spawn().unwrap()).await;
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // The words of an editor reach a shell, with the file behind them.
    let script = directory.path().join("editor");
    fs::write(&script, "#!/bin/sh\nprintf 'two\\n' >> \"$2\"\neval \"$1\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let with = |then: &str| format!("{} '{then}'", script.display());
    assert_eq!(edit(&file, &with("")).await, (Some(0), String::new()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);
    let (code, said) = edit(&file, &with(&format!("echo changed > {}", file.display()))).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("changed meanwhile"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "changed\n");
    let saved = said.trim_end().rsplit(" is in ").next().unwrap().to_owned();
    assert_eq!(fs::read_to_string(Path::new(&saved).join("file")).unwrap(), "one\ntwo\ntwo\n");
    fs::remove_dir_all(saved).unwrap();
    assert_eq!(edit(&file, &with("exit 3")).await.0, Some(1));
    let new = directory.path().join("new");
    assert_eq!(edit(&new, &with("")).await, (Some(0), String::new()));
    assert_eq!(fs::read_to_string(&new).unwrap(), "two\n");
}
