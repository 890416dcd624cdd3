//! The program that is brought: what it is, and its bytes as they are sent.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{Context, SHA256};

use crate::error::BringError;

/// A larger file is no program of ours. A safeguard, far from any real use.
const LARGEST: u64 = 1 << 30;

/// A program for Linux, as a file of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    path: PathBuf,
    /// SHA-256 of the file, in hex.
    pub(crate) hash: String,
    /// In bytes.
    pub(crate) size: u64,
    /// What it is built for, as `uname -m` says it.
    pub(crate) machine: &'static str,
}

impl Payload {
    /// Looks at the file. Blocks.
    pub(crate) fn read(path: &Path) -> Result<Self, BringError> {
        let unread =
            |cause: io::Error| BringError::Binary { path: path.to_owned(), problem: cause.to_string() };
        let wrong = |problem: &str| BringError::Binary { path: path.to_owned(), problem: problem.into() };
        let mut file = File::open(path).map_err(unread)?;
        let mut hash = Context::new(&SHA256);
        let mut size = 0;
        let mut machine = None;
        let mut block = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut block).map_err(unread)?;
            let part = block.get(..count).unwrap_or_default();
            if size == 0 {
                machine = Some(machine_of(part).ok_or_else(|| wrong("it is no program for Linux (ELF)"))?);
            }
            if part.is_empty() {
                break;
            }
            hash.update(part);
            size += part.len() as u64;
            if size > LARGEST {
                return Err(wrong("it has more than 1 GiB"));
            }
        }
        let machine = machine.ok_or_else(|| wrong("it is empty"))?;
        Ok(Self { path: path.to_owned(), hash: hex::encode(hash.finish()), size, machine })
    }

    /// The file's bytes, compressed if the other side can undo that. Blocks.
    pub(crate) fn bytes(&self, compressed: bool) -> Result<Vec<u8>, BringError> {
        let read = || {
            let mut file = File::open(&self.path)?;
            if compressed {
                // Sending costs more than compressing does only on slow links, where a better level gains a tenth.
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                io::copy(&mut file, &mut encoder)?;
                encoder.flush()?;
                return encoder.finish();
            }
            let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0));
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|cause| BringError::Binary { path: self.path.clone(), problem: cause.to_string() })
    }

    /// Whether a machine that calls itself this in `uname -m` can run it.
    pub(crate) fn runs_on(&self, machine: &str) -> bool {
        let same = match machine {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        };
        // A 64-bit kernel may have a 32-bit system, which is found out when the program is tried.
        same == self.machine
    }
}

/// What an ELF file is built for: its `e_machine`, of a 64-bit little-endian file.
fn machine_of(start: &[u8]) -> Option<&'static str> {
    let head: &[u8; 20] = start.first_chunk()?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    match u16::from_le_bytes([head[18], head[19]]) {
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        243 => Some("riscv64"),
        21 => Some("ppc64le"),
        258 => Some("loongarch64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_file_is_described_and_packed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("small");
        let mut text = b"\x7fELF\x02\x01\x01".to_vec();
        text.resize(18, 0);
        text.extend([183, 0]);
        text.extend([7; 5000]);
        std::fs::write(&path, &text).unwrap();
        let payload = Payload::read(&path).unwrap();
        assert_eq!((payload.machine, payload.size), ("aarch64", 5020));
        assert!(payload.runs_on("arm64") && payload.runs_on("aarch64") && !payload.runs_on("x86_64"));
        assert_eq!(payload.hash, hex::encode(ring::digest::digest(&SHA256, &text)));
        let packed = payload.bytes(true).unwrap();
        assert!(packed.len() < 500 && payload.bytes(false).unwrap() == text);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, text);
    }

    #[test]
    fn what_is_no_program_is_refused_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in
            [("empty", &b""[..]), ("script", b"#!/bin/sh\nexit 0 # long enough"), ("short", b"\x7fELF")]
        {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            let error = Payload::read(&path).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("no program for Linux"), "{error}");
        }
        let error = Payload::read(&directory.path().join("nosuch")).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
