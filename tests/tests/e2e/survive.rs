//! What goes on when the server dies: programs, what they print, and how they end. The keeper starts the next server, and clients
//! come back as released ones do.

use codex_e2e::machine::{alive, children, eventually, kill, pid_in};
use codex_e2e::{Follower, Server, TestClient};
use serde_json::json;

/// Kills the server below its keeper while that lives.
async fn kill_server(server: &Server) {
    let keeper = server.keeper_pid();
    eventually("there is a server", || server.pid() != keeper).await;
    let pid = server.pid();
    kill(pid);
    eventually("the killed server is gone", || !children(keeper).contains(&pid)).await;
}

fn numbers(last: usize) -> String {
    (1..=last).map(|n| format!("{n}\n")).collect()
}

#[tokio::test]
async fn numbered_lines_on_a_pipe_are_neither_lost_nor_doubled() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // Each thousand is printed once the one before was seen, so that there is a next connection for it.
    let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo $i; [ $((i % 1000)) != 0 ] || read -r line; done; exit 7";
    client.start_with("p", ["sh", "-c", script], json!({"pipeStdin": true})).await;
    let mut follower = Follower::new(client, &server.url, "p");
    for round in 0..4 {
        follower.until_lines(round * 1000 + 500).await;
        kill_server(&server).await;
        follower.until_lost().await;
        follower.client.write("p", "\n").await;
    }
    follower.client.write("p", "\n").await;
    follower.to_the_end().await;
    assert_eq!(String::from_utf8(follower.output()).unwrap(), numbers(5000));
    assert_eq!((follower.exit_code, follower.losses), (Some(7), 4));
}

#[tokio::test]
async fn a_terminal_goes_on_with_its_size_and_what_is_typed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let script = "stty -echo; echo ready; while read line; do echo \"got $line\"; stty size; done; exit 3";
    client.start_with("t", ["sh", "-c", script], json!({"tty": true, "rows": 33, "cols": 77})).await;
    let mut follower = Follower::new(client, &server.url, "t");
    follower.until_lines(1).await;
    for round in 1..=3 {
        kill_server(&server).await;
        follower.until_lost().await;
        follower.client.write("t", format!("{round}\n")).await;
        follower.until_lines(1 + 2 * round).await;
    }
    follower.client.write("t", "\x04").await;
    follower.to_the_end().await;
    let expected: String = (1..=3).map(|round| format!("got {round}\r\n33 77\r\n")).collect();
    assert_eq!(String::from_utf8(follower.output()).unwrap(), format!("ready\r\n{expected}"));
    assert_eq!(follower.exit_code, Some(3));
}

#[tokio::test]
async fn standard_input_stays_open_and_its_end_is_seen() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.start_with("cat", ["cat"], json!({"pipeStdin": true})).await;
    client.write("cat", "1\n").await;
    let mut follower = Follower::new(client, &server.url, "cat");
    follower.until_lines(1).await;
    for round in 2..=4 {
        kill_server(&server).await;
        follower.until_lost().await;
        follower.client.write("cat", format!("{round}\n")).await;
        follower.until_lines(round).await;
    }
    follower.client.ok("process/closeStdin", json!({"processId": "cat"})).await;
    follower.to_the_end().await;
    assert_eq!(String::from_utf8(follower.output()).unwrap(), numbers(4));
    assert_eq!(follower.exit_code, Some(0));
}

#[tokio::test]
async fn an_end_while_no_server_lives_is_told_as_it_was() {
    for (end, code) in [("exit 5", 5), ("kill -9 $$", 137)] {
        let server = Server::start().await;
        let mut client = server.client().await;
        let script = format!("echo begun; while kill -0 {} 2>&-; do :; done; echo last; {end}", server.pid());
        client.shell("p", &script).await;
        let mut follower = Follower::new(client, &server.url, "p");
        follower.until_lines(1).await;
        kill_server(&server).await;
        follower.to_the_end().await;
        assert_eq!(String::from_utf8(follower.output()).unwrap(), "begun\nlast\n");
        assert_eq!(follower.exit_code, Some(code));
    }
}

#[tokio::test]
async fn what_nobody_had_read_yet_is_kept() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let more = json!({"cwd": directory.path(), "pipeStdin": true});
    client.shell_with("p", "read x; seq 1 200000; echo $$ > pid.new; mv pid.new pid; exit 4", more).await;
    // Nobody reads from here on; the program has more to say than anything holds.
    client.write("p", "\n").await;
    let session = client.session_id.clone();
    let mut follower = Follower::new(client, &server.url, "p");
    follower.until_lines(1).await;
    kill_server(&server).await;
    kill_server(&server).await;
    follower.to_the_end().await;
    assert_eq!(String::from_utf8(follower.output()).unwrap(), numbers(200_000), "{session}");
    assert_eq!(follower.exit_code, Some(4));
}

/// Starts a program that goes on until it is killed.
async fn sleeper(client: &mut TestClient, id: &str) -> u32 {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    client.shell(id, &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid.display())).await;
    pid_in(&pid).await
}

#[tokio::test]
async fn what_survived_ends_with_the_server_that_has_it() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let program = sleeper(&mut client, "p").await;
    kill_server(&server).await;
    server.client().await;
    assert!(alive(program));
    assert!(server.stop().await.success());
    assert!(!alive(program), "its end is orderly");
}

#[tokio::test]
async fn what_survived_can_be_ended_with_all_that_it_started() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let pids = [directory.path().join("daemon"), directory.path().join("program")];
    let script = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & \
         echo $$ > {1}.new; mv {1}.new {1}; exec sleep 1000",
        pids[0].display(),
        pids[1].display()
    );
    client.shell("p", &script).await;
    let (daemon, program) = (pid_in(&pids[0]).await, pid_in(&pids[1]).await);
    let mut follower = Follower::new(client, &server.url, "p");
    kill_server(&server).await;
    follower.until_lost().await;
    follower.client.ok("process/terminate", json!({"processId": "p"})).await;
    follower.to_the_end().await;
    assert_eq!(follower.exit_code, Some(137));
    eventually("the whole tree is gone", || !alive(daemon) && !alive(program)).await;
}

#[tokio::test]
async fn five_deaths_in_a_minute_end_the_programs() {
    let mut server = Server::start().await;
    let mut client = server.client().await;
    let program = sleeper(&mut client, "p").await;
    for _ in 0..4 {
        kill_server(&server).await;
        server.client().await;
    }
    assert!(alive(program));
    kill(server.pid());
    assert_eq!(server.ended().await.code(), Some(1));
    assert!(!alive(program));
}

#[tokio::test]
async fn both_processes_killed_end_the_programs() {
    for rounds in 0..2 {
        let mut server = Server::start().await;
        let mut client = server.client().await;
        let program = sleeper(&mut client, "p").await;
        for _ in 0..rounds {
            kill_server(&server).await;
            server.client().await;
        }
        let (keeper, inner) = (server.keeper_pid(), server.pid());
        let pid = |number: u32| rustix::process::Pid::from_raw(number.cast_signed()).unwrap();
        // Neither is to see the other's end.
        for number in [keeper, inner] {
            rustix::process::kill_process(pid(number), rustix::process::Signal::STOP).unwrap();
        }
        kill(inner);
        kill(keeper);
        server.ended().await;
        eventually("its program is gone", || !alive(program)).await;
    }
}
