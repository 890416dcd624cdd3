//! Files that are read while their answer is sent (10.1): whole on every transport, in a few blocks of memory, whatever happens
//! to them and to whoever asked.

use std::io::Write;
use std::path::{Path, PathBuf};

use codex_e2e::client::guarded;
use codex_e2e::http::{frame, upgraded};
use codex_e2e::machine::{descriptors, eventually, peak_memory};
use codex_e2e::{Server, TestClient, base64, bytes_of};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: usize = 1 << 20;

/// Content that shows what is missing or in the wrong place.
pub fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[6]).collect()
}

fn large(content: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    std::fs::write(&path, content).unwrap();
    (directory, path)
}

async fn reads_whole(client: &mut TestClient, path: &Path, content: &[u8], what: &str) {
    let whole = client.ok("fs/readFile", json!({"path": path})).await;
    assert!(bytes_of(&whole["dataBase64"]) == content, "{} bytes over {what}", content.len());
}

#[tokio::test]
async fn a_large_file_is_whole_over_every_transport() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("exec.sock");
    let tcp = Server::start().await;
    let unix = Server::builder().listen(format!("unix://{}", socket.display())).start().await;
    let (_stdio, mut stdio) = Server::builder().stdio().await;
    stdio.handshake().await;
    let mut lines = TestClient::unix_lines(&socket).await;
    lines.handshake().await;
    let mut upgraded = TestClient::unix_socket(&socket).await;
    upgraded.handshake().await;
    let mut clients = [
        ("TCP", tcp.client().await),
        ("stdio", stdio),
        ("lines on a Unix socket", lines),
        ("a websocket on a Unix socket", upgraded),
    ];
    // Around the size from which on files are read while they are sent, and around whole blocks.
    for bytes in [768 << 10, (768 << 10) - 1, (6 * 192) << 10, ((6 * 192) << 10) + 1, 3 * MIB + 2] {
        let content = content(bytes);
        let (_kept, path) = large(&content);
        for (what, client) in &mut clients {
            reads_whole(client, &path, &content, what).await;
            assert_eq!(client.run(&format!("after-{bytes}"), "echo on").await.stdout(), "on\n", "{what}");
        }
    }
    drop(unix);
}

#[tokio::test]
async fn two_at_once_come_one_after_the_other_and_a_write_behind_them_waits() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (first, second) = (content(3 * MIB), content(2 * MIB + 1));
    let (_first, at_first) = large(&first);
    let (_second, at_second) = large(&second);
    let asked = [(&at_first, &first), (&at_second, &second), (&at_first, &first), (&at_second, &second)];
    let mut reads = Vec::new();
    for (path, content) in asked {
        reads.push((client.send("fs/readFile", json!({"path": path})).await, content));
    }
    let write = client.send("fs/writeFile", json!({"path": at_first, "dataBase64": base64("new")})).await;
    for (id, content) in reads {
        let answer = client.answer(id).await.expect("a whole file");
        assert!(bytes_of(&answer["dataBase64"]) == *content);
    }
    client.answer(write).await.expect("written");
    assert_eq!(std::fs::read(&at_first).unwrap(), b"new");
}

/// A connection by hand, whose answers nobody reads until asked to.
struct Slow(TcpStream);

impl Slow {
    async fn new(server: &Server) -> Self {
        let mut slow = Self(upgraded(server.address()).await);
        slow.send(json!({"id": 1, "method": "initialize", "params": {"clientName": "e2e"}})).await;
        slow.send(json!({"method": "initialized"})).await;
        slow
    }

    async fn send(&mut self, message: Value) {
        self.0.write_all(&frame(0x81, message.to_string().as_bytes())).await.unwrap();
    }

    /// The next frame: its first byte, and its payload.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let (first, length) = (self.0.read_u8().await.ok()?, self.0.read_u8().await.ok()?);
            let length = match length {
                126 => self.0.read_u16().await.ok()?.into(),
                127 => self.0.read_u64().await.ok()?,
                short => u64::from(short),
            };
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((first, payload))
        };
        guarded("a frame", read).await
    }

    /// The rest of a message that has begun.
    async fn rest(&mut self, mut message: Vec<u8>) -> Value {
        loop {
            match self.frame().await.expect("the connection goes on") {
                (0x00, part) => message.extend(part),
                (0x80, part) => {
                    message.extend(part);
                    return serde_json::from_slice(&message).expect("JSON");
                }
                // The server asks whether we are there.
                (0x89, _) => {}
                (other, _) => panic!("a frame that begins with {other:#x} inside a message"),
            }
        }
    }

    /// Asks for a file, and takes the beginning of the answer.
    async fn begin(&mut self, path: &Path) -> Vec<u8> {
        self.send(json!({"id": 2, "method": "fs/readFile", "params": {"path": path}})).await;
        assert_eq!(self.frame().await.expect("the answer to initialize").0, 0x81);
        let (first, begun) = self.frame().await.expect("the answer's beginning");
        assert_eq!(first, 0x01, "a first part, and no whole message");
        begun
    }
}

