//! Programs as tools, in both revisions of the protocol.

use std::cell::Cell;
use std::pin::pin;

use codex_e2e::machine::{alive, children, descriptors, eventually, peak_memory};
use codex_e2e::mcp::{McpClient, REVISIONS, Revision, text};
use futures_util::{StreamExt, future, stream};
use rmcp::model::CallToolRequestParams;
use serde_json::{Value, json};

/// Looks again until the program has printed `wanted`.
async fn until(mcp: &McpClient, process: &Value, wanted: &str) -> Value {
    loop {
        let look = mcp.data("exec_read", json!({"process": process, "cursor": 0, "yield_ms": 50})).await;
        if look["output"].as_str().unwrap().contains(wanted) {
            return look;
        }
        assert_eq!(look["state"], "running", "{look}");
    }
}

#[tokio::test]
async fn both_revisions_list_the_tools_and_run_a_program() {
    for revision in REVISIONS {
        let mcp = McpClient::stdio(revision, &[]).await;
        let tools = mcp.tools().await;
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        let wanted = [
            "exec",
            "exec_read",
            "exec_write",
            "exec_signal",
            "exec_list",
            "read",
            "write",
            "edit",
            "list",
            "glob",
            "grep",
            "fetch",
            "environments",
        ];
        assert_eq!(names, wanted, "{revision:?}");
        for tool in &tools {
            let hints = tool.annotations.as_ref().unwrap();
            let looks = ["exec_read", "exec_list", "read", "list", "glob", "grep", "environments"]
                .contains(&&*tool.name);
            assert_eq!(hints.read_only_hint, Some(looks), "{}", tool.name);
            assert_eq!(hints.destructive_hint, Some(!looks), "{}", tool.name);
            assert_eq!(tool.input_schema["additionalProperties"], false, "{}", tool.name);
        }
        let done = mcp.data("exec", json!({"command": "echo hi; echo oops >&2; exit 3"})).await;
        assert_eq!((&done["state"], &done["exit_code"]), (&json!("exited"), &json!(3)), "{done}");
        let output = done["output"].as_str().unwrap();
        assert!(output.contains("hi\n") && output.contains("oops\n"), "{done}");
        let argv =
            mcp.data("exec", json!({"argv": ["printf", "%s|", "a b", "$HOME"], "env": {"X": "1"}})).await;
        assert_eq!(argv["output"], "a b|$HOME|", "{argv}");
        let input = mcp.data("exec", json!({"argv": ["tr", "a-z", "A-Z"], "stdin": "shout"})).await;
        assert_eq!(input["output"], "SHOUT", "{input}");
        let words = text(&mcp.call("exec", json!({"command": "exit 0"})).await);
        assert!(words.contains("Process exited with code 0\n"), "{words}");
    }
}

#[tokio::test]
async fn a_program_outlives_its_call_and_is_come_back_to() {
    let mcp = McpClient::stdio(Revision::New, &[]).await;
    let command = "echo ready; while read line; do echo \"got $line\"; done; echo end; exec sleep 1000";
    let started = mcp.data("exec", json!({"command": command, "interactive": true, "yield_ms": 0})).await;
    assert_eq!((&started["state"], &started["exit_code"]), (&json!("running"), &Value::Null), "{started}");
    let process = &started["process"];
    until(&mcp, process, "ready").await;
    mcp.data("exec_write", json!({"process": process, "text": "one\n", "yield_ms": 0})).await;
    until(&mcp, process, "got one").await;
    mcp.data("exec_write", json!({"process": process, "text": "two\n", "close": true, "yield_ms": 0})).await;
    let all = until(&mcp, process, "end").await;
    assert_eq!(all["output"], "ready\ngot one\ngot two\nend\n", "{all}");
    // By cursor, a few bytes at once, every byte once.
    let (mut cursor, mut pieces) = (0, String::new());
    while pieces.len() < 26 {
        let look = json!({"process": process, "cursor": cursor, "max_bytes": 7, "yield_ms": 0});
        let page = mcp.data("exec_read", look).await;
        pieces.push_str(page["output"].as_str().unwrap());
        cursor = page["next_cursor"].as_u64().unwrap();
    }
    assert_eq!(pieces, all["output"], "{cursor}");
    let list = mcp.data("exec_list", json!({})).await;
    assert_eq!(list["processes"][0]["process"], *process, "{list}");
    let ended =
        mcp.data("exec_signal", json!({"process": process, "signal": "kill", "yield_ms": 45_000})).await;
    assert_eq!((&ended["state"], &ended["signal"]), (&json!("exited"), &json!(9)), "{ended}");
    let late = mcp.refusal("exec_write", json!({"process": process, "text": "x"})).await;
    assert!(late.contains("has ended"), "{late}");
}

