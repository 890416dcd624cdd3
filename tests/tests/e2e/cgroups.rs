//! Limits by control groups. They need a machine whose hierarchy of version 2 has the controllers and is ours to change:
//! `tests/vm/run` starts one. Elsewhere they count as ignored.

use std::path::{Path, PathBuf};

use codex_e2e::machine::{alive, eventually, pid_in};
use codex_e2e::{Server, TestClient, client::start_params};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::sandbox::{Ground, workspace};

const ROOT: &str = "/sys/fs/cgroup";
/// More than the limit, read into memory at once.
const TOO_MUCH: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1";
const MEMORY: u64 = 48 << 20;

/// A group for a server.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        let controllers = Path::new(ROOT).join("cgroup.subtree_control");
        std::fs::write(controllers, "+memory +pids").expect("controllers");
        let path = Path::new(ROOT).join(name);
        std::fs::create_dir(&path).expect("a group");
        Self(path)
    }

    /// What a server is started through to be in it.
    fn enter(&self, more: &str) -> Vec<String> {
        let script = format!("echo $$ > {}/cgroup.procs; {more} exec \"$@\"", self.0.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).into()
    }

    fn below(&self) -> Vec<String> {
        directories(&self.0)
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).expect("readable")
    }
}

fn directories(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path).expect("a directory").map(|name| name.expect("a name"));
    let directories = names.filter(|name| name.path().is_dir());
    let mut names: Vec<String> =
        directories.map(|name| name.file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// The group that a process is in.
fn group_of(pid: u32) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    groups.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2").to_owned()
}

async fn start(client: &mut TestClient, id: &str, command: &str, limits: Value, sandbox: Value) {
    let more = json!({"limits": limits, "sandbox": sandbox, "pipeStdin": true});
    client.ok("process/start", start_params(id, ["/bin/sh", "-c", command], more)).await;
}

async fn enforced(client: &mut TestClient, id: &str) -> Value {
    let list = client.ok("process/list", json!({})).await;
    let all = list["processes"].as_array().expect("a list");
    all.iter().find(|one| one["processId"] == id).expect("in the list")["limitsEnforced"].clone()
}

/// One that is killed for its memory with all that it started, and one that is not.
async fn memory_is_bounded(client: &mut TestClient, sandbox: &Value) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pid");
    let command = format!(
        "sh -c 'exec setsid sleep 1000' & echo $! > {0}.new; mv {0}.new {0}; read go; {TOO_MUCH}; echo survived",
        file.display()
    );
    // Outside of a sandbox, which would not let it tell.
    let told = sandbox.is_null();
    let command = if told { command } else { format!("read go; {TOO_MUCH}; echo survived") };
    start(client, "much", &command, json!({"memoryBytes": MEMORY}), sandbox.clone()).await;
    assert_eq!(enforced(client, "much").await, json!({"memoryBytes": "cgroup"}));
    let daemon = if told { Some(pid_in(&file).await) } else { None };
    client.write("much", "go\n").await;
    let ended = client.finish("much").await;
    assert_eq!((ended.code(), ended.stdout().as_str()), (137, ""), "{}", ended.text("stderr"));
    assert_eq!((&ended.exited["oomKilled"], &ended.exited["signal"]), (&json!(true), &json!(9)));
    if let Some(daemon) = daemon {
        eventually("everything in the group ends", || !alive(daemon)).await;
    }
    let wait = client.ok("process/wait", json!({"processId": "much"})).await;
    assert_eq!(wait["exit"]["oomKilled"], true);
    let read = client.read("much", 0, 0).await;
    assert_eq!(read["exit"]["oomKilled"], true);

    start(client, "little", "echo fine; exit 3", json!({"memoryBytes": MEMORY}), sandbox.clone()).await;
    let ended = client.finish("little").await;
    assert_eq!((ended.code(), &ended.exited["oomKilled"]), (3, &json!(false)));
}

