//! Logs, files and forwards.

use codex_e2e::Server;
use codex_e2e::console::Browser;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{REMOTE, of, start};

async fn closed(owner: &Browser, process: &str) {
    assert_eq!(owner.terminal(process).await.unwrap().closed().await, Some(1000));
}

fn text(page: &Value) -> String {
    let pieces = page["pieces"].as_array().expect("pieces").iter();
    let bytes: Vec<u8> = pieces.flat_map(|piece| codex_e2e::bytes_of(&piece["bytes"])).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_log_is_read_from_its_end_searched_to_its_beginning_and_downloaded_whole() {
    let server = Server::start().await;
    let (_console, owner) = of(&server).await;
    let process =
        start(&owner, "seq 1 50000; printf '\\033[1mErr\\033[0mor here\\n'; echo bad >&2", false).await;
    closed(&owner, &process).await;
    let end = owner.get(&format!("{process}/output?max=1000")).await;
    assert!(end["over"] == true, "{end}");
    assert_eq!(end["next"], end["total"]);
    let begin = owner.get(&format!("{process}/output?from=0&max=20")).await;
    assert!(text(&begin).contains("\n2\n3\n"), "{begin}");
    // Page by page, all of it is seen, from both streams.
    let (mut from, mut streams) = (0, std::collections::BTreeSet::new());
    while from < end["total"].as_u64().unwrap() {
        let page = owner.get(&format!("{process}/output?from={from}")).await;
        let pieces = page["pieces"].as_array().unwrap().iter();
        streams.extend(pieces.map(|piece| piece["stream"].as_str().unwrap().to_owned()));
        from = page["next"].as_u64().unwrap();
    }
    assert_eq!(streams.into_iter().collect::<Vec<_>>(), ["stderr", "stdout"]);

    let found = owner.get(&format!("{process}/output/search?text=49%397")).await;
    let lines: Vec<_> =
        found["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(lines.len(), 15, "{lines:?}");
    let at = found["lines"][0]["offset"].as_u64().unwrap();
    let there = owner.get(&format!("{process}/output?from={at}&max=6")).await;
    assert!(text(&there).starts_with(&format!("{}\n", lines[0])), "{at}");
    let found = owner.get(&format!("{process}/output/search?text=error%20h")).await;
    assert_eq!(found["lines"][0]["text"], "Error here", "colours and case do not matter");
    let none = owner.get(&format!("{process}/output/search?text=nowhere")).await;
    assert_eq!((none["lines"].as_array().unwrap().len(), &none["next"]), (0, &Value::Null));

    let file = owner.ask("GET", &format!("{process}/output/download"), None).await;
    assert!(file.whole && file.header("content-disposition").unwrap().starts_with("attachment;"));
    assert_eq!(file.body.len() as u64, end["total"].as_u64().unwrap());
    assert_eq!(
        file.header("content-security-policy"),
        Some("default-src 'none'; sandbox; frame-ancestors 'none'")
    );
}

#[tokio::test]
async fn files_are_listed_uploaded_in_whole_and_downloaded_as_they_are() {
    let server = Server::start().await;
    let (_console, owner) = of(&server).await;
    let ground = tempfile::tempdir().unwrap();
    let path = ground.path().to_str().unwrap();
    std::fs::create_dir(ground.path().join("deep")).unwrap();
    let content: Vec<u8> = (0..5_000_000_u32).map(|number| (number / 3) as u8).collect();
    let name = "%C3%B8%20%26%3F.bin";
    let put = format!("{REMOTE}/file?path={path}&name={name}");
    let stored = owner.send("PUT", &put, "", &content).await;
    assert_eq!((stored.status, stored.json()["bytes"].as_u64()), (200, Some(5_000_000)), "{}", stored.json());
    assert_eq!(std::fs::read(ground.path().join("\u{f8} &?.bin")).unwrap(), content);
    let listed = owner.get(&format!("{REMOTE}/directory?path={path}")).await;
    let kinds: Vec<_> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("deep", "directory"), ("\u{f8} &?.bin", "file")]);
    assert_eq!((&listed["entries"][1]["size"], &listed["shown"]), (&json!(5_000_000), &json!(path)));
    // The listing's own paths lead back to what it has listed.
    let uri = listed["entries"][1]["path"].as_str().unwrap().replace('%', "%25");
    let got = owner.ask("GET", &format!("{REMOTE}/file?path={uri}"), None).await;
    assert!(got.whole && got.body == content, "{} bytes of {}", got.body.len(), got.status);
    assert_eq!(got.header("content-disposition"), Some("attachment; filename*=UTF-8''%C3%B8%20%26%3F%2Ebin"));

    assert_eq!(owner.send("PUT", &put, "", b"new").await.status, 409, "it is there");
    assert_eq!(owner.send("PUT", &format!("{put}&replace=true"), "", b"new").await.status, 200);
    assert_eq!(std::fs::read(ground.path().join("\u{f8} &?.bin")).unwrap(), b"new");
    for (method, path, status) in [
        ("PUT", format!("{REMOTE}/file?path={path}&name=deep&replace=true"), 400),
        ("PUT", format!("{REMOTE}/file?path={path}&name=..%2Fx"), 400),
        ("PUT", format!("{REMOTE}/file?path={path}"), 400),
        ("GET", format!("{REMOTE}/file?path={path}/deep"), 400),
        ("GET", format!("{REMOTE}/file?path={path}/nosuch"), 404),
        ("GET", format!("{REMOTE}/file?path=relative"), 400),
        ("GET", format!("{REMOTE}/directory?path={path}/nosuch"), 404),
    ] {
        let reply = owner.send(method, &path, "", b"").await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.json());
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing() {
    let server = Server::start().await;
    let (console, owner) = of(&server).await;
    let ground = tempfile::tempdir().unwrap();
    std::fs::write(ground.path().join("kept"), "kept").unwrap();
    let head = format!(
        "PUT {REMOTE}/file?path={}&name=kept&replace=true HTTP/1.1\r\nhost: {}\r\norigin: http://{}\r\ncookie: {}\r\ncontent-length: 3000000\r\n\r\n",
        ground.path().display(),
        console.address,
        console.address,
        owner.cookie.clone().unwrap()
    );
    let mut stream = TcpStream::connect(console.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![7; 2_000_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // Whether it is answered or cut off, it is over then.
    let _ = codex_e2e::client::guarded("the upload's end", stream.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "), "{answer:?}");
    assert_eq!(std::fs::read(ground.path().join("kept")).unwrap(), b"kept");
}

#[tokio::test]
async fn a_forward_leads_to_a_port_there_until_it_is_stopped() {
    let server = Server::start().await;
    let (_console, owner) = of(&server).await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = target.accept().await {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    let begun =
        owner.ask("POST", "/api/forwards", Some(json!({"environment": "remote", "port": port}))).await;
    assert_eq!(begun.status, 200, "{}", begun.json());
    let local = begun.json()["local"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(&local).await.unwrap();
    stream.write_all(b"there and back").await.unwrap();
    let mut echo = [0; 14];
    codex_e2e::client::guarded("the echo", stream.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"there and back");
    let listed = owner.get("/api/forwards").await;
    assert_eq!(
        (&listed["forwards"][0]["carried"], &listed["forwards"][0]["trouble"]),
        (&json!(1), &Value::Null)
    );
    let taken = local.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let second = json!({"environment": "remote", "port": port, "localPort": taken});
    assert_eq!(owner.ask("POST", "/api/forwards", Some(second)).await.status, 409);
    let id = begun.json()["id"].as_u64().unwrap();
    assert_eq!(owner.ask("DELETE", &format!("/api/forwards/{id}"), None).await.status, 204);
    // Its connections end with it.
    assert!(matches!(codex_e2e::client::guarded("the end", stream.read(&mut echo)).await, Ok(0) | Err(_)));
    assert_eq!(owner.ask("DELETE", &format!("/api/forwards/{id}"), None).await.status, 404);
}
