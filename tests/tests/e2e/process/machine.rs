//! Programs where the machine has little: many at once, few descriptors, an old kernel.

use codex_e2e::Server;
use codex_e2e::client::start_params;
use codex_e2e::machine::eventually;
use serde_json::json;

#[tokio::test]
async fn five_hundred_short_programs_at_once_all_finish() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for n in 0..500 {
        client.send("process/start", start_params(&format!("p{n}"), ["true"], json!({}))).await;
    }
    for n in 0..500 {
        assert_eq!(client.finish(&format!("p{n}")).await.code(), 0);
    }
    let pid = server.pid();
    eventually("all are reaped", || codex_e2e::machine::children(pid).is_empty()).await;
}

/// A server whose shell sets this bound of descriptors first: with `-S` the soft one, else both.
async fn with_descriptors(which: &str, most: u32) -> Server {
    let under = ["sh", "-c", &format!("ulimit {which} -n {most}; exec \"$@\""), "sh"].map(str::to_owned);
    Server::builder().under(under).start().await
}

#[tokio::test]
async fn a_soft_bound_of_descriptors_holds_for_programs_and_not_for_the_server() {
    let server = with_descriptors("-S", 64).await;
    let mut client = server.client().await;
    let count = 120;
    for n in 0..count {
        let params = start_params(&format!("p{n}"), ["cat"], json!({"pipeStdin": true}));
        client.ok("process/start", params).await;
    }
    for tty in [false, true] {
        let id = format!("tty-{tty}");
        client.shell_with(&id, "ulimit -S -n; ulimit -H -n", json!({"tty": tty})).await;
        let ended = client.finish(&id).await;
        let shown = ended.text(if tty { "pty" } else { "stdout" });
        let bounds: Vec<&str> = shown.split_ascii_whitespace().collect();
        assert!(matches!(bounds[..], ["64", hard] if hard != "64"), "{shown}");
    }
    for n in 0..count {
        client.ok("process/closeStdin", json!({"processId": format!("p{n}")})).await;
        assert_eq!(client.finish(&format!("p{n}")).await.code(), 0);
    }
}

#[tokio::test]
async fn at_the_bound_of_descriptors_a_start_is_refused_with_a_sentence_and_nothing_hangs() {
    for tty in [false, true] {
        let server = with_descriptors("", 256).await;
        let mut client = server.client().await;
        let mut starts = Vec::new();
        for n in 0..300 {
            let id = format!("p{n}");
            let params = start_params(&id, ["sleep", "1000"], json!({"tty": tty}));
            starts.push((client.send("process/start", params).await, id));
        }
        let (mut running, mut refused) = (Vec::new(), 0);
        for (request, id) in starts {
            match client.answer(request).await {
                Ok(_) => running.push(id),
                Err((code, text)) => {
                    assert!(code == -32603 && text.contains("256 descriptors"), "{code} {text}");
                    refused += 1;
                }
            }
        }
        assert!(running.len() > 20 && refused > 20, "{} run, {refused} were refused", running.len());
        // The rest of the server goes on, as far as it needs no descriptor.
        client.ok("process/list", json!({})).await;
        for id in &running {
            client.ok("process/terminate", json!({"processId": id})).await;
        }
        for id in &running {
            // As released servers have it (8.6).
            assert_eq!(client.finish(id).await.code(), if tty { 1 } else { 137 }, "{id}");
        }
        let (pid, after) = (server.pid(), format!("after-{tty}"));
        eventually("all are reaped", || codex_e2e::machine::children(pid).len() <= 1).await;
        assert_eq!(client.run(&after, "echo on").await.stdout(), "on\n");
    }
}

/// What kernels did not have in 2018, or filters of containers do not know.
const NEWER_CALLS: [libc::c_long; 8] = [
    libc::SYS_clone3,
    libc::SYS_close_range,
    libc::SYS_faccessat2,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_statx,
    libc::SYS_io_uring_setup,
];

#[tokio::test]
async fn programs_and_files_need_no_newer_call_of_the_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "content").unwrap();
    for errno in [libc::ENOSYS, libc::EPERM] {
        let calls = NEWER_CALLS.map(|call| call.to_string()).join(",");
        let under = [env!("CARGO_BIN_EXE_refuse"), &errno.to_string(), &calls].map(str::to_owned);
        let mut server = Server::builder().under(under).start().await;
        let mut client = server.client().await;
        for tty in [false, true] {
            let id = format!("tty-{tty}");
            client.shell_with(&id, "echo $((6 * 7)); exit 3", json!({"tty": tty})).await;
            let ended = client.finish(&id).await;
            assert_eq!(
                (ended.text(if tty { "pty" } else { "stdout" }).trim(), ended.code()),
                ("42", 3),
                "{errno}"
            );
        }
        let metadata = client.ok("fs/getMetadata", json!({"path": file})).await;
        assert_eq!(
            (&metadata["isFile"], &metadata["size"]),
            (&json!(true), &json!(7)),
            "{errno}: {metadata}"
        );
        assert!(metadata["modifiedAtMs"].as_i64().unwrap() > 0, "{errno}: {metadata}");
        let strict = json!({"path": file, "followSymlinks": false});
        assert_eq!(client.ok("fs/getMetadata", strict).await["size"], 7, "{errno}");
        let child = directory.path().join(format!("child{errno}"));
        client
            .shell("tree", &format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & wait", child.display()))
            .await;
        let child = codex_e2e::machine::pid_in(&child).await;
        client.ok("process/terminate", json!({"processId": "tree"})).await;
        assert_eq!(client.finish("tree").await.code(), 137, "{errno}");
        codex_e2e::machine::eventually("the tree is gone", || !codex_e2e::machine::alive(child)).await;
        let running = directory.path().join(format!("running{errno}"));
        client.shell("running", &format!("echo $$ > {}; exec sleep 1000", running.display())).await;
        let running = codex_e2e::machine::pid_in(&running).await;
        server.signal(rustix::process::Signal::KILL);
        server.ended().await;
        codex_e2e::machine::eventually("it ends with its server", || !codex_e2e::machine::alive(running))
            .await;
    }
}
