//! Looks at a machine's processes through a shell there: nothing but `cat`, `grep` and `ls` is needed.

use std::collections::{BTreeMap, BTreeSet};

use codex_exec_server::client::{Client, ClientError, ProcessEvent};
use codex_exec_server::protocol::process::{EnvPolicy, StartParams, Stream};

/// A soft bound of real-time work from here on is a program's mark, which all of its descendants inherit
/// (`children/src/child_mark.rs`).
const MARKS_FROM: u64 = 1 << 62;
/// Clock ticks of a second, as Linux tells them to programs. Fixed by the system.
const TICKS: f64 = 100.0;
/// What separates the parts of an answer.
const SEPARATOR: &str = "\n=\n";
const PROCESSES: &str = "cat /proc/uptime; echo =; cat /proc/[0-9]*/stat 2>/dev/null; echo =; \
    grep -H '^Max realtime timeout' /proc/[0-9]*/limits 2>/dev/null; echo =; \
    grep -H '^VmRSS' /proc/[0-9]*/status 2>/dev/null; true";

/// One process of the machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OneProcess {
    pub(crate) pid: u32,
    parent: u32,
    /// As `ps` has it: R, S, D, Z, T.
    pub(crate) state: char,
    pub(crate) name: String,
    pub(crate) threads: u32,
    /// On a CPU since its start.
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    mark: Option<u64>,
}

/// All processes at one time.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Seconds since the machine's start.
    pub(crate) uptime: f64,
    processes: BTreeMap<u32, OneProcess>,
}

impl Snapshot {
    /// Takes one.
    ///
    /// # Errors
    /// The connection is lost, or there is no shell.
    pub(crate) async fn take(client: &Client) -> Result<Self, ClientError> {
        Ok(Self::parse(&script(client, PROCESSES).await?))
    }

    fn parse(text: &str) -> Self {
        let mut parts = text.split(SEPARATOR);
        let mut part = || parts.next().unwrap_or_default();
        let uptime = part().split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
        let mut processes: BTreeMap<_, _> =
            part().lines().filter_map(stat).map(|process| (process.pid, process)).collect();
        for (pid, rest) in part().lines().filter_map(of_file) {
            let soft = rest.split_whitespace().nth(3).and_then(|soft| soft.parse::<u64>().ok());
            if let Some(process) = processes.get_mut(&pid) {
                process.mark = soft.filter(|soft| *soft >= MARKS_FROM);
            }
        }
        for (pid, rest) in part().lines().filter_map(of_file) {
            let kib = rest.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
            if let (Some(process), Some(kib)) = (processes.get_mut(&pid), kib) {
                process.resident_bytes = kib << 10;
            }
        }
        Self { uptime, processes }
    }

    /// The process of this id.
    pub(crate) fn get(&self, pid: u32) -> Option<&OneProcess> {
        self.processes.get(&pid)
    }

    /// The processes of the program whose first one is `root`: its descendants, and what bears its mark.
    pub(crate) fn of_program(&self, root: u32) -> Vec<&OneProcess> {
        let mark = self.processes.get(&root).and_then(|process| process.mark);
        let belongs = |process: &OneProcess| {
            let (mut pid, mut seen) = (process.pid, BTreeSet::new());
            (mark.is_some() && process.mark == mark)
                || std::iter::from_fn(|| {
                    let here = pid;
                    pid = self.processes.get(&here)?.parent;
                    seen.insert(here).then_some(here)
                })
                .any(|ancestor| ancestor == root)
        };
        self.processes.values().filter(|process| belongs(process)).collect()
    }
}

/// A line of `/proc/PID/stat`. The name may hold anything, brackets too.
fn stat(line: &str) -> Option<OneProcess> {
    let (pid, rest) = line.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(OneProcess {
        pid: pid.parse().ok()?,
        parent: u32::try_from(field(4)?).ok()?,
        state: rest.chars().next()?,
        name: name.to_owned(),
        threads: u32::try_from(field(20)?).ok()?,
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS,
        resident_bytes: 0,
        mark: None,
    })
}

/// What `grep -H` found in a file of a process.
fn of_file(line: &str) -> Option<(u32, &str)> {
    let (path, rest) = line.split_once(':')?;
    Some((path.strip_prefix("/proc/")?.split('/').next()?.parse().ok()?, rest))
}

/// Where a program listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listening {
    /// As connections from the same machine reach it.
    pub(crate) host: &'static str,
    pub(crate) port: u16,
}

/// The TCP ports that these processes listen on, as far as they can be reached from their machine's own network.
///
/// # Errors
/// The connection is lost, or there is no shell.
pub(crate) async fn listening(client: &Client, pids: &[u32]) -> Result<BTreeSet<Listening>, ClientError> {
    let pids = pids.iter().map(|pid| format!("/proc/{pid}/fd")).collect::<Vec<_>>().join(" ");
    let text = format!(
        "cat /proc/net/tcp; echo =; cat /proc/net/tcp6 2>/dev/null; echo =; ls -l {pids} 2>/dev/null; true"
    );
    Ok(parse_listening(&script(client, &text).await?))
}

