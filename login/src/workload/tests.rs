//! Variables, row by row, and answers.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use super::spiffe::{JwtSvid, JwtSvidRequest, JwtSvidResponse, fetch};
use super::*;

/// Variables by name.
fn variables(given: &[(&str, &str)]) -> WorkloadVariables {
    let given: Vec<(String, String)> =
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    WorkloadVariables::from_lookup(|name| {
        given.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
    })
}

#[test]
fn each_fault_of_the_variables_has_its_words() {
    const SPIFFE: [(&str, &str); 4] =
        [(RULE, "r"), (SOURCE, "spiffe"), (SOCKET, "unix:///run/agent.sock"), (AUDIENCE, "a")];
    let with = |given: &[(&'static str, &'static str)], more: (&'static str, &'static str)| {
        let mut all: Vec<_> = given.iter().copied().filter(|(name, _)| *name != more.0).collect();
        all.push(more);
        all
    };
    let without = |given: &[(&'static str, &'static str)], name: &str| {
        given.iter().copied().filter(|(given, _)| *given != name).collect::<Vec<_>>()
    };
    for (given, expected) in [
        (vec![(FILE, "/t")], "workload identity requires OPENAI_FEDERATION_RULE_ID"),
        (vec![(RULE, "")], "workload identity variable OPENAI_FEDERATION_RULE_ID is invalid"),
        (vec![(RULE, "r")], "workload identity requires OPENAI_IDENTITY_TOKEN_FILE"),
        (vec![(RULE, "r"), (FILE, "t")], "workload identity variable OPENAI_IDENTITY_TOKEN_FILE is invalid"),
        (vec![(RULE, "r"), (SOURCE, "other")], "OPENAI_IDENTITY_TOKEN_SOURCE must be file or spiffe"),
        (vec![(RULE, "r"), (SOURCE, "")], "OPENAI_IDENTITY_TOKEN_SOURCE must be file or spiffe"),
        (without(&SPIFFE, SOCKET), "workload identity requires SPIFFE_ENDPOINT_SOCKET"),
        (without(&SPIFFE, AUDIENCE), "workload identity requires OPENAI_SPIFFE_AUDIENCE"),
        (
            with(&SPIFFE, (SOCKET, "tcp:127.0.0.1:1")),
            "workload identity variable SPIFFE_ENDPOINT_SOCKET is invalid",
        ),
        (
            with(&SPIFFE, (SOCKET, "unix:relative")),
            "workload identity variable SPIFFE_ENDPOINT_SOCKET is invalid",
        ),
        (with(&SPIFFE, (SPIFFE_ID, "")), "workload identity variable OPENAI_SPIFFE_ID is invalid"),
        (with(&SPIFFE, (FILE, "/t")), "OPENAI_IDENTITY_TOKEN_FILE does not go with"),
    ] {
        let variables = variables(&given);
        assert!(variables.is_workload(), "{given:?}");
        let error = variables.identity().unwrap_err().to_string();
        assert!(error.contains(expected), "{given:?}: {error}");
    }
    let good = variables(&[(RULE, " r "), (FILE, "/t"), (SOURCE, "file")]).identity().unwrap();
    assert_eq!(good, Identity { rule: "r".to_owned(), source: Source::File("/t".into()) });
    let named = variables(&with(&SPIFFE, (SPIFFE_ID, "spiffe://x/y"))).identity().unwrap().source;
    let (socket, audience) = ("/run/agent.sock".into(), "a".to_owned());
    assert_eq!(named, Source::Spiffe { socket, audience, id: Some("spiffe://x/y".to_owned()) });
    assert!(!variables(&[(SOCKET, "unix:///run/agent.sock")]).is_workload(), "others use the socket too");
}

fn token(claims: &str) -> String {
    let part = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text);
    format!("{}.{}.c2ln", part("{}"), part(claims))
}

