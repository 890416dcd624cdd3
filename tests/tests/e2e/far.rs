//! Environments on machines that have a shell and nothing else: the program is brought, runs there, and leaves nothing behind.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use codex_e2e::TestClient;
use codex_e2e::far::{Far, brought};
use codex_e2e::login::{Ended, Home};
use codex_e2e::machine::{self, eventually};

async fn add(home: &Home, far: &Far, name: &str, target: &str, more: &[&str]) {
    let flags = far.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let words = [&["exec-server", "env", "add", name, target][..], &flags, more].concat();
    let added = home.run(&words).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
}

async fn run(home: &Home, name: &str, command: &[&str]) -> Ended {
    home.run(&[&["exec-server", "run", "-E", name, "--"], command].concat()).await
}

/// The programs that were brought, and nothing else that was left beside them.
fn installed(cache: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(cache).expect("it was made");
    let mut found: Vec<(PathBuf, u64)> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path(), entry.metadata().unwrap().ino()))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_machine_with_sshd_and_a_shell_is_an_environment() {
    let far = Far::with_sshd().await;
    let home = far.home();
    add(&home, &far, "box", "ssh://box", &["--use"]).await;
    let ended = run(&home, "box", &["sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(7), "out\n"), "{ended:?}");
    assert!(ended.stderr.contains("err\n"), "{ended:?}");
    let first = installed(&far.cache());
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(std::fs::metadata(&first[0].0).unwrap().len(), std::fs::metadata(brought()).unwrap().len());
    let again = home.run_with(&["exec-server", "run", "--", "cat"], "to and fro").await;
    assert_eq!(again.stdout, "to and fro", "{again:?}");
    assert_eq!(installed(&far.cache()), first, "it goes there once");

    let listed = home.run(&["exec-server", "env", "ls"]).await.stdout;
    assert!(listed.contains("*\tbox\tssh\tssh://box\t\n"), "{listed}");
    let kept = home.run(&["exec-server", "run", "-d", "--", "true"]).await;
    assert!(kept.status.code() == Some(1) && kept.stderr.contains("add it with --resident"), "{kept:?}");
    eventually("nothing is left running", || far.processes().is_empty()).await;
}

#[tokio::test]
async fn a_released_client_starts_the_program_that_is_written_down() {
    let far = Far::new();
    let home = far.home();
    add(&home, &far, "web", "docker://web", &[]).await;
    let text = std::fs::read_to_string(home.path().join("environments.toml")).unwrap();
    let line = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
        line.unwrap_or_else(|| panic!("no {key}: {text}")).to_owned()
    };
    // Keys of the released file alone, whose strings and lists are written as JSON has them.
    assert_eq!(line("initialize_timeout_sec"), "300.0");
    let program: String = serde_json::from_str(&line("program")).unwrap();
    let args: Vec<String> = serde_json::from_str(&line("args")).unwrap();
    let mut command = tokio::process::Command::new(program);
    command.args(args);
    home.dress(&mut command);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut client = TestClient::over_lines(child.stdout.take().unwrap(), child.stdin.take().unwrap());
    client.handshake().await;
    let ended = client.run("p", "echo $HOME").await;
    assert_eq!(ended.stdout(), format!("{}\n", far.path("home").display()));
    drop(client);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    eventually("nothing is left running", || far.processes().is_empty()).await;
}

#[tokio::test]
async fn chains_pods_and_noise_before_the_first_word() {
    let far = Far::with_sshd().await;
    let home = far.home();
    for (name, target) in [
        ("chain", "ssh://box|docker://web"),
        ("noisy", "docker://noisy"),
        ("through", "docker://web|ssh://box"),
    ] {
        add(&home, &far, name, target, &[]).await;
        let ended = run(&home, name, &["echo", "it's", "there"]).await;
        assert_eq!(ended.stdout, "it's there\n", "{name}: {ended:?}");
    }
    // A namespace with a home directory of its own, which is gone afterwards.
    let binary = brought().to_str().unwrap();
    let pod =
        ["--url", "kubectl://default/web-0/side", "--binary", binary, "--", "sh", "-c", "ls -A ~/.cache"];
    let ended = home.run(&[&["exec-server", "run"][..], &pod].concat()).await;
    assert_eq!(ended.stdout, "codex-exec-server\n", "{ended:?}");
    assert!(std::fs::read_dir(far.path("home")).unwrap().next().is_none());
    eventually("nothing is left running", || far.processes().is_empty()).await;
}

/// A program of the machine with its file in the far directory, so that it is found among the processes there.
fn sleeper(far: &Far) -> String {
    let sleeper = far.path("sleeper");
    if !sleeper.exists() {
        std::fs::copy("/bin/sleep", &sleeper).unwrap();
    }
    sleeper.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn twenty_cuts_leave_no_process() {
    let far = Far::with_sshd().await;
    let home = far.home();
    add(&home, &far, "box", "ssh://box", &[]).await;
    assert_eq!(run(&home, "box", &["true"]).await.status.code(), Some(0));
    let sleeper = sleeper(&far);
    // One that leaves its session, and one with a child of its own.
    let line = format!("setsid {sleeper} 7777 & {sleeper} 7778 & echo started; wait");
    for round in 0..20 {
        let running = home.start(&["exec-server", "run", "-E", "box", "--", "sh", "-c", &line]);
        running.wait_for("the program", |stdout, _| stdout.contains("started").then_some(())).await;
        match round % 2 {
            0 => {
                // The client itself goes.
                drop(running);
            }
            _ => {
                let ssh = ways(&far);
                assert!(!ssh.is_empty(), "round {round}");
                ssh.into_iter().for_each(machine::kill);
                let ended = running.end().await;
                assert_eq!(ended.status.code(), Some(255), "{ended:?}");
            }
        }
        eventually("nothing is left running", || far.processes().is_empty()).await;
    }
}

/// The ssh clients that use this machine's configuration.
fn ways(far: &Far) -> Vec<u32> {
    let config = far.path("sshd/client").display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"/usr/bin/ssh\0") && String::from_utf8_lossy(&words).contains(&config)
    })
    .collect()
}

