//! Machines that have a shell and nothing else: a real sshd on loopback, and programs that stand in for docker and kubectl.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::GUARD;
use crate::login::Home;

/// The built binary without what debuggers need, which is most of it: what is brought.
pub fn brought() -> &'static Path {
    static BROUGHT: OnceLock<PathBuf> = OnceLock::new();
    BROUGHT.get_or_init(|| {
        let built = crate::binary::codex();
        // The binary may lie where this user writes nothing.
        let beside = built.parent().expect("it lies in a directory");
        let writable = rustix::fs::access(beside, rustix::fs::Access::WRITE_OK).is_ok();
        let size = built.metadata().map_or(0, |found| found.len());
        let user = rustix::process::geteuid().as_raw();
        let stripped = match writable {
            true => beside.join("codex-brought"),
            false => std::env::temp_dir().join(format!("codex-brought-{user}-{size}")),
        };
        let newest = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
        if newest(&stripped) < newest(built) {
            // Another test process may do the same.
            let new = stripped.with_extension(std::process::id().to_string());
            let done =
                Command::new("strip").arg("-o").args([&new, built]).status().expect("binutils are there");
            assert!(done.success(), "strip: {done}");
            std::fs::rename(&new, &stripped).expect("the same directory");
        }
        stripped
    })
}

/// A machine to be reached: its directory, and programs by which it is reached.
pub struct Far {
    directory: TempDir,
    sshd: Option<Child>,
}

impl Drop for Far {
    fn drop(&mut self) {
        if let Some(sshd) = &mut self.sshd {
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
        for pid in self.processes() {
            crate::machine::kill(pid);
        }
    }
}

/// Runs a shell as `docker exec` and `kubectl exec` do. What kind of machine it is, its name says.
const STAND_IN: &str = r#"#!/bin/sh
# docker exec -i [-u USER] CONTAINER sh -c LINE; kubectl exec -i -n NAMESPACE POD [-c CONTAINER] -- sh -c LINE
[ "$1 $2" = "exec -i" ] || exit 64
shift 2
while [ $# -gt 3 ]; do
    case $1 in -n | -u | -c) shift 2 ;; --) shift ;; *) name=$1; shift ;; esac
done
[ "$1 $2" = "sh -c" ] || exit 64
unshared="unshare -m"
[ "$(id -u)" = 0 ] || unshared="unshare -Urm"
inside() { exec env -i HOME="$FAR/home" PATH="$FAR/shims:$FAR/bin:$FAR/tools" "$@"; }
mounted() { exec $unshared sh -c 'mount -t tmpfs -o '"$1"' tmpfs "$FAR/home" && exec env -i HOME="$FAR/home" PATH="$FAR/tools" sh -c "$0"' "$2"; }
export FAR=@FAR@
PATH=/usr/bin:/bin
case $name in
gone) echo "Error response from daemon: No such container: gone" >&2; exit 1 ;;
shellless) echo 'OCI runtime exec failed: exec failed: exec: "sh": executable file not found in $PATH: unknown' >&2; exit 126 ;;
homeless) exec env -i PATH="$FAR/tools" "$@" ;;
noexec) mounted noexec "$3" ;;
full) mounted size=4k "$3" ;;
web-0) mounted size=400m "$3" ;;
readonly) mounted ro "$3" ;;
noisy) echo "Welcome! Last login: never"; printf 'prompt> '; inside "$@" ;;
bsd) mkdir -p "$FAR/shims"; printf '#!/bin/sh\necho FreeBSD\n' >"$FAR/shims/uname"; chmod +x "$FAR/shims/uname"; inside "$@" ;;
*) inside "$@" ;;
esac
"#;

/// What a shell finds there.
const TOOLS: [&str; 20] = [
    "cat",
    "chmod",
    "env",
    "head",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "true",
    "uname",
    "wc",
    "echo",
    "dd",
    "stty",
    "id",
];

