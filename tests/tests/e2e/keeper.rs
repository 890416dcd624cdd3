//! The process above a server: what goes on when the server dies, and what ends when the keeper does.

use codex_e2e::Server;
use codex_e2e::machine::{alive, children, eventually, kill, pid_in};
use rustix::process::Signal;
use serde_json::json;

/// The process that serves, once there is one: not while it is started again.
async fn serving(server: &Server) -> u32 {
    let keeper = server.keeper_pid();
    eventually("there is a server", || server.pid() != keeper).await;
    server.pid()
}

/// Kills the server below its keeper, and waits until it is gone.
async fn kill_server(server: &Server) {
    let pid = serving(server).await;
    kill(pid);
    eventually("the killed server is gone", || !children(server.keeper_pid()).contains(&pid)).await;
}

#[tokio::test]
async fn no_connection_is_refused_while_a_killed_server_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    for listen in ["ws://127.0.0.1:0".to_owned(), format!("unix://{}", socket.display())] {
        let mut server = Server::builder().listen(&listen).start().await;
        let before = server.pid();
        // Fewer than what makes it give up.
        for round in 0..4 {
            let mut client = server.client().await;
            client.start("p", ["sleep", "1000"]).await;
            kill(serving(&server).await);
            // At once: there is no server now, or one that has not begun to accept.
            let mut others = Vec::new();
            for _ in 0..8 {
                others.push(server.client().await);
            }
            for (n, client) in others.iter_mut().enumerate() {
                assert_eq!(client.run(&format!("p{n}"), "echo $((6 * 7))").await.stdout(), "42\n", "{round}");
            }
        }
        assert_ne!(serving(&server).await, before);
        assert!(server.stop().await.success());
        assert!(!socket.exists(), "the keeper removes the socket file at the end");
    }
}

#[tokio::test]
async fn a_server_that_dies_too_often_is_given_up_with_a_sentence() {
    let mut server = Server::start().await;
    for _ in 0..4 {
        kill_server(&server).await;
        server.client().await;
    }
    kill(serving(&server).await);
    assert_eq!(server.ended().await.code(), Some(1));
    let told = server.told();
    assert!(told.contains("killed by signal 9") && told.contains("not started again"), "{told}");
}

/// Starts a program that goes on until it is killed.
async fn program(server: &Server) -> u32 {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let mut client = server.client().await;
    client.shell("p", &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid.display())).await;
    pid_in(&pid).await
}

#[tokio::test]
async fn the_programs_end_in_order_with_a_killed_keeper() {
    let mut server = Server::start().await;
    let program = program(&server).await;
    let inner = server.pid();
    server.signal(Signal::KILL);
    server.ended().await;
    eventually("its server is gone", || !alive(inner)).await;
    eventually("its program is gone", || !alive(program)).await;
}

/// A hangup that is ignored when a server starts stays so, and these tests may run under nohup.
const DEAF_TO_NONE: [&str; 2] = ["env", "--default-signal=HUP"];

#[tokio::test]
async fn a_signal_to_either_process_ends_both_in_order() {
    for to_server in [false, true] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let mut server = Server::builder().under(DEAF_TO_NONE).start().await;
            server.client().await.start("p", ["sleep", "1000"]).await;
            let inner = server.pid();
            if to_server {
                let pid = rustix::process::Pid::from_raw(inner.cast_signed()).unwrap();
                rustix::process::kill_process(pid, signal).unwrap();
            } else {
                server.signal(signal);
            }
            assert_eq!(server.ended().await.code(), Some(0), "{signal:?}");
            assert!(!alive(inner));
        }
    }
}

#[tokio::test]
async fn without_a_keeper_there_is_one_process() {
    for arguments in [["--no-keeper"].as_slice(), &["-c", "exec_server.keeper=false"]] {
        let mut server = Server::builder().args(arguments.iter().copied()).start().await;
        assert_eq!(server.pid(), server.keeper_pid());
        kill(server.pid());
        assert_eq!(server.ended().await.code(), None, "nobody starts it again");
    }
}

#[tokio::test]
async fn the_keeper_needs_little_and_holds_nothing_else() {
    let server = Server::start().await;
    let keeper = server.keeper_pid();
    let mut client = server.client().await;
    client.start("p", ["sleep", "1000"]).await;
    let links = || {
        let open = std::fs::read_dir(format!("/proc/{keeper}/fd")).unwrap();
        open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect::<Vec<_>>()
    };
    // Its three streams, the socket that listens, the signals, the bell, the server, and the guard; the memory of young
    // programs, and both outputs of this one.
    eventually("it has opened and closed all that it will", || links().len() == 11).await;
    client.ok("process/terminate", json!({"processId": "p"})).await;
    eventually("of an ended program it holds nothing open", || links().len() == 9).await;
    let threads = std::fs::read_dir(format!("/proc/{keeper}/task")).unwrap().count();
    assert_eq!(threads, 1);
}
