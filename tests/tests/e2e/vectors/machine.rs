//! The machine that the recordings took place on: its files, its environment and its HTTP server.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use codex_e2e::http::{Answer, Origin, plain};
use codex_e2e::{Server, bytes_of};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A place where a recording can be played again.
pub(crate) struct Stage {
    directory: TempDir,
    origin: Origin,
    version: &'static str,
}

impl Stage {
    /// Lays out the files and starts the HTTP server.
    pub(crate) async fn set(version: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
            std::fs::write(at.join(name), bytes).unwrap();
        };
        write("a.txt", b"hello\n");
        write("bin", &(0..=255).collect::<Vec<u8>>());
        write("sub/x", b"x");
        write("sub/deep/y", b"y");
        write(".git/c", b"c");
        write(".hid", b"h");
        std::fs::create_dir(at.join("sp ace é")).unwrap();
        std::fs::write(at.join(OsStr::from_bytes(b"bad\xff")), "z").unwrap();
        symlink("a.txt", at.join("link")).unwrap();
        symlink("sub", at.join("dlink")).unwrap();
        symlink("nowhere", at.join("dangling")).unwrap();
        fifo(&at.join("fifo"));
        Self { directory, origin: Origin::start(answers()).await, version }
    }

    /// What the recorder made between cases.
    pub(crate) fn prepare(&self, case: &str) {
        let at = self.directory.path();
        match case {
            "copy" => {
                std::fs::create_dir_all(at.join("cp/src/in")).unwrap();
                std::fs::write(at.join("cp/src/f"), "f").unwrap();
                symlink("f", at.join("cp/src/l")).unwrap();
                symlink("f", at.join("cp/src/in/l")).unwrap();
            }
            "remove" => {
                for file in ["rf", "rf2"] {
                    std::fs::write(at.join(file), "x").unwrap();
                }
                for directory in ["r1", "r2", "r3", "rt"] {
                    std::fs::create_dir(at.join(directory)).unwrap();
                }
                for file in ["r2/x", "r3/x", "rt/x"] {
                    std::fs::write(at.join(file), "x").unwrap();
                }
                symlink("rt", at.join("rl")).unwrap();
            }
            "open-readBlock" => std::fs::write(at.join("blk"), (0..100).collect::<Vec<u8>>()).unwrap(),
            "writeBlock" => std::fs::write(at.join("w0"), "old content").unwrap(),
            _ => {}
        }
    }

    /// A server with the environment of the recorded one where that shows.
    pub(crate) async fn server(&self, records: &[Value]) -> Server {
        // One of the recorded programs leaves a child behind that never ends.
        let mut builder = Server::builder()
            .args(["--leftovers", "kill"])
            .cwd("/tmp")
            .env("MY_TOKEN", "tok")
            .env("PATH", "/usr/bin:/bin");
        let recorded = records.iter().find(|record| {
            record["case"] == "all ignoreDefault" && record["data"]["method"] == "process/output"
        });
        if let Some(record) = recorded {
            builder = builder.bare_environment();
            let text = String::from_utf8(bytes_of(&record["data"]["params"]["chunk"])).unwrap();
            for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
                builder = builder.env(name, value);
            }
        }
        builder.start().await
    }

    /// Puts this stage's paths and ports in place of the recorded ones.
    pub(crate) fn translate(&self, data: &Value) -> Value {
        match data {
            Value::String(text) => {
                let root = format!("/srv/fsd_{}", self.version);
                let text = text.replace(&root, self.directory.path().to_str().unwrap());
                json!(self.translate_ports(&text))
            }
            Value::Array(items) => items.iter().map(|item| self.translate(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, v)| (name.clone(), self.translate(v))).collect()
            }
            other => other.clone(),
        }
    }

    fn translate_ports(&self, text: &str) -> String {
        let ours = self.origin.address.to_string();
        text.replace("127.0.0.1:45863", &ours).replace("127.0.0.1:45981", &ours)
    }
}

fn fifo(path: &std::path::Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
}

/// Answers as the recorder's Python server did.
fn answers() -> Answer {
    Arc::new(|asked, mut stream| {
        Box::pin(async move {
            let path = asked.target.split('?').next().unwrap_or("");
            let common = "Server: BaseHTTP/0.6 Python/3.11.7\r\nDate: Fri, 20 Nov 2026 09:46:13 GMT\r\n";
            let chunked = format!("HTTP/1.1 200 OK\r\n{common}transfer-encoding: chunked\r\n");
            let answer = match path {
                // Python's server knows no lower-case method.
                _ if asked.method == "get" => {
                    let headers =
                        format!("{common}Connection: close\r\nContent-Type: text/html;charset=utf-8\r\n");
                    plain("501 Unsupported method ('get')", &headers, &[b'x'; 356])
                }
                "/echo" => {
                    let headers: Vec<Value> = asked
                        .head
                        .lines()
                        .skip(1)
                        .filter_map(|line| line.split_once(": "))
                        .map(|(name, value)| [name.to_lowercase(), value.to_owned()])
                        // Since 0.171 (21.2), so no recording has it.
                        .filter(|[name, value]| {
                            (name.as_str(), value.as_str()) != ("accept-encoding", "zstd,gzip")
                        })
                        .map(|header| json!(header))
                        .collect();
                    let body = json!({"m": asked.method, "path": asked.target, "h": headers,
                        "b": String::from_utf8_lossy(&asked.body)});
                    let body = body.to_string();
                    let sent = if asked.method == "HEAD" { &[][..] } else { body.as_bytes() };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\n{common}X-Rep: 1\r\nX-Rep: 2\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    [head.as_bytes(), sent].concat()
                }
                "/empty" => format!("HTTP/1.1 204 No Content\r\n{common}\r\n").into_bytes(),
                "/redir" => plain("302 Found", &format!("{common}Location: /echo\r\n"), b""),
                "/loop" => plain("302 Found", &format!("{common}Location: /loop\r\n"), b""),
                "/gzip" => {
                    let body = b"\x1f\x8b\x08\x00\xe5\x16\x00k\x02\xff\xab\xca,(HM\x01\x00Wh\xc2\xe2\x06\x00\x00\x00";
                    plain("200 OK", &format!("{common}Content-Encoding: gzip\r\n"), body)
                }
                "/trunc" => {
                    [format!("HTTP/1.1 200 OK\r\n{common}Content-Length: 100\r\n\r\n").as_bytes(), b"part"]
                        .concat()
                }
                "/slow" => {
                    tokio::time::sleep(Duration::from_millis(900)).await;
                    plain("200 OK", common, b"slow")
                }
                "/sse" => {
                    let head = format!("{chunked}content-type: text/event-stream\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.ok();
                    for n in 0..4 {
                        stream.write_all(format!("9\r\ndata: {n}\n\n\r\n").as_bytes()).await.ok();
                        // Long enough for the recorded request in between to find the stream still running.
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    stream.write_all(b"0\r\n\r\n").await.ok();
                    return;
                }
                "/hang" => {
                    stream.write_all(format!("{chunked}\r\n3\r\nabc\r\n").as_bytes()).await.ok();
                    stream.read_u8().await.ok();
                    return;
                }
                "/big" => {
                    let size = asked.target.split_once("n=").and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
                    let body = vec![b'x'; size];
                    let head = format!("HTTP/1.1 200 OK\r\n{common}Content-Length: {size}\r\n\r\n");
                    let mut answer = head.into_bytes();
                    answer.extend(body);
                    answer
                }
                _ => plain("404 Not Found", common, b""),
            };
            stream.write_all(&answer).await.ok();
        })
    })
}
