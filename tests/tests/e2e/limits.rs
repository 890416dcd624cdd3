//! What happens at each bound that a client can reach (section 16 and `Limits`).

use codex_e2e::client::start_params;
use codex_e2e::http::{Origin, ask, frame, plain, upgrade_request, upgraded};
use codex_e2e::machine::{children, eventually};
use codex_e2e::{Server, TestClient, bytes_of, client::guarded};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

fn request_of(bytes: usize) -> String {
    let shell = json!({"id": 9, "method": "no/such", "params": ""}).to_string();
    json!({"id": 9, "method": "no/such", "params": "x".repeat(bytes - shell.len())}).to_string()
}

#[tokio::test]
async fn a_frame_and_a_message_at_the_bound_pass_and_one_byte_more_ends_the_connection() {
    let server = Server::builder().limit("frame_bytes", 10_000).limit("message_bytes", 25_000).start().await;
    for (bytes, pieces, passes) in
        [(10_000, 1, true), (10_001, 1, false), (25_000, 5, true), (25_001, 5, false)]
    {
        let mut stream = upgraded(server.address()).await;
        let text = request_of(bytes);
        let size = bytes.div_ceil(pieces);
        let parts: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        for (index, part) in parts.iter().enumerate() {
            let fin = if index + 1 == parts.len() { 0x80 } else { 0 };
            let opcode = u8::from(index == 0);
            stream.write_all(&frame(fin | opcode, part)).await.ok();
        }
        let mut answer = [0; 2];
        let got = guarded("an answer or the end", stream.read_exact(&mut answer)).await;
        assert_eq!(got.is_ok() && answer[0] == 0x81, passes, "{bytes} bytes in {pieces} frames: {answer:x?}");
    }
}

#[tokio::test]
async fn as_many_concurrent_requests_as_anybody_likes_may_be_allowed() {
    for arguments in [
        ["--concurrent-requests", "4294967295"],
        ["-c", "exec_server.concurrent_requests=4294967295"],
        ["-c", "exec_server.limits.concurrent_requests=4294967295"],
        ["--limit", "concurrent_requests=4294967295"],
    ] {
        let server = Server::builder().args(["--strict-config"]).args(arguments).start().await;
        let mut client = server.client().await;
        client.ok("environment/info", json!({})).await;
    }
}

#[tokio::test]
async fn the_real_bounds_let_16_mebibytes_through() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send_raw(&request_of(16 << 20)).await;
    assert_eq!(client.next().await.unwrap()["error"]["code"], -32601);
    client.try_send_raw(&request_of((16 << 20) + 1)).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_503_and_a_place_comes_free() {
    let server = Server::builder().limit("connections", 2).start().await;
    let one = server.client().await;
    let _two = server.client().await;
    let answer = ask(server.address(), &upgrade_request("")).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(one);
    loop {
        match TestClient::try_connect(&server.url, &[]).await {
            Ok(mut client) => break client.handshake().await,
            Err(status) => assert_eq!(status, 503),
        }
    }
}