#[tokio::test]
async fn a_server_that_stays_is_found_again_and_a_cut_loses_nothing() {
    let far = Far::with_sshd().await;
    let home = far.home();
    add(&home, &far, "box", "ssh://box", &["--resident", "--use"]).await;
    let sleeper = sleeper(&far);
    let left = home.run(&["exec-server", "run", "-d", "--name", "nightly", "--", &sleeper, "7777"]).await;
    assert_eq!((left.status.code(), left.stdout.as_str()), (Some(0), "nightly\n"), "{left:?}");
    let server = far.residents();
    assert_eq!(server.len(), 1);
    let listed = home.run(&["exec-server", "ps", "-q"]).await;
    assert_eq!(listed.stdout, "nightly\n", "{listed:?}");

    let go = far.path("go");
    let line =
        format!("echo before; while [ ! -e {} ]; do sleep 0.05; done; echo after; exit 5", go.display());
    let running = home.start(&["exec-server", "run", "--", "sh", "-c", &line]);
    running.wait_for("the program", |stdout, _| stdout.contains("before").then_some(())).await;
    let cut = ways(&far);
    assert!(!cut.is_empty());
    cut.iter().copied().for_each(machine::kill);
    // Another way is made before anything more is said.
    eventually("another way", || ways(&far).iter().any(|pid| !cut.contains(pid))).await;
    std::fs::write(&go, "").unwrap();
    let ended = running.end().await;
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(5), "before\nafter\n"), "{ended:?}");

    assert_eq!(far.residents(), server, "it is the same server all the time");
    let ended = home.run(&["exec-server", "kill", "nightly"]).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_stays_gives_way_to_another_version_once_nothing_runs_in_it() {
    let far = Far::new();
    let home = far.home();
    add(&home, &far, "old", "docker://web", &["--resident"]).await;
    let mut newer = std::fs::read(brought()).unwrap();
    newer.extend(b"newer");
    std::fs::write(far.path("newer"), newer).unwrap();
    let installed = far.path("installed").display().to_string();
    let newer = far.path("newer").display().to_string();
    let add = ["exec-server", "env", "add", "new", "docker://web", "--resident", "--remote-dir", &installed];
    assert_eq!(home.run(&[&add[..], &["--binary", &newer]].concat()).await.status.code(), Some(0));

    let sleeper = sleeper(&far);
    let left =
        home.run(&["exec-server", "run", "-E", "old", "-d", "--name", "p", "--", &sleeper, "7777"]).await;
    assert_eq!(left.status.code(), Some(0), "{left:?}");
    let first = far.residents();
    let ended = run(&home, "new", &["echo", "served"]).await;
    assert!(ended.stdout == "served\n" && ended.stderr.contains("a program runs in it"), "{ended:?}");
    assert_eq!(far.residents(), first, "what runs is not ended");

    assert_eq!(home.run(&["exec-server", "kill", "-E", "old", "p"]).await.status.code(), Some(0));
    let ended = run(&home, "new", &["echo", "served"]).await;
    assert_eq!(ended.stdout, "served\n", "{ended:?}");
    let second = far.residents();
    assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
    machine::kill(second[0]);
    // Its socket is left behind, and does not matter.
    eventually("it is gone", || far.residents().is_empty()).await;
    assert_eq!(run(&home, "new", &["echo", "anew"]).await.stdout, "anew\n");
}