#[tokio::test]
#[ignore = "needs a hierarchy of control groups that is its own: tests/vm/run"]
async fn in_the_root_group_programs_are_bounded_with_all_that_they_start() {
    let before = directories(Path::new(ROOT));
    let mut server = Server::start().await;
    let mut client = server.client().await;
    client.run("plain", "true").await;
    assert_eq!(directories(Path::new(ROOT)), before, "nothing is made before there is a limit");
    let ground = Ground::new();
    for sandbox in [Value::Null, workspace(&ground)] {
        memory_is_bounded(&mut client, &sandbox).await;
        // The records go, so that the ids are free again.
        client = server.client().await;
    }

    let command = "for n in 1 2 3 4 5 6; do sleep 2 & done; echo all";
    start(&mut client, "forks", command, json!({"processes": 4, "openFiles": 50}), Value::Null).await;
    assert_eq!(enforced(&mut client, "forks").await, json!({"processes": "cgroup", "openFiles": "rlimit"}));
    let ended = client.finish_after("forks", 0).await;
    assert!(ended.text("stderr").contains("fork"), "root is held to it too: {}", ended.text("stderr"));
    assert_ne!(ended.stdout(), "all\n");

    // The end of a program reaches what left its session and its parent.
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pid");
    let command = format!(
        "(setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' &); sleep 1000",
        file.display()
    );
    start(&mut client, "daemon", &command, json!({"processes": 20}), Value::Null).await;
    let daemon = pid_in(&file).await;
    assert!(group_of(daemon).contains("codex-programs."), "{}", group_of(daemon));
    client.ok("process/terminate", json!({"processId": "daemon"})).await;
    client.finish("daemon").await;
    eventually("the daemon ends", || !alive(daemon)).await;

    server.stop().await;
    eventually("no group is left", || directories(Path::new(ROOT)) == before).await;
}

#[tokio::test]
#[ignore = "needs a hierarchy of control groups that is its own: tests/vm/run"]
async fn in_a_group_of_its_own_the_server_makes_way_and_comes_back() {
    let group = Group::new("alone");
    let mut server = Server::builder().under(group.enter("")).start().await;
    let mut client = server.client().await;
    start(&mut client, "plain", "sleep 1000", json!(null), Value::Null).await;
    assert_eq!(group_of(server.pid()), "/alone");
    memory_is_bounded(&mut client, &Value::Null).await;
    assert!(group_of(server.pid()).starts_with("/alone/codex-server."), "{}", group_of(server.pid()));
    server.stop().await;
    assert_eq!((group.below(), group.text("cgroup.subtree_control").trim()), (vec![], ""));
    std::fs::remove_dir(&group.0).expect("nobody is in it");
}

#[tokio::test]
#[ignore = "needs a hierarchy of control groups that is its own: tests/vm/run"]
async fn an_ordinary_user_uses_what_was_handed_over_to_it() {
    let group = Group::new("given");
    for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        std::os::unix::fs::chown(group.0.join(name), Some(65534), Some(65534)).expect("given");
    }
    let mut server = Server::builder()
        .under(group.enter("set -- /opt/setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\";"))
        .start()
        .await;
    let mut client = server.client().await;
    start(&mut client, "who", "id -u", json!({"memoryBytes": MEMORY}), Value::Null).await;
    assert_eq!(enforced(&mut client, "who").await, json!({"memoryBytes": "cgroup"}));
    assert_eq!(client.finish("who").await.stdout(), "65534\n");
    start(&mut client, "much", TOO_MUCH, json!({"memoryBytes": MEMORY}), Value::Null).await;
    assert_eq!(client.finish("much").await.exited["oomKilled"], true);
    server.stop().await;
    assert_eq!(group.below(), [""; 0]);
}

#[tokio::test]
#[ignore = "needs a hierarchy of control groups that is its own: tests/vm/run"]
async fn a_group_with_strangers_in_it_is_left_alone() {
    let group = Group::new("shared");
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("it starts");
    std::fs::write(group.0.join("cgroup.procs"), sleeper.id().to_string()).expect("it comes in");
    let server = Server::builder().under(group.enter("")).start().await;
    let mut client = server.client().await;
    start(&mut client, "much", &format!("{TOO_MUCH} || exit 7"), json!({"memoryBytes": MEMORY}), Value::Null)
        .await;
    assert_eq!(enforced(&mut client, "much").await, json!({"memoryBytes": "rlimit"}));
    let ended = client.finish("much").await;
    assert_eq!((ended.code(), &ended.exited["oomKilled"]), (7, &json!(false)), "memory is refused to it");
    assert_eq!(group.below(), [""; 0]);

    let limits = json!({"processes": 20, "openFiles": 50});
    start(&mut client, "root", "true", limits, Value::Null).await;
    let held = enforced(&mut client, "root").await;
    assert_eq!(held, json!({"openFiles": "rlimit"}), "the kernel does not hold root to its processes");

    // Asked again, at some time after they have left.
    sleeper.kill().and_then(|()| sleeper.wait()).expect("it ends");
    for attempt in 0.. {
        let id = format!("again {attempt}");
        start(&mut client, &id, "sleep 0.2", json!({"processes": 20}), Value::Null).await;
        let held = enforced(&mut client, &id).await;
        client.finish(&id).await;
        if held == json!({"processes": "cgroup"}) {
            break;
        }
        assert!(attempt < 300, "not asked again");
    }
}

