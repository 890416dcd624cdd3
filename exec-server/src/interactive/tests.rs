//! The same on every way to an environment: this machine, a server in this process, a websocket.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::environment::tests::{Way, params, start, ways};

/// No test waits as long as this: what it waits for is an event.
const LONG: Duration = Duration::from_secs(600);

fn ask(wait: Duration, budget: usize, shape: Shape) -> Ask {
    Ask { cursor: None, wait, budget: Budget::Bytes(budget), shape }
}

fn whole() -> Ask {
    ask(LONG, 100_000, Shape::HeadAndTail)
}

async fn shell(programs: &Interactive, command: &str, more: serde_json::Value) -> ProcessId {
    programs.start(params(start("", &["/bin/sh", "-c", command], more))).await.unwrap()
}

/// Looks again until the program has printed `text`.
async fn until(programs: &Interactive, id: &str, text: &str) -> Reading {
    loop {
        let look = Ask { cursor: Some(0), ..ask(Duration::from_millis(20), 10_000, Shape::HeadAndTail) };
        let reading = programs.read(id, &look).await.unwrap();
        if reading.output.contains(text) {
            return reading;
        }
        assert_eq!(reading.state, State::Running, "{}", reading.output);
    }
}

#[tokio::test]
async fn a_short_program_is_answered_whole_and_with_its_end() {
    for Way { name, environment, _server } in ways().await {
        let programs = Interactive::new(environment, Bounds::default());
        let id = shell(&programs, "echo out; echo err >&2; exit 3", json!({})).await;
        let reading = programs.read(&id, &whole()).await.unwrap();
        let State::Exited { code: 3, complete: true, signal: None, .. } = reading.state else {
            panic!("{name}: {:?}", reading.state)
        };
        assert!(
            reading.output.contains("out\n") && reading.output.contains("err\n"),
            "{name}: {}",
            reading.output
        );
        assert_eq!((reading.total_bytes, reading.next_cursor, reading.cut_bytes), (8, 8, 0), "{name}");
        // Its handle works on; a look from where the last one stopped shows nothing new.
        let again = programs.read(&id, &whole()).await.unwrap();
        assert_eq!((again.output.as_str(), again.from), ("", 8), "{name}");
        let line = programs.list().remove(0);
        assert_eq!((line.process, line.total_bytes, line.unread_bytes), (id, 8, 0), "{name}");
    }
}

#[tokio::test]
async fn a_long_program_is_come_back_to_written_to_and_interrupted() {
    for Way { name, environment, _server } in ways().await {
        let programs = Interactive::new(environment, Bounds::default());
        let command =
            "trap 'echo stopped; exit 7' INT; echo ready; while read line; do echo got $line; done; wait";
        let id = shell(&programs, command, json!({"pipeStdin": true})).await;
        let first = until(&programs, &id, "ready").await;
        assert_eq!(first.state, State::Running, "{name}");
        programs.write(&id, b"one\n".to_vec()).await.unwrap();
        until(&programs, &id, "got one").await;
        programs.signal(&id, SignalName::Interrupt).await.unwrap();
        // Some shells go on reading, and some have ended by now.
        let _ = programs.write(&id, b"two\n".to_vec()).await;
        let rest = programs.read(&id, &whole()).await.unwrap();
        let State::Exited { code: 7, .. } = rest.state else { panic!("{name}: {:?}", rest.state) };
        assert!(rest.output.contains("stopped"), "{name}: {}", rest.output);
        let refused = programs.write(&id, b"late".to_vec()).await.unwrap_err().to_string();
        assert!(refused.contains("it has ended"), "{name}: {refused}");
    }
}

#[tokio::test]
async fn a_flood_keeps_beginning_and_end_and_pages_miss_nothing_that_is_kept() {
    let printed: String = (1..=400_000).map(|number| format!("{number}\n")).collect();
    for Way { name, environment, _server } in ways().await {
        let programs = Interactive::new(environment, Bounds { tail_bytes: 1 << 20, ..Bounds::default() });
        let id = shell(&programs, "seq 1 400000", json!({})).await;
        let reading = programs.read(&id, &ask(LONG, 1000, Shape::HeadAndTail)).await.unwrap();
        assert_eq!(reading.total_bytes, printed.len() as u64, "{name}: every byte has come");
        assert!(reading.output.starts_with("1\n2\n3\n") && reading.output.ends_with("\n400000\n"), "{name}");
        assert_eq!(reading.shown_bytes + reading.cut_bytes, reading.total_bytes, "{name}");
        assert_eq!(reading.lost_bytes, reading.total_bytes - (2 << 20), "{name}");
        let (mut at, mut seen) = (0, 0);
        while at < reading.total_bytes {
            let page = Ask { cursor: Some(at), ..ask(LONG, 100_000, Shape::Page) };
            let page = programs.read(&id, &page).await.unwrap();
            assert_eq!((page.from, page.lost_bytes > 0), (at, at == 1 << 20), "{name}");
            if page.lost_bytes == 0 {
                let here = usize::try_from(at).unwrap();
                assert!(printed[here..].starts_with(&page.output), "{name} at {at}");
            }
            seen += page.shown_bytes;
            at = page.next_cursor;
        }
        assert_eq!(seen, 2 << 20, "{name}");
    }
}

