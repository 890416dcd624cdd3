//! Several processes refresh one home directory.

use crate::support::{Home, Issuer, child, due, fresh, name_in, new_tokens, settings, told};
use codex_login::{Manager, Variables};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

const PROCESSES: usize = 10;

struct Refresher {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Refresher {
    /// A process that has loaded the sign-in and waits for the word.
    fn start(home: &Home, issuer: &Issuer, task: &str) -> Self {
        let mut child = child("processes::child_refreshes_on_a_word")
            .env("LOGIN_TEST_HOME", home.path())
            .env("LOGIN_TEST_URL", issuer.variables().refresh_url.unwrap())
            .env("LOGIN_TEST_TASK", task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line_with(&mut self, word: &str) -> String {
        self.lines.find(|line| line.as_ref().unwrap().contains(word)).unwrap().unwrap()
    }
}

async fn ten_processes(document: Value, task: &str) {
    let home = Home::with(&document);
    let issuer = Issuer::answering(new_tokens().set_delay(Duration::from_millis(300))).await;
    let mut children: Vec<_> = (0..PROCESSES).map(|_| Refresher::start(&home, &issuer, task)).collect();
    for child in &mut children {
        child.line_with("ready");
    }
    for child in &mut children {
        child.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    for child in &mut children {
        assert_eq!(child.line_with("bearer: "), "bearer: new");
        assert!(child.child.wait().unwrap().success());
    }
    assert_eq!(issuer.requests().await.len(), 1);
    assert_eq!(home.read()["tokens"]["refresh_token"], "r2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_whose_sign_in_is_due_make_one_request() {
    ten_processes(due(), "auth").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_that_are_told_to_refresh_at_once_make_one_request() {
    ten_processes(fresh(), "refresh").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_whose_sign_in_is_refused_at_once_make_one_request() {
    ten_processes(fresh(), "recover").await;
}

#[tokio::test]
#[ignore = "the child's part of the tests above"]
async fn child_refreshes_on_a_word() {
    let Some(home) = told("LOGIN_TEST_HOME") else { return };
    let variables = Variables { refresh_url: told("LOGIN_TEST_URL"), ..Variables::default() };
    let manager = Manager::new(settings(home.as_ref(), variables)).await;
    println!("ready");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    let auth = match told("LOGIN_TEST_TASK").as_deref() {
        Some("auth") => manager.auth().await.unwrap(),
        Some("refresh") => manager.refresh().await.unwrap(),
        Some("recover") => match manager.recovery(manager.current().unwrap()).next().await {
            codex_login::Outcome::Retry(auth) => auth,
            codex_login::Outcome::GiveUp(reason) => panic!("{reason}"),
        },
        task => panic!("unknown task {task:?}"),
    };
    println!("bearer: {}", name_in(auth.bearer().unwrap().expose()));
}
