//! What a server writes down of a program or a session for the next one.
//!
//! Each entry is one byte for its kind, followed by JSON. A build adds fields and gives those that are missing a default, and passes over
//! those that it doesn't know; the meaning of one never changes. So a server reads what an older or a newer one wrote. There is no
//! secret among them: of a session's id only its hash.

use codex_exec_protocol::process::LimitsEnforced;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most bytes of a program's arguments that are kept, for who lists programs. A safeguard, far from any real use.
const MOST_ARGUMENTS: usize = 16 << 10;

/// What an entry is about: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A [`SessionRecord`].
    Session,
    /// A [`ProcessRecord`], with the program's output: stdout and stderr, or its terminal.
    Process,
    /// The write end of a program's stdin.
    Stdin,
    /// A [`NurseryRecord`], with its memory.
    Nursery,
    /// The memory of a log that has outgrown the nursery.
    Memory,
}

impl Kind {
    const ALL: [(Self, u8); 5] = [
        (Self::Session, b's'),
        (Self::Process, b'p'),
        (Self::Stdin, b'i'),
        (Self::Nursery, b'n'),
        (Self::Memory, b'm'),
    ];

    const fn byte(self) -> u8 {
        match self {
            Self::Session => b's',
            Self::Process => b'p',
            Self::Stdin => b'i',
            Self::Nursery => b'n',
            Self::Memory => b'm',
        }
    }

    /// What these bytes are about; none for what this build doesn't know.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let first = bytes.first()?;
        Self::ALL.iter().find_map(|(kind, byte)| (byte == first).then_some(*kind))
    }
}

/// A session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SessionRecord {
    /// The SHA-256 of its id, in hex.
    pub(crate) hash: String,
    /// Whose it is, in hex; none where all connections are one owner's.
    pub(crate) owner: Option<String>,
    /// Its place in the order in which sessions were made.
    pub(crate) number: u64,
    /// How long it lives without a connection, in milliseconds.
    pub(crate) detached_ms: u64,
    /// Its client has asked for that time.
    pub(crate) asked: bool,
}

/// A program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessRecord {
    /// The hash of its session's id.
    pub(crate) session: String,
    /// The client's id for it.
    pub(crate) id: String,
    /// Its place in the order of the session's starts.
    pub(crate) number: u64,
    /// Its process.
    pub(crate) pid: u32,
    /// Its arguments, cut where they are very long.
    pub(crate) argv: Vec<String>,
    pub(crate) tty: bool,
    /// A real terminal shows it, and answers for itself.
    pub(crate) real_terminal: bool,
    pub(crate) pull_only: bool,
    pub(crate) sandboxed: bool,
    pub(crate) leaves_names: bool,
    /// Its network was a filtering proxy of the server's.
    pub(crate) proxied: bool,
    pub(crate) enforced: Option<LimitsEnforced>,
    /// When it was started, in milliseconds of the boot clock.
    pub(crate) started: u64,
    /// When its time is up, likewise.
    pub(crate) timeout: Option<u64>,
    /// How long it may print nothing, in milliseconds.
    pub(crate) idle_timeout_ms: Option<u64>,
    /// It was started with a pipe for its stdin, or a terminal.
    pub(crate) takes_input: bool,
    /// The entry of its stdin.
    pub(crate) stdin: Option<u64>,
    /// The entry of the memory that its log is in, and where in there it begins.
    pub(crate) memory: Option<u64>,
    pub(crate) memory_from: u64,
    pub(crate) memory_size: u64,
}

/// The memory that young programs share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NurseryRecord {
    /// Bytes that each has.
    pub(crate) slot_bytes: u64,
}

/// An entry's bytes.
pub(crate) fn write(kind: Kind, record: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![kind.byte()];
    // Nothing in a record can fail to be written.
    bytes.extend(serde_json::to_vec(record).unwrap_or_default());
    bytes
}

