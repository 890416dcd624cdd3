//! Variables, row by row, and answers.

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
        (SPIFFE.to_vec(), "can't ask a SPIFFE agent"),
    ] {
        let variables = variables(&given);
        assert!(variables.is_workload(), "{given:?}");
        let error = variables.identity().unwrap_err().to_string();
        assert!(error.contains(expected), "{given:?}: {error}");
    }
    let good = variables(&[(RULE, " r "), (FILE, "/t"), (SOURCE, "file")]).identity().unwrap();
    assert_eq!(good, Identity { rule: "r".to_owned(), file: "/t".into() });
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
