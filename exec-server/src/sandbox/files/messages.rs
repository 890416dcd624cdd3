//! What a server and its helper say to each other.

use serde::{Deserialize, Serialize};

use crate::Limits;

/// A request to a helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked<'a> {
    /// `fs/open` for a file to be handed over; its size is the answer.
    pub(super) method: &'a str,
    pub(super) bounds: Bounds,
    /// The method's params without their sandbox, or what is to be opened; in JSON, as on the outer wire, whose words these are.
    pub(super) params: &'a str,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// Names may come to exist by it.
    pub(super) creates: bool,
    /// Doing it twice is something else than doing it once.
    pub(super) changes: bool,
}

/// A helper's answer, in JSON: a result of the method, or an error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told<T> {
    Done(T),
    Failed(T),
}

/// The server's bounds that its helper keeps.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Bounds {
    walk_depth: u64,
    walk_directories: u64,
    walk_entries: u64,
    walk_result_bytes: usize,
    message_bytes: usize,
    capability_file_bytes: usize,
    capability_root_bytes: usize,
}

impl Bounds {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            walk_depth: limits.files.walk_depth,
            walk_directories: limits.files.walk_directories,
            walk_entries: limits.files.walk_entries,
            walk_result_bytes: limits.files.walk_result_bytes,
            message_bytes: limits.transport.message_bytes,
            capability_file_bytes: limits.discovery.capability_file_bytes,
            capability_root_bytes: limits.discovery.capability_root_bytes,
        }
    }

    pub(super) fn limits(self) -> Limits {
        Limits::default().with(|limits| {
            limits.files.walk_depth = self.walk_depth;
            limits.files.walk_directories = self.walk_directories;
            limits.files.walk_entries = self.walk_entries;
            limits.files.walk_result_bytes = self.walk_result_bytes;
            limits.transport.message_bytes = self.message_bytes;
            limits.discovery.capability_file_bytes = self.capability_file_bytes;
            limits.discovery.capability_root_bytes = self.capability_root_bytes;
        })
    }
}
