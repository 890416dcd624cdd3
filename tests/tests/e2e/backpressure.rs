//! A reader that stops, a client that floods, and nothing is lost (ARCHITECTURE.md, invariant 3).

use codex_e2e::client::{guarded, start_params};
use codex_e2e::http::{frame, upgraded};
use codex_e2e::link::Received;
use codex_e2e::machine::stops_growing;
use codex_e2e::{GUARD, Server, base64};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Counts on stdout and notes its progress in a file beside.
const COUNTER: &str = r#"i=0; while [ $i -lt 300 ]; do seq $((i * 10000)) $((i * 10000 + 9999)); i=$((i + 1)); printf x >> progress; done"#;

#[tokio::test]
async fn a_reader_that_stops_holds_the_program_and_then_gets_every_byte() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut other = server.client().await;
    for tty in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let command = if tty { format!("stty -opost; {COUNTER}") } else { COUNTER.to_string() };
        let id = format!("tty-{tty}");
        client.shell_with(&id, &command, json!({"cwd": directory.path(), "tty": tty})).await;
        let blocked_at = stops_growing(&directory.path().join("progress")).await;
        assert!(blocked_at < 300, "the program must wait for its reader, not run through");
        assert_eq!(other.run(&format!("{id}-other"), "seq 1 100000 | wc -l").await.stdout().trim(), "100000");
        let ended = client.finish(&id).await;
        let bytes = ended.bytes(if tty { "pty" } else { "stdout" });
        let expected: String = (0..3_000_000).map(|n| format!("{n}\n")).collect();
        assert!(bytes == expected.as_bytes(), "{} of {} bytes, tty {tty}", bytes.len(), expected.len());
    }
}

#[tokio::test]
async fn a_small_log_holds_up_no_program_whose_output_is_read() {
    let server = Server::builder().limit("retained_output_bytes", 4096).start().await;
    let mut client = server.client().await;
    for (id, lines) in [("few", 5_000), ("many", 100_000)] {
        let expected: String = (1..=lines).map(|n| format!("{n}\n")).collect();
        assert!(client.run(id, &format!("seq 1 {lines}")).await.stdout() == expected, "{id}");
    }
}

#[tokio::test]
async fn a_flood_that_nobody_reads_is_held_and_then_answered_whole() {
    const FLOOD: i64 = 20_000;
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    let (mut sender, mut receiver) = client.into_halves();
    let chunk = base64("x".repeat(300));
    // Sends without end in sight until the server takes no more, or all is sent.
    let flooding = tokio::spawn(async move {
        for n in 0..FLOOD {
            let params = json!({"processId": "cat", "chunk": chunk, "writeId": n.to_string()});
            let request = json!({"id": 1000 + n, "method": "process/write", "params": params});
            timeout(GUARD, sender.text(&request.to_string()))
                .await
                .expect("the server goes on reading")
                .unwrap();
        }
        sender
    });
    // Nobody reads until the socket is full both ways; this is not waited for by time but by progress below.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let mut next_answer = 1000;
    let mut echoed = 0;
    while next_answer < 1000 + FLOOD || echoed < 300 * FLOOD {
        let received = timeout(GUARD, receiver.next())
            .await
            .unwrap_or_else(|_| panic!("stalled at answer {next_answer}, {echoed} bytes echoed"));
        let Received::Text(text) = received else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["method"] == "process/output" {
            echoed += codex_e2e::bytes_of(&message["params"]["chunk"]).len() as i64;
        } else if message.get("method").is_none() {
            assert_eq!(message["id"], next_answer, "{message}");
            assert_eq!(message["result"]["status"], "accepted");
            next_answer += 1;
        }
    }
    flooding.await.unwrap();
}

