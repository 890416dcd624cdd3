//! How long a program's proxy lives: as long as somebody it was made for.

use codex_e2e::Server;
use codex_e2e::machine::eventually;

use super::*;

async fn proxy_address(client: &mut TestClient, id: &str) -> String {
    let seen = client.output_until(id, "\n").await;
    seen.trim().trim_start_matches("http://").to_owned()
}

fn is_open(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

#[tokio::test]
async fn a_proxy_ends_with_its_program() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut more = to_localhost();
    more["pipeStdin"] = json!(true);
    client.shell_with("p", "echo $HTTP_PROXY; read x", more).await;
    let address = proxy_address(&mut client, "p").await;
    assert!(is_open(&address));
    client.write("p", "\n").await;
    eventually("the proxy ends", || !is_open(&address)).await;
}

/// Starts a program that leaves a daemon behind; their proxy's address, and the daemon.
async fn leave_one_behind(client: &mut codex_e2e::TestClient) -> (String, u32) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("left");
    let command = format!(
        "echo $HTTP_PROXY; setsid sh -c 'echo $$ > {0}; exec sleep 1000' >/dev/null 2>&1 </dev/null &
         while [ ! -s {0} ]; do sleep 0.01; done",
        file.display()
    );
    client.shell_with("p", &command, to_localhost()).await;
    let address = proxy_address(client, "p").await;
    client.until(|message| message["method"] == "process/exited").await;
    let pid = codex_e2e::machine::pid_in(&file).await;
    (address, pid)
}

#[tokio::test]
async fn what_outlives_a_program_keeps_its_proxy_until_it_ends_too() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (address, pid) = leave_one_behind(&mut client).await;
    assert!(is_open(&address), "the daemon goes on");
    codex_e2e::machine::kill(pid);
    eventually("the proxy ends", || !is_open(&address)).await;
}

#[tokio::test]
async fn what_a_leftover_starts_before_it_ends_keeps_the_proxy_too() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let directory = tempfile::tempdir().unwrap();
    let (go, file) = (directory.path().join("go"), directory.path().join("left"));
    // The leftover that is known when the program ends hands over to another in a session of its own, and ends.
    let command = format!(
        "echo $HTTP_PROXY; setsid sh -c 'echo > {1}.first; while [ ! -e {0} ]; do sleep 0.01; done;
           setsid sh -c \"echo \\$\\$ > {1}; exec sleep 1000\" & while [ ! -s {1} ]; do sleep 0.01; done' \
           >/dev/null 2>&1 </dev/null &
         while [ ! -e {1}.first ]; do sleep 0.01; done",
        go.display(),
        file.display()
    );
    client.shell_with("p", &command, to_localhost()).await;
    let address = proxy_address(&mut client, "p").await;
    client.until(|message| message["method"] == "process/exited").await;
    let mut held = std::net::TcpStream::connect(&address).unwrap();
    std::fs::write(&go, "").unwrap();
    let pid = codex_e2e::machine::pid_in(&file).await;
    // A connection ends with its proxy, and this proxy has looked for others by then at least once.
    held.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let read = tokio::task::spawn_blocking(move || std::io::Read::read(&mut held, &mut [0])).await.unwrap();
    assert!(read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it ended");
    assert!(is_open(&address), "the daemon's child goes on");
    codex_e2e::machine::kill(pid);
    eventually("the proxy ends", || !is_open(&address)).await;
}

#[tokio::test]
async fn connections_of_programs_leave_the_server_its_descriptors() {
    let server = Server::builder().under(["prlimit", "--nofile=128:128"]).start().await;
    let mut client = server.client().await;
    let mut more = to_localhost();
    more["pipeStdin"] = json!(true);
    let mut held = Vec::new();
    for id in ["p", "q", "r"] {
        client.shell_with(id, "echo $HTTP_PROXY; read x", more.clone()).await;
        let address = proxy_address(&mut client, id).await;
        for _ in 0..60 {
            held.push(std::net::TcpStream::connect(&address).unwrap());
        }
    }
    let mut other = server.client().await;
    other.ok("environment/status", Value::Null).await;
    other.shell_with("s", "echo fine", json!({})).await;
    assert_eq!(other.finish("s").await.stdout(), "fine\n");
    drop(held);
}

#[tokio::test]
async fn a_proxy_ends_with_its_session() {
    let server = Server::builder().limit("detached_time", 100).start().await;
    let mut client = server.client().await;
    let (address, pid) = leave_one_behind(&mut client).await;
    drop(client);
    eventually("the proxy ends", || !is_open(&address)).await;
    assert!(codex_e2e::machine::alive(pid), "kept by default");
    codex_e2e::machine::kill(pid);
    eventually("no zombie stays", || codex_e2e::machine::state(pid).is_none()).await;
}

#[tokio::test]
async fn more_connections_than_the_bound_wait_for_their_turn() {
    let (origin, server) = (
        origin().await,
        Server::builder().limit("network_connections", 1).limit("network_head_time", 500).start().await,
    );
    let mut client = server.client().await;
    let mut more = to_localhost();
    more["pipeStdin"] = json!(true);
    client.shell_with("p", "echo $HTTP_PROXY; read x", more).await;
    let address = proxy_address(&mut client, "p").await;
    // One that says nothing has the only place, until its time is up.
    let silent = tokio::net::TcpStream::connect(&address).await.unwrap();
    let target = origin.address.port();
    let request = format!("GET http://localhost:{target}/ HTTP/1.1\r\nHost: localhost:{target}\r\n\r\n");
    let answer = codex_e2e::http::ask(address.parse().unwrap(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(silent);
}