#[tokio::test]
#[ignore = "needs a hierarchy of control groups that is its own: tests/vm/run"]
async fn a_server_whose_programs_fork_all_the_time_is_no_stranger_to_itself() {
    let group = Group::new("busy");
    let mut server = Server::builder().under(group.enter("")).start().await;
    let mut client = server.client().await;
    for id in ["a", "b", "c"] {
        start(&mut client, id, "while :; do (/bin/true); done", json!(null), Value::Null).await;
    }
    start(&mut client, "bounded", "true", json!({"processes": 20}), Value::Null).await;
    assert_eq!(enforced(&mut client, "bounded").await, json!({"processes": "cgroup"}));
    server.stop().await;
    assert_eq!((group.below(), group.text("cgroup.subtree_control").trim()), (vec![], ""));
}

#[tokio::test]
#[ignore = "needs a hierarchy of control groups that is its own: tests/vm/run"]
async fn the_group_of_a_killed_server_is_opened_again_as_the_documentation_says() {
    let group = Group::new("killed");
    let mut server = Server::builder().alone().under(group.enter("")).start().await;
    let mut client = server.client().await;
    start(&mut client, "x", "true", json!({"memoryBytes": MEMORY, "processes": 20}), Value::Null).await;
    client.finish("x").await;
    server.signal(Signal::KILL);
    server.ended().await;
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("it starts");
    let enter = || std::fs::write(group.0.join("cgroup.procs"), sleeper.id().to_string());
    let refused = enter().expect_err("its controllers are on");
    assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy);
    let documented = include_str!("../../../docs/extensions.md");
    let at = documented.find("find /sys/fs/cgroup/GROUP").expect("it says what to do");
    let script = documented[at..].split("```").next().expect("a block").replace("GROUP", "killed");
    let opened = std::process::Command::new("sh").args(["-ec", &script]).status().expect("it runs");
    assert!(opened.success());
    assert_eq!((group.below(), group.text("cgroup.subtree_control").trim()), (vec![], ""));
    enter().expect("open again");
    sleeper.kill().and_then(|()| sleeper.wait()).expect("it ends");
}

#[tokio::test]
#[ignore = "needs a hierarchy of control groups that is its own: tests/vm/run"]
async fn what_a_killed_server_left_is_swept_by_the_next_once_nothing_runs_in_it() {
    let programs =
        || directories(Path::new(ROOT)).into_iter().filter(|name| name.starts_with("codex-")).collect();
    let before: Vec<String> = programs();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pid");
    let mut server = Server::builder().alone().start().await;
    let mut client = server.client().await;
    let command = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", file.display());
    start(&mut client, "lives", &command, json!({"processes": 20}), Value::Null).await;
    let left = pid_in(&file).await;
    server.signal(Signal::KILL);
    server.ended().await;
    for lives in [true, false] {
        assert_eq!(alive(left), lives);
        let mut next = Server::start().await;
        let mut client = next.client().await;
        start(&mut client, "x", "true", json!({"processes": 20}), Value::Null).await;
        client.finish("x").await;
        next.stop().await;
        let after: Vec<String> = programs();
        assert_eq!(after.len(), before.len() + usize::from(lives), "who lives keeps its group: {after:?}");
        if lives {
            let pid = rustix::process::Pid::from_raw(left.cast_signed()).expect("a pid");
            rustix::process::kill_process(pid, Signal::KILL).expect("it can be killed");
            eventually("it ends", || !alive(left)).await;
        }
    }
}