#[tokio::test]
async fn requests_beyond_the_bound_wait_in_the_socket_and_are_answered_later() {
    let server = Server::builder().limit("requests_in_flight", 8).start().await;
    let mut client = server.client().await;
    client.start_with("p", ["cat"], json!({"pipeStdin": true})).await;
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(client.send("fs/getMetadata", json!({"path": "/"})).await);
    }
    for id in ids {
        assert_eq!(client.answer(id).await.unwrap()["isDirectory"], true);
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_stay_within_a_bound_and_come_whole_later() {
    // Large enough that the allocator gives it back to the system at once.
    const FILE_BYTES: u64 = 40 << 20;
    const READS: usize = 6;
    let server = Server::builder().limit("answer_bytes", 1 << 20).start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::File::create(&path).unwrap().set_len(FILE_BYTES).unwrap();
    let mut greedy = server.client().await;
    for _ in 0..READS {
        greedy.send("fs/readFile", json!({"path": path})).await;
    }
    let (_sender, mut receiver) = greedy.into_halves();
    // What another connection gets read meanwhile shows that the server had the time for all of them.
    server.client().await.ok("fs/readFile", json!({"path": path})).await;
    let peak = codex_e2e::machine::peak_memory(server.pid());
    let encoded = FILE_BYTES.div_ceil(3) * 4;
    assert!(peak < encoded, "{peak} bytes for answers that nobody takes: more than one of them");
    for _ in 0..READS {
        let text = loop {
            match timeout(GUARD, receiver.next()).await.expect("an answer") {
                Received::Text(text) => break text,
                // On a busy machine this takes longer than the server leaves a connection without a ping.
                Received::Ping(_) | Received::Pong(_) => {}
                Received::End(code) => panic!("the connection ended: {code:?}"),
            }
        };
        assert!(text.len() as u64 > encoded, "{} bytes", text.len());
    }
}

#[tokio::test]
async fn waiting_requests_hold_up_no_files() {
    let server = Server::builder().args(["--concurrent-requests", "1"]).start().await;
    let mut client = server.client().await;
    client.start_with("p", ["cat"], json!({"pipeStdin": true})).await;
    let mut waits = Vec::new();
    for _ in 0..100 {
        waits.push(client.send("process/wait", json!({"processId": "p"})).await);
        waits.push(client.send("process/read", json!({"processId": "p", "waitMs": 600_000})).await);
    }
    assert!(client.ok("fs/readDirectory", json!({"path": "/"})).await["entries"].is_array());
    client.ok("process/terminate", json!({"processId": "p"})).await;
    for id in waits {
        assert_eq!(client.answer(id).await.unwrap()["exited"], true);
    }
}

#[tokio::test]
async fn a_program_that_does_not_read_delays_only_writes() {
    let server =
        Server::builder().limit("queued_writes", 4).limit("queued_write_bytes", 200_000).start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let command = "while [ ! -e go ]; do sleep 0.02; done; head -c 2000000 | wc -c";
    client.shell_with("slow", command, json!({"pipeStdin": true, "cwd": directory.path()})).await;
    let mut writes = Vec::new();
    for _ in 0..20 {
        let params = json!({"processId": "slow", "chunk": base64(vec![b'x'; 100_000])});
        writes.push(client.send("process/write", params).await);
    }
    // Reads and files run beside; they are answered while writes wait.
    assert_eq!(client.ok("fs/getMetadata", json!({"path": "/"})).await["isDirectory"], true);
    std::fs::write(directory.path().join("go"), "").unwrap();
    for id in writes {
        assert_eq!(client.answer(id).await.unwrap()["status"], "accepted");
    }
    assert_eq!(client.finish("slow").await.stdout().trim(), "2000000");
}

#[tokio::test]
async fn writes_that_wait_are_lost_when_nobody_reads_any_more_and_refused_after_terminate() {
    let server = Server::builder().limit("queued_writes", 2).start().await;
    let mut client = server.client().await;
    for (id, end, accepted) in
        [("closes", "exec 0<&-; exec sleep 1000", true), ("exits", "exit", true), ("killed", "", false)]
    {
        let directory = tempfile::tempdir().unwrap();
        let command = format!("while [ ! -e go ]; do sleep 0.02; done; {end}");
        client.shell_with(id, &command, json!({"pipeStdin": true, "cwd": directory.path()})).await;
        let mut writes = Vec::new();
        for _ in 0..6 {
            let params = json!({"processId": id, "chunk": base64(vec![b'x'; 100_000])});
            writes.push(client.send("process/write", params).await);
        }
        if accepted {
            std::fs::write(directory.path().join("go"), "").unwrap();
        } else {
            client.ok("process/terminate", json!({"processId": id})).await;
        }
        let mut answers = Vec::new();
        for write in writes {
            answers.push(client.answer(write).await.map(|answer| answer["status"] == "accepted"));
        }
        let last = answers.last().unwrap();
        match accepted {
            true => assert!(answers.iter().all(|answer| *answer == Ok(true)), "{id}: {answers:?}"),
            false => assert_eq!(last.as_ref().map_err(|(code, _)| *code), Err(-32603), "{id}"),
        }
    }
}

#[tokio::test]
async fn with_nobody_attached_a_program_waits_and_then_goes_on_without_its_reader() {
    let server = Server::builder().limit("hold_time", 1500).start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut client = server.client().await;
    let request = start_params("p", ["sh", "-c", COUNTER], json!({"cwd": directory.path()}));
    client.ok("process/start", request).await;
    let session = client.session_id.clone();
    drop(client);
    // Held at first, then released: the program runs to its end with nobody there.
    let progress = directory.path().join("progress");
    codex_e2e::machine::eventually("the program ends unread", || {
        std::fs::metadata(&progress).is_ok_and(|data| data.len() == 300)
    })
    .await;
    let mut heir = server.connect().await;
    crate::handshake::resume_soon(&mut heir, &session).await;
    let exit = heir.ok("process/wait", json!({"processId": "p", "timeoutMs": 60_000})).await;
    assert_eq!(exit["exitCode"], 0);
    let read = heir.read("p", 0, 0).await;
    assert!(read["lostBytes"].as_u64().unwrap() > 0, "loss is announced: {}", read["lostBytes"]);
    let kept: u64 = read["chunks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| codex_e2e::bytes_of(&c["chunk"]).len() as u64)
        .sum();
    assert_eq!(read["lostBytes"].as_u64().unwrap() + kept, read["totals"]["stdout"].as_u64().unwrap());
}

/// Reads the server's frames up to a text message that fits; answers no ping.
async fn deaf_to_pings(reader: &mut BufReader<TcpStream>, mut fits: impl FnMut(&Value) -> bool) {
    loop {
        let first = reader.read_u8().await.unwrap();
        let length = match reader.read_u8().await.unwrap() {
            126 => u64::from(reader.read_u16().await.unwrap()),
            127 => reader.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        reader.read_exact(&mut payload).await.unwrap();
        if first == 0x81 && fits(&serde_json::from_slice(&payload).unwrap()) {
            return;
        }
    }
}

#[tokio::test]
async fn a_client_that_answers_no_ping_still_gets_every_byte() {
    const BYTES: usize = 3 << 20;
    let server = Server::start().await;
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        server.address()
    );
    socket.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let start = start_params(
        "flood",
        ["head", "-c", &BYTES.to_string(), "/dev/zero"],
        json!({"env": {"PATH": "/usr/bin:/bin"}}),
    );
    for message in [
        json!({"id": 1, "method": "initialize", "params": {"clientName": "deaf"}}),
        json!({"method": "initialized", "params": {}}),
        json!({"id": 2, "method": "process/start", "params": start}),
    ] {
        let text = message.to_string();
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        // Masked by zeros, so that the text stays as it is.
        let frame = [&[0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0], text.as_bytes()].concat();
        socket.write_all(&frame).await.unwrap();
    }
    let mut received = 0;
    let mut reader = BufReader::new(socket);
    let all = deaf_to_pings(&mut reader, |message| {
        if message["method"] == "process/output" {
            received += codex_e2e::bytes_of(&message["params"]["chunk"]).len();
        }
        message["method"] == "process/closed"
    });
    timeout(GUARD, all).await.expect("the program is not held for ever");
    assert_eq!(received, BYTES);
}

/// A server's frame: its first byte, and its payload.
async fn read_frame(stream: &mut BufReader<TcpStream>) -> (u8, Vec<u8>) {
    let (first, length) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
    let length = match length {
        126 => stream.read_u16().await.unwrap().into(),
        127 => stream.read_u64().await.unwrap(),
        short => short.into(),
    };
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

#[tokio::test]
async fn a_ping_is_answered_in_the_middle_of_a_large_answer() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large");
    let content: Vec<u8> = (0..42_u32 << 20).map(|at| (at % 251) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let server = Server::start().await;
    let mut stream = BufReader::new(upgraded(server.address()).await);
    for message in [
        json!({"id": 1, "method": "initialize", "params": {"clientName": "e2e"}}),
        json!({"method": "initialized"}),
        json!({"id": 2, "method": "fs/readFile", "params": {"path": file}}),
    ] {
        stream.write_all(&frame(0x81, message.to_string().as_bytes())).await.unwrap();
    }
    let (first, _) = guarded("the answer to initialize", read_frame(&mut stream)).await;
    assert_eq!(first, 0x81);
    let (first, mut answer) = guarded("the answer's beginning", read_frame(&mut stream)).await;
    assert_eq!(first, 0x01, "a first part, and no whole message");
    // By now the server fills the buffers between it and us, which hold far less than the answer.
    stream.write_all(&frame(0x89, b"alive?")).await.unwrap();
    let mut answered_before_the_end = false;
    loop {
        let (first, payload) = guarded("the next part", read_frame(&mut stream)).await;
        match first {
            0x8a => {
                assert_eq!(payload, b"alive?");
                answered_before_the_end = true;
            }
            0x00 => answer.extend(payload),
            0x80 => {
                answer.extend(payload);
                break;
            }
            // A ping of the server.
            0x89 => {}
            other => panic!("a frame that begins with {other:#x} inside a message"),
        }
    }
    assert!(answered_before_the_end);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert!(answer["result"]["dataBase64"] == base64(&content), "{}", &answer.to_string()[..200]);
}
