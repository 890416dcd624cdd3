//! The machine as programs know it: devices, `/proc`, `/tmp`, terminals and sockets.

use super::*;

#[tokio::test]
async fn devices_and_the_usual_places_are_there() {
    check(
        &[
            Row {
                name: "null, zero, full and random",
                needs: &["python3"],
                script: "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && \
                         head -c 4 /dev/random | wc -c && { echo x > /dev/full; } 2>&1; test -c /dev/null -a -c /dev/tty && echo devices",
                says: Says::Always("devices"),
            },
            Row {
                name: "descriptors",
                needs: &["ls"],
                script: "echo through | cat /dev/stdin && ls /dev/fd >/dev/null && echo y | cat /dev/fd/0 && echo out > /dev/stdout && \
                         echo err > /dev/stderr && sh -c 'exec 5>five; echo z >&5' && cat five",
                says: Says::Always("through"),
            },
            Row {
                name: "shared memory",
                needs: &["ls"],
                script: "echo kept > /dev/shm/mine && cat /dev/shm/mine && rm /dev/shm/mine",
                says: Says::Always("kept"),
            },
            Row {
                name: "terminals",
                needs: &["python3"],
                script: "python3 -c 'import os, pty; m, s = os.openpty(); print(\"terminal\", os.isatty(s), os.ttyname(s).startswith(\"/dev/pts/\"))'",
                says: Says::Always("terminal True True"),
            },
            Row {
                name: "/proc/self",
                needs: &["ls"],
                script: "readlink /proc/self/exe && grep -q State /proc/self/status && ls /proc/self/fd >/dev/null && \
                         ls /proc/self/task >/dev/null && cat /proc/self/cmdline | tr '\\0' ' ' && test -r /proc/meminfo && \
                         test -r /proc/cpuinfo && cat /proc/$$/comm && ps -o pid= -p $$ && echo proc",
                says: Says::Always("proc"),
            },
            Row {
                name: "/tmp",
                needs: &["mktemp"],
                script: "d=$(mktemp -d) && echo here > $d/f && cat $d/f && mv $d/f ./moved && rm -r $d && cat moved",
                says: Says::Always("here"),
            },
            Row {
                name: "named pipes, locks and links",
                needs: &["flock"],
                script: "mkfifo p && { echo piped > p & cat p; } && flock l echo locked && ln -s l s && ln l h && chmod 700 l && touch -d 2001-01-01 l && \
                         truncate -s 1M big && cp --sparse=always big b2 && echo links",
                says: Says::Always("links"),
            },
            Row {
                name: "jobs and signals",
                needs: &["sleep"],
                script: "sleep 100 & kill %1 2>/dev/null || kill $!; wait $!; echo code $?; sh -c 'kill -9 $$'; echo killed $?; nice -n 5 true; timeout 5 true; echo jobs",
                says: Says::Always("code 143"),
            },
        ],
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn terminals_are_made_for_programs_that_want_one() {
    check(
        &[
            Row {
                name: "script",
                needs: &["script"],
                script: "script -qec 'test -t 1 && echo on a terminal' typescript </dev/null",
                says: Says::Always("on a terminal"),
            },
            Row {
                name: "tmux",
                needs: &["tmux"],
                script: "export TMUX_TMPDIR=$PWD; tmux new-session -d 'echo in tmux > from-tmux; tmux wait -S done; sleep 60' && \
                         tmux wait done && cat from-tmux && tmux kill-server",
                says: Says::Always("in tmux"),
            },
            Row {
                name: "bash with job control",
                needs: &["bash", "script"],
                script: "script -qec \"bash -ic 'sleep 0 & fg; echo done'\" /dev/null </dev/null",
                says: Says::Always("done"),
            },
        ],
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn servers_and_clients_meet_on_loopback_where_there_is_a_network() {
    check(
        &[
            Row {
                name: "a server and its client",
                needs: &["python3"],
                // Without network there is no socket at all.
                script: "python3 -c 'import socket, threading\ns = socket.create_server((\"127.0.0.1\", 0))\n\
                         threading.Thread(target=lambda: s.accept()[0].sendall(b\"served\")).start()\n\
                         print(socket.create_connection(s.getsockname()).recv(9))' 2>&1; true",
                says: Says::ByNetwork("Operation not permitted", "served"),
            },
            Row {
                name: "a pair of sockets",
                needs: &["python3"],
                script: "python3 -c 'import socket\na, b = socket.socketpair()\na.sendall(b\"paired\"); print(b.recv(9))'",
                says: Says::Always("paired"),
            },
            Row {
                name: "a socket with a name",
                needs: &["python3"],
                script: "python3 -c 'import socket, threading\ns = socket.socket(socket.AF_UNIX); s.bind(\"here\"); s.listen()\n\
                         threading.Thread(target=lambda: s.accept()[0].sendall(b\"met\")).start()\n\
                         c = socket.socket(socket.AF_UNIX); c.connect(s.getsockname()); print(c.recv(9))'",
                says: Says::Always("met"),
            },
            Row {
                name: "multiprocessing by a server that forks",
                needs: &["python3"],
                script: "printf 'import multiprocessing as m\ndef f(x): return x * x\n\
                         if __name__ == \"__main__\":\n m.set_start_method(\"forkserver\")\n\
                         \x20with m.Pool(2) as p, m.Manager() as g: print(p.map(f, [3]), g.list([4]))\n' > m.py && python3 m.py",
                says: Says::Always("[9] [4]"),
            },
            Row {
                name: "curl of an allowed host",
                needs: &["curl"],
                script: "curl -sS $ELSEWHERE/hello 2>&1; true",
                says: Says::ByNetwork("resolve host", "hello from elsewhere"),
            },
        ],
        |ground| std::fs::write(ground.at("served/hello"), "hello from elsewhere").expect("written"),
    )
    .await;
}
