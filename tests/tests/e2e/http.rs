//! HTTP requests made by the server (section 11).

use std::sync::Arc;

use codex_e2e::http::{Answer, Origin, plain};
use codex_e2e::{Server, base64, bytes_of};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn answers() -> Answer {
    Arc::new(|asked, mut stream| {
        Box::pin(async move {
            let answer = match asked.target.as_str() {
                "/redirect" => plain("302 Found", "location: /echo\r\n", b""),
                "/loop" => plain("302 Found", "location: /loop\r\n", b""),
                "/br" => plain("200 OK", "content-encoding: br\r\n", b"\x1f\x8b raw"),
                "/odd-headers" => plain("200 OK", "X-Rep: 1\r\nx-rep: 2\r\nX-Latin: \u{e9}\r\n", b""),
                "/broken" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart".to_vec(),
                "/empty" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
                "/missing" => plain("404 Not Found", "", b"no"),
                "/hang" => {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
                        .await
                        .ok();
                    stream.read_u8().await.ok();
                    return;
                }
                "/big" => plain("200 OK", "", &vec![b'z'; 5_000_000]),
                _ => {
                    let head = asked.head.to_string();
                    plain("200 OK", "", &[head.as_bytes(), &asked.body].concat())
                }
            };
            stream.write_all(&answer).await.ok();
        })
    })
}

fn get(origin: &Origin, path: &str, more: Value) -> Value {
    let mut params = json!({"method": "GET", "url": origin.url(path), "requestId": "r"});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

fn body(answer: &Value) -> String {
    String::from_utf8_lossy(&bytes_of(&answer["bodyBase64"])).into()
}

#[tokio::test]
async fn a_request_goes_out_as_written() {
    let origin = Origin::start(answers()).await;
    let server = Server::start().await;
    let mut client = server.client().await;
    let headers = json!([{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}]);
    let request = json!({"method": "fOO", "url": origin.url("/echo?q=1"), "headers": headers, "bodyBase64": base64("body"), "requestId": ""});
    let answer = client.ok("http/request", request).await;
    let text = body(&answer).to_lowercase();
    assert!(body(&answer).starts_with("fOO /echo?q=1 HTTP/1.1\r\n"), "{text}");
    for line in ["x-a: 1", "x-a: 2", "accept: */*", "content-length: 4", &format!("host: {}", origin.address)]
    {
        assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} in {text}");
    }
    assert!(
        !text.contains("user-agent") && text.contains("accept-encoding") && text.ends_with("\r\nbody"),
        "{text}"
    );
    let with_user = origin.url("/echo").replace("http://", "http://u:p@");
    let answer =
        client.ok("http/request", json!({"method": "GET", "url": with_user, "requestId": "r"})).await;
    assert!(body(&answer).to_lowercase().contains("authorization: basic dtpw"), "{}", body(&answer));
}

