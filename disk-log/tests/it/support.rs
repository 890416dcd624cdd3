//! A store in a directory of its own, and output to fill it with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_disk_log::{Bounds, From, Kind, LogId, LogWriter, Piece, Position, Record, Store};
use tempfile::TempDir;

/// Bounds that no test reaches by accident, but for the segments, of which there are to be several.
pub(crate) const BOUNDS: Bounds = Bounds {
    log_bytes: 1 << 30,
    segment_bytes: 1 << 10,
    all_bytes: 1 << 30,
    kept: Duration::from_secs(1000),
};

pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn store(&self, bounds: Bounds) -> Store {
        Store::open(&self.path(), bounds).expect("a store")
    }

    /// The segments of a log, in order.
    pub(crate) fn segments(&self, log: LogId) -> Vec<PathBuf> {
        let place = ["open", "ended"].map(|place| self.path().join(place).join(log.to_string()));
        let place = place.into_iter().find(|place| place.is_dir()).expect("the log");
        let entries = std::fs::read_dir(place).expect("files").map(|entry| entry.expect("a file").path());
        let mut segments: Vec<_> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
        segments.sort();
        segments
    }
}

pub(crate) type Output = (Kind, Vec<u8>);

pub(crate) fn append(log: &mut LogWriter, output: &[Output]) {
    let pieces: Vec<_> =
        output.iter().map(|(kind, content)| Piece { kind: *kind, time: 5, content }).collect();
    log.append(&pieces).expect("appended");
}

/// `count` pieces of output that tell themselves apart.
pub(crate) fn numbered(count: usize) -> Vec<Output> {
    (0..count).map(|number| (Kind::Stdout, format!("line {number}\n").into_bytes())).collect()
}

/// Everything that can be read, in pages of `most` bytes.
pub(crate) fn read_all(store: &Store, log: LogId, most: u64) -> Vec<Record> {
    let reader = store.reader(log).expect("a reader");
    let (mut all, mut next) = (Vec::new(), Position::START);
    loop {
        let page = reader.page(From::Seq(next.seq), most).expect("a page");
        all.extend(page.records);
        if page.at_end {
            return all;
        }
        assert!(page.next > next, "a page that leads nowhere: {next:?}");
        next = page.next;
    }
}

pub(crate) fn outputs(records: &[Record]) -> Vec<Output> {
    let output = records.iter().filter(|record| record.head.kind.is_output());
    output.map(|record| (record.head.kind, record.content.clone())).collect()
}

pub(crate) fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).expect("a segment");
    bytes[bit / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).expect("a damaged segment");
}