/// More than the buffers between the server and a client that doesn't read.
const MORE: usize = 16 * MIB;

#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_read_ends_there() {
    let server = Server::start().await;
    let content = content(MORE);
    let (_kept, path) = large(&content);
    let mut slow = Slow::new(&server).await;
    let begun = slow.begin(&path).await;
    let left = 14 * MIB + 1;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(left as u64).unwrap();
    let answer = slow.rest(begun).await;
    assert!(bytes_of(&answer["result"]["dataBase64"]) == content[..left]);
    // The connection is as good as before.
    slow.send(json!({"id": 3, "method": "environment/status"})).await;
    loop {
        match slow.frame().await.expect("an answer") {
            (0x89, _) => {}
            (first, status) => {
                let status = String::from_utf8_lossy(&status);
                assert!(first == 0x81 && status.contains("ready"), "{first:#x} {status}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_read_is_read_as_far_as_it_was() {
    let server = Server::start().await;
    let content = content(MORE);
    let (_kept, path) = large(&content);
    let mut slow = Slow::new(&server).await;
    let begun = slow.begin(&path).await;
    std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    let answer = slow.rest(begun).await;
    assert!(bytes_of(&answer["result"]["dataBase64"]) == content);
}

#[tokio::test]
async fn clients_that_stop_reading_cost_a_few_blocks_and_hold_up_nobody() {
    let server = Server::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    std::fs::File::create(&path).unwrap().set_len(MORE as u64).unwrap();
    let mut other = server.client().await;
    other.run("before", "true").await;
    let (before, open) = (peak_memory(server.pid()), descriptors(server.pid()));
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut one = Slow::new(&server).await;
        one.begin(&path).await;
        slow.push(one);
    }
    let whole = other.ok("fs/readFile", json!({"path": path})).await;
    assert_eq!(whole["dataBase64"].as_str().unwrap().len(), MORE.div_ceil(3) * 4);
    let grown = peak_memory(server.pid()) - before;
    assert!(grown < 12 * MIB as u64, "{grown} bytes for five answers of 21 MiB");
    drop(slow);
    eventually("the files are closed when their readers are gone", || descriptors(server.pid()) <= open)
        .await;
    assert_eq!(other.run("after", "echo on").await.stdout(), "on\n");
}

/// A file system whose files can share blocks, in a file of its own; unmounted when dropped.
struct Mounted(TempDir);

impl Mounted {
    /// XFS on a loop device; what is missing for it otherwise.
    fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(320 * MIB as u64).unwrap();
        std::fs::create_dir(directory.path().join("mounted")).unwrap();
        for command in ["mkfs.xfs -q -m reflink=1 image", "mount -o loop image mounted"] {
            let mut words = command.split(' ');
            let run = std::process::Command::new(words.next().unwrap())
                .args(words)
                .current_dir(directory.path())
                .output()
                .map_err(|error| format!("{command}: {error}"))?;
            if !run.status.success() {
                return Err(format!("{command}: {}", String::from_utf8_lossy(&run.stderr).trim()));
            }
        }
        Ok(Self(directory))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }

    /// Bytes that are free, after everything was written.
    fn free(&self) -> u64 {
        let root = std::fs::File::open(self.path()).unwrap();
        rustix::fs::syncfs(&root).unwrap();
        let found = rustix::fs::fstatvfs(&root).unwrap();
        found.f_bfree * found.f_frsize
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_copy_shares_its_blocks_where_the_file_system_can() {
    let mounted = match Mounted::new() {
        Ok(mounted) => mounted,
        Err(missing) => {
            eprintln!("SKIPPED, nothing was tested: there is no file system that shares blocks ({missing})");
            return;
        }
    };
    let content = content(16 * MIB);
    let (source, copy) = (mounted.path().join("source"), mounted.path().join("copy"));
    std::fs::write(&source, &content).unwrap();
    let before = mounted.free();
    let server = Server::start().await;
    let mut client = server.client().await;
    let params = json!({"sourcePath": source, "destinationPath": copy, "recursive": false});
    client.ok("fs/copy", params).await;
    let taken = before - mounted.free();
    assert!(taken < 4 * MIB as u64, "{taken} bytes for a copy of 16 MiB");
    std::fs::File::options().write(true).open(&source).unwrap().write_all(b"changed").unwrap();
    assert!(std::fs::read(&copy).unwrap() == content, "the copy is a file of its own");
}
