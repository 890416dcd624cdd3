//! `--listen fd://`: a listening socket that outlives the server, as a service manager hands it over.

use codex_e2e::{Server, ServerBuilder, TestClient};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Listens, hands the socket to the server, and starts it again when it was killed.
const MANAGER: &str = r#"
import os, signal, socket, sys
if sys.argv[1].startswith("/"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
else:
    listener = socket.socket()
    listener.bind((sys.argv[1], 0))
listener.listen(64)
child = 0
def end(*_):
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while True:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execvp(sys.argv[2], sys.argv[2:])
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        os._exit(os.waitstatus_to_exitcode(status))
"#;

fn managed(address: &str) -> ServerBuilder {
    Server::builder().alone().listen("fd://").under(["python3", "-c", MANAGER, address])
}

/// The server's own process, as a program of it tells.
async fn pid_of_server(client: &mut TestClient) -> Pid {
    let parent = client.run("parent", "echo $PPID").await.stdout();
    Pid::from_raw(parent.trim().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn no_connection_is_refused_while_the_server_is_killed_and_started_again() {
    let server = managed("127.0.0.1").start().await;
    for round in 0..5 {
        let mut client = server.client().await;
        let pid = pid_of_server(&mut client).await;
        kill_process(pid, Signal::KILL).unwrap();
        // At once: there is no server now, or one that has not begun to accept.
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(server.client().await);
        }
        for client in &mut clients {
            assert_ne!(pid_of_server(client).await, pid, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_unix_socket_is_left_where_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("socket");
    let mut server = managed(path.to_str().unwrap()).start().await;
    assert_eq!(server.url, format!("unix://{}", path.display()));
    let mut client = TestClient::unix_socket(&path).await;
    client.handshake().await;
    let environment = client.run("p", "env").await.stdout();
    assert!(!environment.contains("LISTEN_"), "{environment}");
    let list = client.ok("process/list", json!({})).await;
    assert_ne!(list["processes"], Value::Null);
    assert!(server.stop().await.success());
    assert!(path.exists(), "it is not the server's to remove");
}

#[tokio::test]
async fn without_a_socket_the_server_says_where_one_comes_from() {
    let refused = Server::builder().listen("fd://").refused().await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("socket unit"), "{}", refused.stderr);
    // Said to be there, and something of the server's own has the number.
    let lie = ["sh", "-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&-", "sh"];
    let refused = Server::builder().listen("fd://").under(lie).refused().await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("handed over is not there"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_socket_that_others_can_reach_needs_authentication() {
    let refused = managed("0.0.0.0").refused().await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--ws-auth"), "{}", refused.stderr);
}
