//! Unix sockets of a confined program's own: they work as without a sandbox, and lead to nobody else.

use super::escapes::{network_of, profile};
use super::*;

/// What a program finds true of its sockets; says "all well" at the end.
const WORDS: &str = r#"
import errno, fcntl, os, select, socket, stat, struct, sys, threading
U = socket.AF_UNIX
def fails(number, act):
    try: act()
    except OSError as error: assert error.errno == number, error
    else: raise AssertionError("it worked")
def serve(listener):
    def answer():
        with listener.accept()[0] as one: one.sendall(one.recv(99).upper())
    thread = threading.Thread(target=answer, daemon=True); thread.start(); return thread
def ask(at, kind=socket.SOCK_STREAM):
    with socket.socket(U, kind) as one:
        one.settimeout(20); one.connect(at); one.sendall(b"hello"); return one.recv(99), one.getpeername()
for kind in [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]:
    for at in ["here", os.path.abspath("there"), "sub/deep/../below", b"\xff.sock"]:
        listener = socket.socket(U, kind)
        number = listener.fileno()
        os.umask(0o027); listener.bind(at)
        found = os.stat(at)
        assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o750 and found.st_uid == os.geteuid()
        assert listener.fileno() == number and not os.get_inheritable(number)
        assert os.fsencode(listener.getsockname()) == os.fsencode(at), listener.getsockname()
        listener.listen(5)
        thread = serve(listener)
        said, peer = ask(at, kind); thread.join()
        assert said == b"HELLO" and os.fsencode(peer) == os.fsencode(at), (said, peer)
        fails(errno.EADDRINUSE, lambda: socket.socket(U, kind).bind(at))
        # By any name that leads to it, and no more once nobody listens.
        os.rename(at, "moved"); os.symlink("moved", "link"); os.link("moved", "hard")
        for name in ["moved", "link", "hard", os.path.abspath("link")]:
            thread = serve(listener); assert ask(name, kind)[0] == b"HELLO"; thread.join()
        listener.close()
        fails(errno.ECONNREFUSED, lambda: ask("moved", kind))
        for name in ["moved", "link", "hard"]: os.unlink(name)
        fails(errno.ENOENT, lambda: ask("moved", kind))
fails(errno.ECONNREFUSED, lambda: ask("file"))
fails(errno.ECONNREFUSED, lambda: ask("\0nobody"))
fails(errno.EPERM, lambda: socket.socket(U).bind("\0mine"))
fails(errno.EPERM, lambda: socket.socket(U, socket.SOCK_DGRAM))
fails(errno.EINVAL, lambda: socket.socket(U).listen())
fails(errno.ENOENT, lambda: socket.socket(U).bind("nowhere/x"))
# More than wait at a time: one who may not wait is told, and one who may is served.
listener = socket.socket(U); listener.bind("full"); listener.listen(1)
waiting = []
for _ in range(9):
    one = socket.socket(U); one.setblocking(False)
    try: one.connect("full")
    except BlockingIOError: break
    waiting.append(one)
else: raise AssertionError("it never was full")
late = threading.Thread(target=lambda: waiting.append(ask("full")), daemon=True); late.start()
for _ in range(len(waiting) + 1):
    one = listener.accept()[0]
    if select.select([one], [], [], 0.5)[0]: one.sendall(one.recv(99).upper())
late.join(20); assert waiting[-1][0] == b"HELLO"
# What was set before holds after.
one = socket.socket(U); one.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192); os.set_inheritable(one.fileno(), True); one.setblocking(False)
before = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
one.connect("full")
assert one.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 1 and os.get_inheritable(one.fileno())
assert one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before and not os.get_blocking(one.fileno())
fails(errno.EISCONN, lambda: one.connect("full"))
# Its peer knows as whom it asks, and a child that became another user asks as that one.
def credentials():
    return struct.unpack("3i", listener.accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:]
assert credentials() == (os.geteuid(), os.getegid())
os.chmod("full", 0o777)
def become():
    try: os.setgroups([]); os.setgid(65534); os.setuid(65534)
    except OSError: return False
    return True
if os.geteuid() == 0:
    if os.fork() == 0:
        became = become(); other = socket.socket(U); other.connect("full"); other.sendall(b"%d" % became)
        if became: fails(errno.EACCES, lambda: socket.socket(U).bind("not-mine"))
        os._exit(0)
    one = listener.accept()[0]
    asked = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:]
    assert asked == ((65534, 65534) if one.recv(1) == b"1" else (0, os.getegid())), asked
    assert os.wait()[1] == 0
for name in sys.argv[1:]: fails(errno.EACCES, lambda: ask(name))
many = []
for i in range(600):
    one = socket.socket(U); one.bind("many"); os.unlink("many"); many.append(one)
    if i % 100 == 0: many.clear()
print("all well")
"#;

#[tokio::test]
async fn sockets_of_a_programs_own_have_names_in_its_workspace() {
    if !enforceable() {
        return;
    }
    let mut tried = 0;
    for (name, server) in servers().await {
        if ["no pids", "off"].contains(&name) {
            continue;
        }
        let mut client = server.client().await;
        for profile_name in ["workspace", "online", "filtered", "external"] {
            let ground = Ground::new();
            let sandbox = profile(profile_name, &ground);
            let outside = ground.at("w/theirs");
            // Somebody else listens in the workspace, too.
            let _theirs = std::os::unix::net::UnixListener::bind(&outside).expect("it listens");
            std::fs::write(ground.at("w/words.py"), WORDS).expect("written");
            let argv = ["/usr/bin/env", "python3", "words.py", "theirs", outside.to_str().expect("text")];
            let ran = run_with(&mut client, &ground, &sandbox, argv, network_of(profile_name)).await;
            assert!(ran.output.contains("all well"), "{profile_name} with {name}: {}", ran.output);
            tried += 1;
        }
    }
    assert!(tried > 0, "some mechanism has sockets");
}