#[tokio::test]
async fn a_server_that_stays_is_stopped_by_name_and_not_forgotten_while_it_runs() {
    let far = Far::with_sshd().await;
    let home = far.home();
    let env = async |words: &[&str]| {
        let ended = home.run(&[&["exec-server", "env"], words].concat()).await;
        // What the start-up files of this user's shell miss over there is no word of ours.
        let ours = ended.stderr.split_inclusive('\n').filter(|line| !line.starts_with("/usr/bin/env: "));
        let ours = ours.collect::<String>();
        (ended.status.code(), ended.stdout, ours)
    };
    let said = |code, stdout: &str, stderr: &str| (Some(code), stdout.to_owned(), stderr.to_owned());
    add(&home, &far, "box", "ssh://box", &["--resident", "--use"]).await;
    assert_eq!(env(&["stop", "box"]).await, said(0, "", "no server stays on ssh://box\n"));
    assert!(!far.cache().exists(), "nothing is brought for a question");

    let sleeper = sleeper(&far);
    for name in ["first", "second"] {
        let left = home.run(&["exec-server", "run", "-d", "--name", name, "--", &sleeper, "7777"]).await;
        assert_eq!(left.status.code(), Some(0), "{left:?}");
    }
    let server = far.residents();
    assert_eq!(
        env(&["rm", "box"]).await,
        said(
            1,
            "",
            "Error: a server still stays on ssh://box, and 2 programs run in it; end it with `codex exec-server env stop box`, or \
             leave it there with --force\n"
        )
    );
    let ended = home.run(&["exec-server", "kill", "first"]).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(
        env(&["stop"]).await,
        said(
            1,
            "",
            "Error: a program runs in the server on ssh://box: `codex exec-server ps` lists what runs; with --force it ends too\n"
        )
    );
    assert_eq!(far.residents(), server, "what runs is not ended by the way");
    assert_eq!(env(&["stop", "--force", "box"]).await, said(0, "ssh://box\n", ""));
    eventually("all that ran there is gone", || far.processes().is_empty()).await;
    assert_eq!(env(&["stop", "-E", "box"]).await, said(0, "", "no server stays on ssh://box\n"));

    // One in which nothing runs is ended without force.
    assert_eq!(run(&home, "box", &["true"]).await.status.code(), Some(0));
    assert_eq!(far.residents().len(), 1);
    assert_eq!(env(&["stop", "box"]).await, said(0, "ssh://box\n", ""));
    eventually("it is gone", || far.processes().is_empty()).await;
    assert_eq!(env(&["rm", "box"]).await, said(0, "", ""));

    // Who can't find out forgets it all the same, and says so.
    add(&home, &far, "lost", "docker://gone", &["--resident"]).await;
    let (code, stdout, stderr) = env(&["rm", "lost"]).await;
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(
        stderr.starts_with("can't tell whether a server still stays there: docker://gone: docker ended with"),
        "{stderr}"
    );
    let (code, _, stderr) = env(&["stop", "--url", "ws://127.0.0.1:1"]).await;
    assert!(code == Some(1) && stderr.contains("end another where it was started"), "{stderr}");
}