#[test]
fn an_answer_counts_if_its_token_names_the_account_and_lasts() {
    let now = Timestamp::UNIX_EPOCH;
    let named = token(r#"{"https://api.openai.com/auth":{"chatgpt_account_id":"acct-1"}}"#);
    let answer =
        |token: &str, seconds: i64| format!(r#"{{"access_token":"{token}","expires_in":{seconds}}}"#);
    let good = understood(answer(&named, 600).as_bytes(), now).expect("a token");
    assert_eq!(good.claims.account_id.as_deref(), Some("acct-1"));
    let after = |seconds| now + SignedDuration::from_secs(seconds);
    assert!(!good.ends_soon(after(299)) && good.ends_soon(after(300)));
    assert!(!good.has_ended(after(599)) && good.has_ended(after(600)));
    for bad in [
        answer("opaque", 600),
        answer(&token("{}"), 600),
        answer(&named, 0),
        answer(&named, i64::MAX),
        format!(r#"{{"access_token":"{named}"}}"#),
        "[]".to_owned(),
        String::new(),
    ] {
        assert!(understood(bad.as_bytes(), now).is_none(), "{bad}");
    }
}

#[test]
fn a_token_file_holds_one_token_within_the_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    for (content, expected) in [
        ("token\n".to_owned(), Some("token")),
        (String::new(), None),
        (" \n".to_owned(), None),
        ("x".repeat(TOKEN_BYTES as usize + 1), None),
    ] {
        std::fs::write(&path, &content).unwrap();
        assert_eq!(read(path.clone()).ok().as_ref().map(Secret::expose), expected, "{content:.9}");
    }
    assert!(matches!(read("/no/such/file".into()), Err(WorkloadError::File { .. })));
}

/// An agent that knows these identities, or refuses with this status.
async fn agent(socket: PathBuf, svids: Vec<JwtSvid>, status: &'static str) {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let svids = svids.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let svids = svids.clone();
                async move {
                    assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchJWTSVID");
                    assert_eq!(request.headers()["workload.spiffe.io"], "true");
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(JwtSvidRequest::decode(&body[5..]).unwrap().audience, ["openai"]);
                    let message = JwtSvidResponse { svids }.encode_to_vec();
                    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                    let body = Bytes::from([&[0], &length[..], &message].concat());
                    let answer =
                        Response::builder().header("grpc-status", status).header("grpc-message", "no");
                    Ok::<_, Infallible>(answer.body(Full::new(body)).unwrap())
                }
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
}

#[tokio::test]
async fn an_agent_of_spiffe_gives_the_token_of_the_identity_that_is_meant() {
    let directory = tempfile::tempdir().unwrap();
    let svid = |id: &str, svid: &str| JwtSvid { spiffe_id: id.to_owned(), svid: svid.to_owned() };
    let both = vec![svid("spiffe://x/a", "token-a"), svid("spiffe://x/b", "token-b")];
    let huge = "x".repeat(TOKEN_BYTES as usize + 1);
    for (number, (svids, status, id, expected)) in [
        (both[..1].to_vec(), "0", None, Ok("token-a")),
        (both.clone(), "0", Some("spiffe://x/b"), Ok("token-b")),
        (both.clone(), "0", None, Err("several identities; name one in OPENAI_SPIFFE_ID")),
        (both.clone(), "0", Some("spiffe://x/c"), Err("no such identity")),
        (Vec::new(), "0", None, Err("no such identity")),
        (both.clone(), "7", None, Err("refused with status 7: no")),
        (vec![svid("spiffe://x/a", "")], "0", None, Err("empty or longer")),
        (vec![svid("spiffe://x/a", &huge)], "0", None, Err("empty or longer")),
    ]
    .into_iter()
    .enumerate()
    {
        let socket = directory.path().join(format!("agent-{number}"));
        agent(socket.clone(), svids, status).await;
        let fetched = fetch(&socket, "openai".to_owned(), id.map(str::to_owned)).await;
        match (expected, &fetched) {
            (Ok(token), Ok(fetched)) => assert_eq!(fetched.expose(), token),
            (Err(words), Err(why)) => assert!(why.contains(words), "{why}"),
            _ => panic!("{number}: {:?}", fetched.map(|_| "a token")),
        }
    }
    assert!(fetch(&directory.path().join("none"), "openai".to_owned(), None).await.is_err());
}