#[tokio::test]
async fn much_output_is_cut_with_counts_and_every_byte_is_reachable() {
    let mcp = McpClient::stdio(Revision::Old, &[]).await;
    let printed: String = (1..=60_000).map(|number| format!("{number}\n")).collect();
    let done =
        mcp.data("exec", json!({"argv": ["seq", "1", "60000"], "max_bytes": 1000, "yield_ms": 45_000})).await;
    let output = done["output"].as_str().unwrap();
    assert!(
        output.starts_with("1\n2\n") && output.ends_with("\n60000\n") && output.contains("bytes left out")
    );
    assert_eq!(done["total_bytes"], printed.len(), "{done}");
    let sum = done["shown_bytes"].as_u64().unwrap() + done["cut_bytes"].as_u64().unwrap();
    assert_eq!(sum, printed.len() as u64);
    let (mut cursor, mut pages) = (0, String::new());
    while (cursor as usize) < printed.len() {
        let look = json!({"process": done["process"], "cursor": cursor, "max_bytes": 100_000});
        let page = mcp.data("exec_read", look).await;
        pages.push_str(page["output"].as_str().unwrap());
        cursor = page["next_cursor"].as_u64().unwrap();
    }
    assert!(pages == printed, "the pages are not what was printed");
}

#[tokio::test]
async fn a_terminal_takes_keys() {
    let mcp = McpClient::stdio(Revision::New, &[]).await;
    let command = json!({"command": "echo ready; trap 'echo caught; exit 9' INT; while :; do sleep 0.01; done", "tty": true, "yield_ms": 0});
    let process = mcp.data("exec", command).await["process"].clone();
    until(&mcp, &process, "ready").await;
    let end = mcp.data("exec_write", json!({"process": process, "text": "\u{3}", "yield_ms": 45_000})).await;
    assert_eq!((&end["state"], &end["exit_code"]), (&json!("exited"), &json!(9)), "{end}");
    assert!(end["output"].as_str().unwrap().contains("caught"), "{end}");
}

#[tokio::test]
async fn a_deadline_ends_a_program_and_the_longest_wait_is_short_of_a_clients_patience() {
    let mcp = McpClient::stdio(Revision::Old, &[]).await;
    let late = mcp
        .data("exec", json!({"argv": ["sleep", "1000"], "timeout_ms": 50, "yield_ms": 99_999_999_u64}))
        .await;
    assert_eq!((&late["state"], &late["timed_out"]), (&json!("exited"), &json!(true)), "{late}");
    let exec = &mcp.tools().await[0];
    let words = exec.input_schema["properties"]["yield_ms"]["description"].as_str().unwrap().to_owned();
    assert!(words.contains("45000"), "{words}");
}

#[tokio::test]
async fn progress_is_told_to_who_wants_to_know() {
    let mcp = McpClient::stdio(Revision::New, &[]).await;
    // rmcp's client gives each call a token by itself.
    mcp.data("exec", json!({"command": "echo begun; sleep 2.5"})).await;
    let heard = mcp.heard.0.lock();
    let last = heard.last().expect("more than two seconds have passed");
    assert_eq!(last.message.as_deref(), Some("running, 6 bytes printed"));
}

/// Runs `count` programs, so many at once, each with its own output and code.
async fn programs(mcp: &McpClient, count: usize, at_once: usize) {
    let one = |number: usize| async move {
        let script = format!("echo {number}; exit {}", number % 7);
        let done = mcp.data("exec", json!({"argv": ["/bin/sh", "-c", script]})).await;
        assert_eq!(done["output"], format!("{number}\n"), "{done}");
        assert_eq!(done["exit_code"], number % 7, "{done}");
    };
    stream::iter(0..count).map(one).buffer_unordered(at_once).collect::<()>().await;
}

#[tokio::test]
async fn two_hundred_at_once_all_succeed_and_as_many_programs_run_as_there_are_places() {
    for revision in REVISIONS {
        let mcp = McpClient::stdio(revision, &[]).await;
        programs(&mcp, 200, 200).await;
        let list = mcp.data("exec_list", json!({})).await;
        assert_eq!(list["processes"].as_array().unwrap().len(), 64, "{list}");
    }
}

#[tokio::test]
async fn who_waits_for_a_place_gets_it_when_one_ends_and_who_gives_up_starts_nothing() {
    let ground = tempfile::tempdir().unwrap();
    let mcp = &McpClient::stdio(Revision::New, &[]).await;
    let sleeps = json!({"argv": ["sleep", "1000"], "yield_ms": 0});
    let running = future::join_all((0..64).map(|_| mcp.data("exec", sleeps.clone()))).await;
    let made = |name: &str| json!({"argv": ["touch", ground.path().join(name).to_str().unwrap()]});
    {
        let given_up = pin!(mcp.call("exec", made("given up")));
        let after = pin!(mcp.data("exec_list", json!({})));
        // Requests are taken in their order: behind the answer to the second, the first waits for its place.
        let given_up = future::select(given_up, after).await;
        assert!(matches!(given_up, future::Either::Right(_)), "all places are taken");
    }
    let mut waits = pin!(mcp.data("exec", made("waited")));
    let list = pin!(mcp.data("exec_list", json!({})));
    assert!(
        matches!(future::select(&mut waits, list).await, future::Either::Right(_)),
        "all places are taken"
    );
    let kill = json!({"process": running[7]["process"], "signal": "kill", "yield_ms": 45_000});
    let (killed, waited) = future::join(mcp.data("exec_signal", kill), waits).await;
    assert_eq!(killed["signal"], 9, "{killed}");
    assert_eq!(waited["exit_code"], 0, "{waited}");
    assert!(ground.path().join("waited").exists() && !ground.path().join("given up").exists());
}