fn parse_listening(text: &str) -> BTreeSet<Listening> {
    let mut parts = text.split(SEPARATOR);
    let mut part = || parts.next().unwrap_or_default();
    let (four, six) = (part(), part());
    let sockets: BTreeSet<&str> =
        part().lines().filter_map(|line| line.split_once("socket:[")?.1.strip_suffix(']')).collect();
    let mut found = BTreeSet::new();
    for line in four.lines().chain(six.lines()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
            continue;
        };
        let Some((address, port)) = local.split_once(':') else { continue };
        let host = match address {
            // 0.0.0.0 and 127.0.0.1, as a little-endian machine writes them, and a big-endian one.
            "00000000" | "0100007F" | "7F000001" => "127.0.0.1",
            // Both families, where the system lets one socket serve both.
            "00000000000000000000000000000000" => "localhost",
            "00000000000000000000000001000000" | "00000000000000000000000000000001" => "::1",
            _ => continue,
        };
        if *state == "0A"
            && sockets.contains(inode)
            && let Ok(port) = u16::from_str_radix(port, 16)
        {
            found.insert(Listening { host, port });
        }
    }
    found
}

/// What a shell's script prints there.
async fn script(client: &Client, text: &str) -> Result<String, ClientError> {
    let id = format!("probe-{:08x}", rand::random::<u32>()).as_str().into();
    let argv = ["/bin/sh", "-c", text].map(String::from).to_vec();
    let params =
        StartParams { env_policy: Some(EnvPolicy::inherit_all()), ..StartParams::new(id, argv, "/".into()) };
    let mut process = client.start(params).await?;
    let mut output = Vec::new();
    while let Some(event) = process.next().await {
        match event {
            ProcessEvent::Output { stream: Stream::Stdout, bytes } => output.extend(bytes),
            ProcessEvent::Disconnected { reason } => return Err(ClientError::Lost(reason)),
            ProcessEvent::Closed => break,
            _ => {}
        }
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_its_descendants_and_what_bears_its_mark() {
        let stat = |pid: u32, parent: u32, name: &str| {
            format!("{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 3 0 100 0 0 0\n")
        };
        let stats = [
            stat(10, 1, "sh"),
            stat(11, 10, "a) b ("),
            stat(12, 11, "make"),
            stat(20, 1, "daemon"),
            stat(30, 1, "other"),
        ]
        .concat();
        let mark = |pid: u32, soft: &str| {
            format!("/proc/{pid}/limits:Max realtime timeout      {soft}  unlimited            us\n")
        };
        let marks = [
            mark(10, "4611686018427387907"),
            mark(20, "4611686018427387907"),
            mark(30, "unlimited"),
            mark(12, "1000"),
        ]
        .concat();
        let text = format!("55.25 100.0\n=\n{stats}=\n{marks}=\n/proc/11/status:VmRSS:\t    2048 kB\n");
        let snapshot = Snapshot::parse(&text);
        let pids = |root| snapshot.of_program(root).iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(10), [10, 11, 12, 20]);
        assert_eq!((pids(11), pids(30), pids(99)), (vec![11, 12], vec![30], vec![]));
        let one = snapshot.get(11).unwrap();
        assert_eq!((one.name.as_str(), one.threads, one.resident_bytes), ("a) b (", 3, 2 << 20));
        assert_eq!((snapshot.uptime, one.cpu_seconds, one.state), (55.25, 2.0, 'S'));
    }

    #[test]
    fn ports_are_those_that_the_processes_hold_and_that_can_be_reached() {
        let line = |address: &str, state: &str, inode: u32| {
            format!(
                "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0  0 {inode} 1\n"
            )
        };
        let four = [
            line("0100007F:1F90", "0A", 1),
            line("00000000:0050", "0A", 2),
            line("0100007F:1F91", "01", 3),
            line("0100007F:1F92", "0A", 4),
            line("0200A8C0:1F93", "0A", 5),
        ]
        .concat();
        let six = line("00000000000000000000000000000000:0051", "0A", 6);
        let held: String =
            [1, 2, 3, 5, 6].iter().map(|inode| format!("lrwx 1 u u 0 x 4 -> socket:[{inode}]\n")).collect();
        let found = parse_listening(&format!("head\n{four}=\n{six}=\n{held}"));
        let found: Vec<_> = found.iter().map(|one| (one.host, one.port)).collect();
        assert_eq!(found, [("127.0.0.1", 80), ("127.0.0.1", 8080), ("localhost", 81)]);
    }
}