#[tokio::test]
async fn a_terminal_is_typed_into_and_resized() {
    for Way { name, environment, _server } in ways().await {
        let programs = Interactive::new(environment, Bounds::default());
        let command = "echo ready; read line; stty size; echo $line";
        let id = shell(&programs, command, json!({"tty": true, "env": {"PATH": "/usr/bin:/bin"}})).await;
        until(&programs, &id, "ready").await;
        programs.resize(&id, 33, 99).await.unwrap();
        programs.write(&id, b"typed\r".to_vec()).await.unwrap();
        let reading = programs.read(&id, &whole()).await.unwrap();
        assert!(
            reading.output.contains("33 99") && reading.output.contains("typed"),
            "{name}: {}",
            reading.output
        );
    }
}

#[tokio::test]
async fn what_a_background_program_holds_open_is_said_and_not_waited_for() {
    for Way { name, environment, _server } in ways().await {
        let programs = Interactive::new(environment, Bounds::default());
        let id = shell(&programs, "sleep 1000 & echo started", json!({})).await;
        let reading = programs.read(&id, &whole()).await.unwrap();
        let State::Exited { code: 0, complete: false, .. } = reading.state else {
            panic!("{name}: {:?}", reading.state)
        };
        assert_eq!(reading.output, "started\n", "{name}");
        assert!(reading.to_string().contains("still holds its output"), "{name}");
    }
}

#[tokio::test]
async fn there_is_a_bound_and_those_go_first_that_ended_and_were_read() {
    let [Way { environment, .. }, ..] = ways().await;
    let programs = Interactive::new(environment, Bounds { programs: 3, ..Bounds::default() });
    let unread = shell(&programs, "echo unread", json!({})).await;
    let running = shell(&programs, "exec sleep 1000", json!({})).await;
    let read = shell(&programs, "echo read", json!({})).await;
    programs.read(&read, &whole()).await.unwrap();
    while programs.list().iter().any(|line| line.process == unread && line.state == State::Running) {
        tokio::task::yield_now().await;
    }
    let more = shell(&programs, "exec sleep 1000", json!({})).await;
    assert!(!programs.knows(&read), "the one that was read goes first");
    // Asked for in the end when both have closed: only then may the unread one go.
    let last = loop {
        match programs.start(params(start("", &["/bin/sleep", "1000"], json!({})))).await {
            Ok(id) => break id,
            Err(error) => assert!(error.to_string().contains("3 programs run already"), "{error}"),
        }
    };
    assert!(!programs.knows(&unread));
    let refused = programs.start(params(start("", &["/bin/true"], json!({})))).await.unwrap_err();
    assert!(matches!(refused, InteractiveError::Full { running: 3 }), "{refused}");
    for id in [&running, &more, &last] {
        assert!(programs.terminate(id, None).await.unwrap());
    }
    let unknown = programs.read("nobody", &whole()).await.unwrap_err().to_string();
    assert!(unknown.contains("\"nobody\""), "{unknown}");
}

#[tokio::test]
async fn a_start_that_fails_and_a_closed_input_are_told_in_words() {
    for Way { name, environment, _server } in ways().await {
        let programs = Interactive::new(environment, Bounds { programs: 1, ..Bounds::default() });
        for _ in 0..3 {
            let missing = programs.start(params(start("", &["/no/such/program"], json!({})))).await;
            assert!(missing.unwrap_err().to_string().contains("No such file"), "{name}");
        }
        let id = shell(&programs, "exec sleep 1000", json!({})).await;
        let refused = programs.write(&id, b"x".to_vec()).await.unwrap_err().to_string();
        assert!(refused.contains("without a terminal"), "{name}: {refused}");
        let short = programs.read(&id, &ask(Duration::ZERO, 10, Shape::Page)).await.unwrap();
        assert_eq!(short.state, State::Running, "{name}");
    }
}

#[tokio::test]
async fn with_the_last_handle_its_programs_end() {
    for Way { name, environment, _server } in ways().await {
        let kept = environment.clone();
        let programs = Interactive::new(environment, Bounds::default());
        let forgotten = shell(&programs, "exec sleep 1000", json!({})).await;
        programs.forget(&forgotten);
        assert!(!programs.knows(&forgotten), "{name}");
        let end = kept.processes.wait(params(json!({"processId": forgotten}))).await.unwrap();
        assert_eq!(end.exit.unwrap().signal, Some(9), "{name}");
        let id = shell(&programs, "exec sleep 1000", json!({})).await;
        drop(programs);
        let end = kept.processes.wait(params(json!({"processId": id}))).await.unwrap();
        assert_eq!(end.exit.unwrap().signal, Some(9), "{name}");
    }
}