impl Far {
    /// One with stand-ins for docker and kubectl alone.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let far = Self { directory, sshd: None };
        for name in ["home", "bin", "shims", "sshd", "installed", "tools"] {
            std::fs::create_dir(far.path(name)).expect("a new directory");
        }
        // Nothing else is there: no gzip, above all, which takes long for a program that was built for tests.
        for tool in TOOLS {
            let found = ["/bin", "/usr/bin"].map(|place| Path::new(place).join(tool));
            let found = found.into_iter().find(|path| path.exists()).expect("a tool of every system");
            std::os::unix::fs::symlink(found, far.path("tools").join(tool)).expect("a link");
        }
        let text = STAND_IN.replace("@FAR@", far.directory.path().to_str().expect("UTF-8"));
        for name in ["docker", "kubectl"] {
            far.program(&format!("bin/{name}"), &text);
        }
        far
    }

    /// One with a real sshd too, which `ssh box` reaches with a key of its own.
    pub async fn with_sshd() -> Self {
        let mut far = Self::new();
        for name in ["host", "key"] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(far.path("sshd").join(name));
            assert!(made.status().expect("OpenSSH is there").success());
        }
        let root = rustix::process::geteuid().is_root();
        if root {
            std::fs::create_dir_all("/run/sshd").expect("root may");
        }
        // Somebody else may take the free port first; then it is tried once more.
        let deadline = Instant::now() + GUARD;
        while far.sshd.is_none() {
            assert!(Instant::now() < deadline, "no sshd: {}", far.log());
            far.listen().await;
        }
        far
    }

    async fn listen(&mut self) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let at = self.path("sshd").display().to_string();
        let server = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/key.pub\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
             MaxStartups 100\nLogLevel VERBOSE\nSetEnv PATH={}\n",
            format_args!("{0}/bin:{0}/tools", self.directory.path().display())
        );
        // `refused` has a host key that nobody knows, and `closed` takes no key of ours.
        let client = format!(
            "Host box refused closed\n HostName 127.0.0.1\n Port {port}\nHost *\n IdentitiesOnly yes\n\
             Host box refused\n IdentityFile {at}/key\nHost refused\n UserKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n\
             Host closed\n IdentityFile {at}/host\n\
             Host *\n UserKnownHostsFile {at}/known\n StrictHostKeyChecking accept-new\n"
        );
        std::fs::write(self.path("sshd/server"), server).expect("a file");
        std::fs::write(self.path("sshd/client"), client).expect("a file");
        // OpenSSH takes the home directory from the user database, so its configuration is named.
        self.program("bin/ssh", &format!("#!/bin/sh\nexec /usr/bin/ssh -F {at}/client \"$@\"\n"));
        let mut sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(self.path("sshd/server"))
            .arg("-E")
            .arg(self.path("sshd/log"))
            .env("PATH", self.search_path())
            .stdin(Stdio::null())
            .spawn()
            .expect("sshd is there");
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && sshd.try_wait().expect("a child of ours").is_none() {
            if self.log().contains("Server listening") {
                self.sshd = Some(sshd);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _ = sshd.kill();
        let _ = sshd.wait();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("sshd/log")).unwrap_or_default()
    }

    /// A place in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a program.
    pub fn program(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).expect("our own");
    }

    /// A home directory here, from which it is reached.
    pub fn home(&self) -> Home {
        let mut home = Home::new();
        home.set("PATH", self.search_path());
        home
    }

    /// What `PATH` is to be here, so that it is reached.
    pub fn search_path(&self) -> String {
        format!("{}:{}", self.path("bin").display(), std::env::var("PATH").expect("a PATH"))
    }

    /// The flags that bring the stripped binary to a directory of this machine's own.
    pub fn flags(&self) -> [String; 4] {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        ["--binary".into(), text(brought()), "--remote-dir".into(), text(&self.path("installed"))]
    }

    /// Where the binary is put there.
    pub fn cache(&self) -> PathBuf {
        self.path("installed/codex-exec-server")
    }

    /// The servers that stay there.
    pub fn residents(&self) -> Vec<u32> {
        let mut all = self.processes();
        all.retain(|pid| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains("--own-session")
        });
        // The server below a keeper has the same words.
        let below: Vec<u32> = all.iter().flat_map(|pid| crate::machine::children(*pid)).collect();
        all.retain(|pid| !below.contains(pid));
        all
    }

    /// Processes of programs in its directory.
    pub fn processes(&self) -> Vec<u32> {
        let entries = std::fs::read_dir("/proc").expect("readable");
        let is_here = |pid: &u32| {
            let link = std::fs::read_link(format!("/proc/{pid}/exe"));
            link.is_ok_and(|path| path.starts_with(self.directory.path())) && crate::machine::alive(*pid)
        };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_here).collect()
    }
}

impl Default for Far {
    fn default() -> Self {
        Self::new()
    }
}