/// What an entry says.
///
/// # Errors
/// When it is none of this kind that this build can read.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes.get(1..).unwrap_or_default())
}

/// What is kept of a session's id, in hex.
pub(crate) fn session_hash(id: &str) -> String {
    hex::encode(Sha256::digest(id))
}

/// A program's arguments as they are kept.
pub(crate) fn arguments(argv: &[String]) -> Vec<String> {
    let mut left = MOST_ARGUMENTS;
    let mut kept = Vec::new();
    for argument in argv {
        let cut = argument.floor_char_boundary(left.min(argument.len()));
        kept.push(argument.get(..cut).unwrap_or_default().to_owned());
        left -= cut;
        if left == 0 || cut < argument.len() {
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn process() -> impl Strategy<Value = ProcessRecord> {
        (
            "[a-f0-9]{64}",
            ".{0,20}",
            any::<u64>(),
            proptest::collection::vec(".{0,10}", 0..4),
            any::<[bool; 6]>(),
        )
            .prop_flat_map(|(session, id, number, argv, flags)| {
                (any::<[u64; 3]>(), any::<[Option<u64>; 4]>()).prop_map(move |(numbers, options)| {
                    ProcessRecord {
                        session: session.clone(),
                        id: id.clone(),
                        number,
                        argv: argv.clone(),
                        tty: flags[0],
                        real_terminal: flags[1],
                        pull_only: flags[2],
                        sandboxed: flags[3],
                        proxied: flags[4],
                        takes_input: flags[5],
                        started: numbers[0],
                        memory_from: numbers[1],
                        memory_size: numbers[2],
                        timeout: options[0],
                        idle_timeout_ms: options[1],
                        stdin: options[2],
                        memory: options[3],
                        ..ProcessRecord::default()
                    }
                })
            })
    }

    fn fields(bytes: &[u8]) -> Map<String, Value> {
        read(bytes).expect("an object")
    }

    proptest! {
        #[test]
        fn a_record_is_read_by_builds_with_more_fields_and_with_fewer(record in process(), dropped in 0_usize..19) {
            let bytes = write(Kind::Process, &record);
            prop_assert_eq!(Kind::of(&bytes), Some(Kind::Process));
            prop_assert_eq!(&read::<ProcessRecord>(&bytes).expect("its own"), &record);
            // A newer build knows more.
            let mut more = fields(&bytes);
            more.insert("fromTheFuture".into(), json!({"a": [1, null, "x"]}));
            let newer = write(Kind::Process, &more);
            prop_assert_eq!(&read::<ProcessRecord>(&newer).expect("a newer one's"), &record);
            // An older one wrote less: what is missing has its default, and nothing else changes.
            let mut fewer = fields(&bytes);
            let name = fewer.keys().nth(dropped % fewer.len()).expect("a field").clone();
            fewer.remove(&name);
            let older: ProcessRecord = read(&write(Kind::Process, &fewer)).expect("an older one's");
            let mut expected = fields(&bytes);
            let defaults = fields(&write(Kind::Process, &ProcessRecord::default()));
            expected.insert(name.clone(), defaults[&name].clone());
            prop_assert_eq!(fields(&write(Kind::Process, &older)), expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Kind::of(&bytes), read::<ProcessRecord>(&bytes).is_ok(), read::<SessionRecord>(&bytes).is_ok());
        }
    }

    #[test]
    fn very_long_arguments_are_cut_at_a_character() {
        let long = "ä".repeat(MOST_ARGUMENTS);
        let kept = arguments(&["sh".into(), long, "more".into()]);
        assert_eq!((kept.len(), kept[0].as_str()), (2, "sh"));
        assert!(kept[1].len() <= MOST_ARGUMENTS - 2 && kept[1].chars().all(|c| c == 'ä'));
        assert_eq!(arguments(&["a".into(), String::new(), "b".into()]).len(), 3);
    }
}