/// How many calls the next test makes; `CODEX_MCP_CALLS` says another number, such as 10000.
const CALLS: usize = 400;

#[tokio::test]
async fn calls_leave_no_process_descriptor_or_memory_behind() {
    let calls = std::env::var("CODEX_MCP_CALLS").map_or(CALLS, |calls| calls.parse().unwrap());
    let mcp = McpClient::stdio(Revision::New, &[]).await;
    // What is done once, and the programs that are remembered.
    programs(&mcp, 200, 100).await;
    let family = || {
        let mut all = vec![mcp.pid()];
        let mut at = 0;
        while let Some(pid) = all.get(at) {
            all.extend(children(*pid));
            at += 1;
        }
        all
    };
    let open = || family().into_iter().map(descriptors).sum::<usize>();
    let quiet = |most: usize, descriptors: usize| move || family().len() <= most && open() <= descriptors;
    // Of the ended ones the last may still be on its way out.
    let settled = Cell::new((usize::MAX, usize::MAX));
    eventually("the processes are still", || {
        let now = (family().len(), open());
        settled.replace(now) == now
    })
    .await;
    let (processes, descriptors) = settled.get();
    let memory = || family().into_iter().map(peak_memory).sum::<u64>();
    let before = memory();
    programs(&mcp, calls, 50).await;
    eventually("what the calls used is given back", quiet(processes, descriptors)).await;
    let more = memory().saturating_sub(before);
    assert!(more < 16 << 20, "{calls} calls took {more} bytes more at most");
}

#[tokio::test]
async fn with_the_client_its_programs_go() {
    let mcp = McpClient::stdio(Revision::Old, &[]).await;
    let started = mcp.data("exec", json!({"command": "echo $$; exec sleep 1000", "yield_ms": 0})).await;
    let pid =
        until(&mcp, &started["process"], "\n").await["output"].as_str().unwrap().trim().parse().unwrap();
    assert!(alive(pid));
    drop(mcp);
    eventually("the program ends", || !alive(pid)).await;
}

#[tokio::test]
async fn what_is_no_call_is_refused_with_a_sentence_and_the_next_one_works() {
    let mcp = McpClient::stdio(Revision::New, &[]).await;
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let cases = [
        ("exec", json!({}), "either command"),
        ("exec", json!({"command": "a", "argv": ["b"]}), "either command"),
        ("exec", json!({"argv": []}), "argv must name a program"),
        ("exec", json!({"argv": ["/no/such/program"]}), "No such file"),
        ("exec", json!({"command": "true", "cwd": "/no/such/directory"}), "No such file"),
        ("exec", json!({"command": 5}), "not as its schema says"),
        ("exec", json!({"command": "true", "unknown": 1}), "unknown field"),
        ("exec", json!({"command": "true", "yield_ms": -1}), "not as its schema says"),
        ("exec", json!({"command": "true", "env": {"A=B": "c"}}), "name of a variable"),
        ("exec", json!({"command": "true", "environment": "nobody"}), "no environment"),
        ("exec", json!({"argv": ["a\u{0}b"]}), ""),
        ("exec", json!({"command": deep}), "not as its schema says"),
        ("exec_read", json!({"process": "nobody"}), "no process"),
        ("exec_read", json!({"process": "x".repeat(100_000)}), "no process"),
        ("exec_write", json!({"process": "nobody", "text": "x"}), "no process"),
        ("exec_signal", json!({"process": "nobody", "signal": "explode"}), "not as its schema says"),
        ("read", json!({"path": ""}), "must not be empty"),
        ("read", json!({"path": "a\u{0}b"}), "NUL"),
        ("read", json!({"path": "file://elsewhere/x"}), "another machine"),
        ("read", json!({"path": "/dev/zero"}), ""),
        ("glob", json!({"pattern": "[", "path": "/tmp"}), "no pattern"),
        ("grep", json!({"pattern": "(", "path": "/etc/hostname"}), "grep ended with 2"),
        ("fetch", json!({"url": "ftp://x/"}), ""),
        ("fetch", json!({"url": "file:///etc/passwd"}), ""),
    ];
    for (tool, arguments, words) in cases {
        let told = mcp.refusal(tool, arguments.clone()).await;
        assert!(told.contains(words) && told.len() > 10 && told.len() < 2000, "{tool} {arguments}: {told}");
    }
    let unknown =
        mcp.service.call_tool(CallToolRequestParams::new("no_such_tool")).await.unwrap_err().to_string();
    assert!(unknown.contains("there is no tool"), "{unknown}");
    let huge = mcp
        .data("exec", json!({"argv": ["echo", "fine"], "max_bytes": u64::MAX, "yield_ms": u64::MAX}))
        .await;
    assert_eq!(huge["output"], "fine\n");
}