#[tokio::test]
async fn every_status_is_an_answer_and_what_cannot_be_unpacked_stays_raw() {
    let origin = Origin::start(answers()).await;
    let server = Server::start().await;
    let mut client = server.client().await;
    for (path, more, status) in [
        ("/missing", json!({}), 404),
        ("/empty", json!({}), 204),
        ("/redirect", json!({"redirectPolicy": "stop"}), 302),
        ("/redirect", json!({"redirectPolicy": "follow"}), 200),
        ("/redirect", json!({}), 200),
    ] {
        assert_eq!(client.ok("http/request", get(&origin, path, more)).await["status"], status, "{path}");
    }
    let followed = client.ok("http/request", get(&origin, "/redirect", json!({}))).await;
    assert!(body(&followed).to_lowercase().contains("referer: "), "{}", body(&followed));
    let packed = client.ok("http/request", get(&origin, "/br", json!({}))).await;
    assert_eq!(bytes_of(&packed["bodyBase64"]), b"\x1f\x8b raw");
    let odd = client.ok("http/request", get(&origin, "/odd-headers", json!({}))).await;
    let headers: Vec<(&str, &str)> = odd["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["name"].as_str().unwrap(), h["value"].as_str().unwrap()))
        .collect();
    assert!(headers.contains(&("x-rep", "1")) && headers.contains(&("x-rep", "2")), "{headers:?}");
    assert!(!headers.iter().any(|(name, _)| *name == "x-latin"), "no visible ASCII: dropped");
}

#[tokio::test]
async fn bad_requests_and_failures_have_their_codes() {
    let origin = Origin::start(answers()).await;
    let server = Server::start().await;
    let mut client = server.client().await;
    let with = |more: Value| get(&origin, "/echo", more);
    let cases = [
        (with(json!({"method": "G ET"})), -32602),
        (with(json!({"method": ""})), -32602),
        (with(json!({"url": "ftp://x/y"})), -32602),
        (with(json!({"url": "://x"})), -32602),
        (with(json!({"url": ""})), -32602),
        (with(json!({"headers": null})), -32602),
        (with(json!({"headers": [{"name": "bad name", "value": "1"}]})), -32602),
        (with(json!({"headers": [{"name": "X", "value": "a\nb"}]})), -32602),
        (with(json!({"bodyBase64": "@@"})), -32602),
        (with(json!({"redirectPolicy": null})), -32602),
        (with(json!({"streamResponse": null})), -32602),
        (with(json!({"requestId": null})), -32602),
        (with(json!({"timeoutMs": -1})), -32602),
        (with(json!({"timeoutMs": 0})), -32603),
        (get(&origin, "/hang", json!({"timeoutMs": 200})), -32603),
        (get(&origin, "/loop", json!({})), -32603),
        (get(&origin, "/broken", json!({})), -32603),
        (json!({"method": "GET", "url": "http://127.0.0.1:1/", "requestId": "r"}), -32603),
        (json!({"method": "GET", "url": "http://no-such-host.invalid/", "requestId": "r"}), -32603),
    ];
    for (params, code) in cases {
        assert_eq!(client.refused("http/request", params.clone()).await, code, "{params}");
    }
}

#[tokio::test]
async fn header_values_come_from_the_servers_environment_except_secrets_of_its_own() {
    let origin = Origin::start(answers()).await;
    let server = Server::builder()
        .env("MY_TOKEN", codex_e2e::secret!("token"))
        .env("OPENAI_API_KEY", codex_e2e::secret!("key"))
        .start()
        .await;
    let mut client = server.client().await;
    let with = |variable: Value| {
        get(
            &origin,
            "/echo",
            json!({"headers": [{"name": "X-Auth", "value": "Bearer ", "valueEnvVar": variable}]}),
        )
    };
    let text = body(&client.ok("http/request", with(json!("MY_TOKEN"))).await).to_lowercase();
    assert!(text.contains("x-auth: bearer s3cr3t-token\r\n"), "{text}");
    for refused in
        ["UNSET_VARIABLE", "OPENAI_API_KEY", "openai_api_key", "CODEX_API_KEY", "AWS_SECRET_ACCESS_KEY"]
    {
        assert_eq!(client.refused("http/request", with(json!(refused))).await, -32602, "{refused}");
    }
    let info = client.ok("environment/info", json!({})).await;
    assert_eq!(info["capabilities"]["httpHeaderEnvVars"], true);
    let lacking = get(&origin, "/echo", json!({"headers": [{"name": "X", "valueEnvVar": "MY_TOKEN"}]}));
    assert_eq!(client.refused("http/request", lacking).await, -32602);
}

#[tokio::test]
async fn a_streamed_body_follows_its_answer_in_numbered_pieces() {
    let origin = Origin::start(answers()).await;
    let server = Server::start().await;
    let mut client = server.client().await;
    let stream = |path: &str, id: &str| get(&origin, path, json!({"requestId": id, "streamResponse": true}));
    for (path, size, broken) in [("/big", 5_000_000, false), ("/empty", 0, false), ("/broken", 4, true)] {
        let request = client.send("http/request", stream(path, path)).await;
        let first = client.next().await.unwrap();
        assert_eq!(
            (&first["id"], &first["result"]["bodyBase64"]),
            (&json!(request), &json!("")),
            "{path}: the answer first"
        );
        let (mut next, mut bytes) = (1, 0);
        loop {
            let delta = client.next_notification("http/request/bodyDelta").await;
            assert_eq!((&delta["requestId"], &delta["seq"]), (&json!(path), &json!(next)));
            next += 1;
            bytes += bytes_of(&delta["deltaBase64"]).len();
            if delta["done"] == true {
                assert_eq!(
                    (&delta["deltaBase64"], delta["error"].is_string()),
                    (&json!(""), broken),
                    "{delta}"
                );
                break;
            }
            assert_eq!(delta["error"], Value::Null);
        }
        assert_eq!(bytes, size, "{path}");
    }
}

#[tokio::test]
async fn a_streams_id_is_taken_while_it_runs_and_others_proceed() {
    let origin = Origin::start(answers()).await;
    let server = Server::builder().args(["--concurrent-requests", "1"]).start().await;
    let mut client = server.client().await;
    let stream = |path: &str| get(&origin, path, json!({"requestId": "s", "streamResponse": true}));
    client.ok("http/request", stream("/hang")).await;
    assert_eq!(client.refused("http/request", stream("/echo")).await, -32602);
    assert_eq!(
        client.ok("http/request", get(&origin, "/echo", json!({"requestId": "s"}))).await["status"],
        200
    );
    assert_eq!(client.ok("fs/getMetadata", json!({"path": "/"})).await["isDirectory"], true);
    assert_eq!(client.next_notification("http/request/bodyDelta").await["deltaBase64"], base64("abc"));
    let timed = get(&origin, "/hang", json!({"requestId": "t", "streamResponse": true, "timeoutMs": 300}));
    client.ok("http/request", timed).await;
    let last = client.until(|m| m["params"]["requestId"] == "t" && m["params"]["done"] == true).await;
    assert!(last["params"]["error"].is_string(), "{last}");
    client
        .ok("http/request", get(&origin, "/empty", json!({"requestId": "t", "streamResponse": true})))
        .await;
}

#[tokio::test]
async fn https_is_spoken_to_whom_either_certificate_file_trusts() {
    let origin = codex_e2e::tls::TlsOrigin::start().await;
    let get = json!({"method": "GET", "url": origin.url("/here"), "requestId": "r"});
    for variable in ["SSL_CERT_FILE", "CODEX_CA_CERTIFICATE"] {
        let trusting = Server::builder().env(variable, origin.certificate.to_str().unwrap()).start().await;
        let answer = trusting.client().await.ok("http/request", get.clone()).await;
        assert_eq!(answer["status"], 200);
        assert_eq!(bytes_of(&answer["bodyBase64"]), b"HTTP/2.0 /here");
    }
    let server = Server::start().await;
    let mut client = server.client().await;
    let id = client.send("http/request", get).await;
    let (code, sentence) = client.answer(id).await.unwrap_err();
    assert!(code == -32603 && sentence.contains("certificate"), "{sentence}");
}

#[tokio::test]
async fn secrets_and_paths_stay_in_the_origin_that_they_were_meant_for() {
    let other = Origin::start(answers()).await;
    let (same, away) = ("/echo?from=here", other.url("/echo?from=there"));
    let led: Answer = {
        let away = away.clone();
        Arc::new(move |asked, mut stream| {
            let to = if asked.target.starts_with("/away") { away.clone() } else { same.to_owned() };
            Box::pin(async move {
                let answer = if asked.target.starts_with("/echo") {
                    plain("200 OK", "", asked.head.as_bytes())
                } else {
                    plain("307 Temporary Redirect", &format!("location: {to}\r\n"), b"")
                };
                stream.write_all(&answer).await.ok();
            })
        })
    };
    let origin = Origin::start(led).await;
    let server = Server::builder().env("MY_SECRET", "hush").start().await;
    let mut client = server.client().await;
    let headers = json!([
        {"name": "x-key", "value": "Bearer ", "valueEnvVar": "MY_SECRET"},
        {"name": "authorization", "value": "Basic dTpw"},
        {"name": "cookie", "value": "a=b"},
        {"name": "x-plain", "value": "1"},
    ]);
    for (path, stays) in [("/here?token=t", true), ("/away?token=t", false)] {
        let request = get(&origin, path, json!({"headers": headers}));
        let head = body(&client.ok("http/request", request).await).to_lowercase();
        for secret in ["x-key: bearer hush", "authorization: basic dtpw", "cookie: a=b"] {
            assert_eq!(head.contains(secret), stays, "{path}, {secret}: {head}");
        }
        assert!(head.contains("x-plain: 1"), "{head}");
        let referer = if stays { origin.url(path) } else { origin.url("/") };
        assert!(head.contains(&format!("referer: {referer}\r\n")), "{path}: {head}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_just_closed_is_no_failure_of_a_get() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let origin = tokio::spawn(async move {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let (mut first, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        assert!(first.read(&mut buffer).await.unwrap() > 0);
        first.write_all(answer).await.unwrap();
        // The next request is on its way when the connection ends.
        assert!(first.read(&mut buffer).await.unwrap() > 0);
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        assert!(second.read(&mut buffer).await.unwrap() > 0);
        second.write_all(answer).await.unwrap();
    });
    let server = Server::start().await;
    let mut client = server.client().await;
    for _ in 0..2 {
        let request = json!({"method": "GET", "url": format!("http://{address}/"), "requestId": "r"});
        assert_eq!(body(&client.ok("http/request", request).await), "ok");
    }
    origin.await.unwrap();
}

#[tokio::test]
async fn certificates_that_are_gone_matter_only_where_they_are_needed() {
    let origin = Origin::start(answers()).await;
    let server = Server::builder().env("SSL_CERT_FILE", "/no/such/file").start().await;
    let mut client = server.client().await;
    assert_eq!(client.ok("http/request", get(&origin, "/echo", json!({}))).await["status"], 200);
    let request = json!({"method": "GET", "url": "https://127.0.0.1:1/", "requestId": "r"});
    let error = client.call("http/request", request).await.unwrap_err();
    assert!(error.1.contains("/no/such/file"), "{error:?}");
}
