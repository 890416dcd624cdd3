//! The recorded conversations of 0.169: every buffered request, refused or served as recorded.

use std::collections::HashMap;

use super::*;

const RECORDED: &str = include_str!("../../../../tests/vectors/http.0.169.0.jsonl");

/// What the recording's own server did, as far as the requests of case `buffered` use it.
fn recorded_peer(target: &str) -> Reply {
    match target {
        "/slow" => raw("", true),
        "/empty" => raw("HTTP/1.1 204 No Content\r\n\r\n", false),
        other => script(other),
    }
}

#[tokio::test]
async fn buffered_requests_get_the_recorded_codes() {
    let peer = Peer::start(recorded_peer).await;
    let http = http();
    let mut asked: HashMap<i64, Value> = HashMap::new();
    let mut compared = 0;
    for line in RECORDED.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let data = &line["data"];
        let Some(id) = data["id"].as_i64().filter(|_| line["case"] == "buffered") else { continue };
        if line["dir"] == "c2s" {
            asked.insert(id, data.clone());
            continue;
        }
        let question = &asked[&id];
        // The recording's peer refused `get` by itself, and `slow` without a limit only takes time.
        let unbounded = question["params"]["timeoutMs"].is_null() && question.to_string().contains("/slow");
        if question["method"] != "http/request" || question["params"]["method"] == "get" || unbounded {
            continue;
        }
        let told = question["params"].to_string().replace("127.0.0.1:45863", &peer.address.to_string());
        let ours = match serde_json::from_str::<RequestParams>(&told) {
            Err(_) => Err(ErrorCode::INVALID_PARAMS.0),
            Ok(params) => {
                http.request(params).await.map(|result| result.status).map_err(|error| error.code.0)
            }
        };
        let theirs = match data["error"]["code"].as_i64() {
            Some(code) => Err(code),
            None => Ok(u16::try_from(data["result"]["status"].as_u64().unwrap()).unwrap()),
        };
        assert_eq!(ours, theirs, "{told}");
        compared += 1;
    }
    assert!(compared > 30, "only {compared} requests compared");
}