#[tokio::test]
async fn unfinished_heads_keep_nobody_out() {
    let server = Server::builder().limit("connections", 2).limit("handshake_time", 3_600_000).start().await;
    let mut unfinished = Vec::new();
    for _ in 0..300 {
        let mut peer = TcpStream::connect(server.address()).await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        unfinished.push(peer);
    }
    server.client().await.ok("environment/info", json!({})).await;
    // The oldest made room; the newest may still become a connection.
    let mut oldest = unfinished.swap_remove(0);
    let ended = guarded("the end of the oldest", oldest.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_err() || ended.is_ok_and(|bytes| bytes == 0));
    let newest = unfinished.last_mut().unwrap();
    newest.write_all(upgrade_request("").split_once("Host: ").unwrap().1.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    guarded("the answer to the newest", newest.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
}

#[tokio::test]
async fn only_small_messages_are_taken_before_initialize() {
    let server = Server::start().await;
    for parts in [vec![(0x81, 65_537)], vec![(0x01, 60_000), (0x80, 6_000)]] {
        let mut peer = upgraded(server.address()).await;
        for (first, size) in parts {
            // The payload never comes: what a head claims is enough.
            let head = frame(first, &vec![b' '; size]);
            let sent = if first & 0x80 == 0 { head.len() } else { head.len() - size };
            peer.write_all(&head[..sent]).await.unwrap();
        }
        let ended = guarded("the end", peer.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_err() || ended.is_ok_and(|bytes| bytes < 20));
    }
    let mut client = server.client().await;
    client.send_raw(&request_of(1 << 20)).await;
    assert_eq!(client.next().await.unwrap()["error"]["code"], -32601);
}

#[tokio::test]
async fn a_peer_that_closes_while_its_requests_wait_is_gone_at_once() {
    for says_so in [false, true] {
        let server = Server::builder()
            .limit("requests_in_flight", 8)
            .limit("connections", 1)
            .limit("ping_interval", 3_600_000)
            .start()
            .await;
        let mut client = server.connect().await;
        let session = client.ok("initialize", json!({"clientName": "e2e"})).await["sessionId"].clone();
        client.notify("initialized", json!({})).await;
        client.start("p", ["sleep", "1000"]).await;
        for _ in 0..20 {
            client.send("process/read", json!({"processId": "p", "afterSeq": 0, "waitMs": 3_600_000})).await;
        }
        let leftover = if says_so {
            client.send_message(Message::Close(None)).await;
            Some(client)
        } else {
            drop(client);
            None
        };
        let back = async {
            loop {
                let Ok(mut client) = TestClient::try_connect(&server.url, &[]).await else { continue };
                if client.resume(session.as_str().unwrap()).await.is_ok() {
                    return client;
                }
            }
        };
        let mut client = guarded("the session", back).await;
        assert_eq!(client.read("p", 0, 0).await["exited"], false);
        drop(leftover);
    }
}

#[tokio::test]
async fn one_session_too_many_is_refused() {
    let server = Server::builder().limit("sessions", 2).start().await;
    let _one = server.client().await;
    let two = server.client().await;
    let mut three = server.connect().await;
    assert_eq!(three.refused("initialize", json!({"clientName": "x"})).await, -32600);
    let session = two.session_id.clone();
    drop(two);
    crate::handshake::resume_soon(&mut three, &session).await;
}

/// A new client, once the server has noticed that another is gone and there is room.
async fn entered(server: &Server) -> TestClient {
    loop {
        let mut client = server.connect().await;
        if client.call("initialize", json!({"clientName": "x"})).await.is_ok() {
            client.notify("initialized", json!({})).await;
            return client;
        }
    }
}

/// Leaves a session whose program says something when nobody hears it, and then is over.
async fn unheard(server: &Server) -> String {
    let gate = tempfile::tempdir().unwrap();
    let before = children(server.pid()).len();
    let mut client = server.client().await;
    let wait = format!("until test -e {}/open; do sleep 0.05; done; echo late", gate.path().display());
    client.start("late", ["sh", "-c", &wait]).await;
    let session = client.session_id.clone();
    drop(client);
    std::fs::write(gate.path().join("open"), "").unwrap();
    eventually("the program is over", || children(server.pid()).len() == before).await;
    session
}

#[tokio::test]
async fn sessions_that_nobody_needs_make_room_and_those_in_use_do_not() {
    let server = Server::builder().limit("sessions", 4).start().await;
    let mut running = server.client().await;
    running.start("runs", ["sleep", "1000"]).await;
    let running = { running }.session_id.clone();
    let unheard = unheard(&server).await;
    let (mut idle, mut later) = (server.client().await, server.client().await);
    idle.start("over", ["echo", "heard"]).await;
    assert_eq!(
        idle.finish("over").await.stdout(),
        "heard
"
    );
    let idle = { idle }.session_id.clone();
    // A hundred come and go in the place of the one that is over.
    for _ in 0..100 {
        entered(&server).await;
    }
    let _stays = entered(&server).await;
    let full = server.connect().await.call("initialize", json!({"clientName": "x"})).await.unwrap_err();
    assert!(full.0 == -32600 && full.1.contains("4 sessions in use"), "{full:?}");
    assert_eq!(server.connect().await.resume(&idle).await.unwrap_err().0, -32600, "it made room");
    assert_eq!(later.ok("process/list", json!({})).await["processes"], json!([]), "an attached one stays");
    let mut back = server.connect().await;
    crate::handshake::resume_soon(&mut back, &unheard).await;
    assert_eq!(bytes_of(&back.read("late", 0, 60_000).await["chunks"][0]["chunk"]), b"late\n");
    let mut back = server.connect().await;
    crate::handshake::resume_soon(&mut back, &running).await;
    assert_eq!(back.ok("process/list", json!({})).await["processes"][0]["state"], "running");
}

#[tokio::test]
async fn a_session_that_nobody_came_back_to_in_time_makes_room() {
    let server = Server::builder().limit("sessions", 1).limit("hold_time", 100).start().await;
    let session = unheard(&server).await;
    let _new = entered(&server).await;
    assert_eq!(server.connect().await.resume(&session).await.unwrap_err().0, -32600);
}

#[tokio::test]
async fn a_session_ends_at_once_when_its_client_says_so() {
    let server = Server::builder().limit("sessions", 1).start().await;
    let mut client = server.client().await;
    client.start("runs", ["sleep", "1000"]).await;
    assert_eq!(client.ok("session/end", json!({})).await, json!({}));
    let mut other = server.client().await;
    eventually("its program has ended", || children(server.pid()).is_empty()).await;
    assert_eq!(client.refused("process/start", start_params("more", ["true"], json!({}))).await, -32600);
    other.start("runs", ["true"]).await;
    assert_eq!(other.finish("runs").await.code(), 0);
    assert_eq!(server.connect().await.resume(&client.session_id).await.unwrap_err().0, -32600);
}

#[tokio::test]
async fn our_own_clients_leave_nothing_behind() {
    let server = Server::builder().limit("sessions", 2).start().await;
    for _ in 0..5 {
        // The one before may still be on its way out.
        let mut run = tokio::process::Command::new(codex_e2e::binary::codex());
        run.args([
            "exec-server",
            "run",
            "--url",
            &server.url,
            "--",
            "sh",
            "-c",
            "sleep 1000 >/dev/null 2>&1 & exit 3",
        ]);
        assert_eq!(run.output().await.unwrap().status.code(), Some(3));
    }
}

#[tokio::test]
async fn one_process_too_many_is_refused() {
    let server =
        Server::builder().limit("processes_per_session", 2).limit("ended_process_time", 50).start().await;
    let mut client = server.client().await;
    client.start("a", ["sleep", "1000"]).await;
    client.start("b", ["sleep", "1000"]).await;
    assert_eq!(client.refused("process/start", start_params("c", ["true"], json!({}))).await, -32600);
    client.ok("process/terminate", json!({"processId": "a"})).await;
    client.finish("a").await;
    while client.call("process/start", start_params("c", ["true"], json!({}))).await.is_err() {}
    assert_eq!(client.finish("c").await.code(), 0);
}

#[tokio::test]
async fn a_start_at_the_bound_makes_room_by_forgetting_the_oldest_that_is_over() {
    let server = Server::builder().limit("processes_per_session", 3).start().await;
    let mut client = server.client().await;
    client.start("stays", ["sleep", "1000"]).await;
    for number in 0..20 {
        let id = number.to_string();
        client.start(&id, ["true"]).await;
        assert_eq!(client.finish(&id).await.code(), 0);
    }
    let listed = client.ok("process/list", json!({})).await;
    let ids: Vec<_> =
        listed["processes"].as_array().expect("a list").iter().map(|p| &p["processId"]).collect();
    assert_eq!(ids, ["stays", "18", "19"]);
}

#[tokio::test]
async fn a_file_beyond_the_bound_is_refused_for_reading_whole() {
    let server = Server::builder().limit("read_file_bytes", 1000).start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in [("fits", 1000), ("not", 1001)] {
        std::fs::write(directory.path().join(name), vec![b'x'; bytes]).unwrap();
    }
    let path = |name: &str| json!({"path": directory.path().join(name)});
    assert!(client.ok("fs/readFile", path("fits")).await["dataBase64"].is_string());
    assert_eq!(client.refused("fs/readFile", path("not")).await, -32600);
}

#[tokio::test]
async fn a_buffered_body_beyond_the_bound_is_refused_and_streams_have_a_bound_too() {
    let origin = Origin::start(Arc::new(|asked, mut stream| {
        Box::pin(async move {
            if asked.target == "/hang" {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok();
                stream.read_u8().await.ok();
            } else {
                stream.write_all(&plain("200 OK", "", &vec![b'x'; 1001])).await.ok();
            }
        })
    }))
    .await;
    let server = Server::builder().limit("http_body_bytes", 1000).limit("http_streams", 1).start().await;
    let mut client = server.client().await;
    let get = |path: &str, id: &str, stream: bool| json!({"method": "GET", "url": origin.url(path), "requestId": id, "streamResponse": stream});
    assert_eq!(client.refused("http/request", get("/big", "r", false)).await, -32603);
    assert_eq!(client.ok("http/request", get("/hang", "s1", true)).await["status"], 200);
    assert_eq!(client.refused("http/request", get("/hang", "s2", true)).await, -32602);
}

#[tokio::test]
async fn many_clients_come_and_go_and_nothing_stays() {
    let server = Server::builder().limit("detached_time", 50).start().await;
    for _ in 0..5 {
        server.client().await;
    }
    let before = codex_e2e::machine::descriptors(server.pid());
    for round in 0..100 {
        let mut client = server.client().await;
        client.start(&format!("p{round}"), ["sleep", "1000"]).await;
    }
    let pid = server.pid();
    codex_e2e::machine::eventually("all programs end with their sessions", || {
        codex_e2e::machine::children(pid).is_empty()
    })
    .await;
    codex_e2e::machine::eventually("no descriptor stays", || {
        codex_e2e::machine::descriptors(pid) <= before + 2
    })
    .await;
}

#[tokio::test]
async fn a_limit_of_file_sizes_ends_no_server_and_the_programs_that_meet_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large");
    // In blocks of 512 bytes: 1 MiB, which leaves room for what the server logs.
    let limited = ["sh", "-c", "ulimit -f 2048; exec \"$@\"", "sh"];
    let mut server = Server::builder().under(limited).start().await;
    let mut client = server.client().await;
    let large = "A".repeat(4 << 20);
    let params = json!({"path": file, "dataBase64": large});
    let (code, message) = client.call("fs/writeFile", params).await.unwrap_err();
    assert_eq!(code, -32603, "{message}");
    assert!(message.contains("too large"), "{message}");
    let command = format!("exec head -c 4M /dev/zero > {}", file.display());
    let ended = client.run("p", &command).await;
    assert_eq!((ended.code(), &ended.exited["signal"]), (128 + 25, &json!(25)));
    assert!(server.stop().await.success());
}

#[test]
fn run_says_that_its_output_met_a_limit_of_file_sizes() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("output")).unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 8; exec \"$@\"", "sh"])
        .arg(codex_e2e::binary::codex())
        .args(["exec-server", "run", "--", "head", "-c", "1M", "/dev/zero"])
        .stdout(file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("stdout") && told.contains("too large"), "{told}");
}