#[tokio::test]
async fn many_at_once_bring_it_once() {
    let far = Far::new();
    let home = far.home();
    let counted = far.path("counted");
    let count = format!("#!/bin/sh\necho once >>{}\nexec /usr/bin/sha256sum\n", counted.display());
    far.program("shims/sha256sum", &count);
    add(&home, &far, "web", "docker://web", &[]).await;
    let all: Vec<_> =
        (0..4).map(|_| home.start(&["exec-server", "run", "-E", "web", "--", "echo", "there"])).collect();
    for running in all {
        let ended = running.end().await;
        assert_eq!(ended.stdout, "there\n", "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(&counted).unwrap(), "once\n");
    assert_eq!(installed(&far.cache()).len(), 1);
}

#[tokio::test]
async fn a_half_brought_program_is_never_run_and_brought_anew() {
    let far = Far::new();
    let home = far.home();
    add(&home, &far, "web", "docker://web", &[]).await;
    // Takes a part, and waits to be cut.
    let taken = far.path("taken");
    far.program(
        "shims/head",
        &format!("#!/bin/sh\n/usr/bin/head -c 100000\necho >{}\ncat >/dev/null\n", taken.display()),
    );
    let running = home.start(&["exec-server", "run", "-E", "web", "--", "true"]);
    eventually("a part arrived", || taken.exists()).await;
    drop(running);
    std::fs::remove_file(far.path("shims/head")).unwrap();
    let ended = run(&home, "web", &["echo", "whole"]).await;
    assert_eq!(ended.stdout, "whole\n", "{ended:?}");
    assert_eq!(installed(&far.cache()).len(), 1);
}

/// A small program of the system with a few bytes changed.
fn changed(far: &Far, name: &str, from: &[u8], to: &[u8]) -> String {
    let mut bytes = std::fs::read("/bin/true").unwrap();
    let at = bytes.windows(from.len()).position(|part| part == from);
    let at = at.unwrap_or_else(|| panic!("{name}: /bin/true lacks it"));
    bytes[at..at + to.len()].copy_from_slice(to);
    std::fs::write(far.path(name), bytes).unwrap();
    far.path(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_stands_in_the_way_has_a_sentence_and_a_remedy() {
    let far = Far::with_sshd().await;
    let home = far.home();
    let small = changed(&far, "small", b"\x7fELF", b"\x7fELF");
    let loader = changed(&far, "loader", b"/ld-linux", b"/ld-nosuch");
    let library = changed(&far, "library", b"GLIBC_2.34", b"GLIBC_2.99");
    // `e_machine`, which is no word of its own: it stands behind the type of the file.
    let mut bytes = std::fs::read("/bin/true").unwrap();
    let other = if bytes[18] == 62 { (183_u8, "aarch64") } else { (62, "x86_64") };
    bytes[18] = other.0;
    std::fs::write(far.path("other"), bytes).unwrap();
    let machine = far.path("other").to_str().unwrap().to_owned();
    std::fs::write(far.path("text"), "#!/bin/sh\nexit 0\n").unwrap();
    let text = far.path("text").to_str().unwrap().to_owned();
    let built_for = format!("built for {}; give one for", other.1);
    for (target, binary, words) in [
        ("ssh://nosuch.invalid", &small, "ssh://nosuch.invalid: ssh ended with code 255"),
        ("ssh://refused", &small, "connect once with `ssh refused` from a terminal, and compare the key"),
        ("ssh://closed", &small, "nobody can be asked for a password or a key here"),
        (
            "docker://gone",
            &small,
            "docker://gone: docker ended with code 1: Error response from daemon: No such",
        ),
        ("ssh://box|docker://gone", &small, ": docker://gone: docker ended with code 1: "),
        ("docker://shellless", &small, "there is no shell that runs commands"),
        (
            "docker://homeless",
            &small,
            "neither HOME nor XDG_CACHE_HOME is set there; name a directory with --remote-dir",
        ),
        ("docker://bsd", &small, "the machine runs FreeBSD, and this program needs Linux"),
        ("docker://plain", &machine, built_for.as_str()),
        ("docker://plain", &loader, "C library is too old for this program, or is another one"),
        ("docker://plain", &library, "give a static one with --binary"),
        ("docker://noexec", &small, "mounted noexec?); name another directory with --remote-dir"),
        ("docker://full", &small, "no room in"),
        (
            "docker://readonly",
            &small,
            "Read-only file system; mend that, or name another one with --remote-dir",
        ),
        ("docker://plain", &text, "it is no program for Linux (ELF)"),
    ] {
        // The shims of one machine are not those of the next.
        let _ = std::fs::remove_file(far.path("shims/uname"));
        let words_of = ["exec-server", "run", "--url", target, "--binary", binary.as_str(), "--", "true"];
        let ended = home.run(&words_of).await;
        assert_eq!(ended.status.code(), Some(255), "{target}: {ended:?}");
        assert!(ended.stderr.contains(words), "{target}: {words}: {}", ended.stderr);
    }
    let mut home = home;
    home.set("PATH", "/nosuch");
    let ended = home.run(&["exec-server", "run", "--url", "docker://x", "--", "true"]).await;
    assert!(ended.stderr.contains("can't start docker: No such file or directory"), "{ended:?}");
}

#[tokio::test]
async fn it_goes_packed_where_it_can_be_unpacked_and_the_three_newest_are_kept() {
    let far = Far::new();
    let home = far.home();
    let unpacked = far.path("unpacked");
    far.program(
        "shims/gzip",
        &format!("#!/bin/sh\necho once >>{}\nexec /usr/bin/gzip \"$@\"\n", unpacked.display()),
    );
    for number in 1..=5 {
        let small = changed(&far, "small", b"\x7fELF", b"\x7fELF");
        let mut bytes = std::fs::read(&small).unwrap();
        bytes.extend(vec![number; 100]);
        std::fs::write(&small, &bytes).unwrap();
        let directory = far.path("installed").display().to_string();
        let flags = ["--url", "docker://web", "--binary", &small, "--remote-dir", &directory, "--", "true"];
        // It is no server, and so there is no answer.
        let ended = home.run(&[&["exec-server", "run"][..], &flags].concat()).await;
        assert_eq!(ended.status.code(), Some(255), "{ended:?}");
        let there = installed(&far.cache());
        assert_eq!(there.len(), usize::from(number).min(3), "{there:?}");
        assert!(there.iter().any(|(path, _)| std::fs::read(path).unwrap() == bytes), "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(&unpacked).unwrap().lines().count(), 5);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_started() {
    let home = Home::new();
    for (words, code, told) in [
        (&["run", "--url", "ssh://-oProxyCommand=x", "--", "true"][..], 2, "is no name of a host"),
        (&["run", "--url", "ws://127.0.0.1:1", "--resident", "--", "true"], 2, "--resident goes with"),
        (&["run", "--url", "docker://a", "--remote-dir", "here", "--", "true"], 2, "no absolute path"),
        (&["env", "add", "a", "ws://127.0.0.1:1", "--binary", "/x"], 2, "--binary goes with"),
        (&["env", "add", "a", "ssh://a b"], 2, "is no name of a host"),
        (&["env", "add", "a", "ssh://a", "--token-file", "/x"], 2, "--token-file goes with"),
    ] {
        let ended = home.run(&[&["exec-server"], words].concat()).await;
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains(told), "{words:?}: {ended:?}");
    }
}
