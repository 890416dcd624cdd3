//! The bytes that have arrived: a message being put together, and what is not parsed yet.

use std::future::poll_fn;
use std::io;
use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Room made for the first read after a rest. Chosen for speed.
const FIRST_READ_BYTES: usize = 16 << 10;
/// Largest step by which the buffer grows; what a header claims is never reserved before it comes. Chosen for speed.
const LARGEST_STEP_BYTES: usize = 1 << 20;

/// Layout: `[0, start)` is spent; `[start, start + held)` is the message so far; from `raw` on nothing is
/// parsed. Between the two may lie spent headers and control frames.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
    pub(super) held: usize,
    pub(super) raw: usize,
}

impl Buffer {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0, held: 0, raw: 0 }
    }

    /// What is not parsed yet.
    pub(super) fn unparsed(&self) -> &[u8] {
        &self.bytes[self.raw..]
    }

    /// Reads once; 0 is the end. Cancel-safe: all bytes read are in the buffer.
    pub(super) async fn fill(&mut self, source: &mut (dyn AsyncRead + Send + Unpin)) -> io::Result<usize> {
        self.compact();
        poll_fn(|context| {
            self.make_room();
            let polled = pin!(source.read_buf(&mut self.bytes)).poll(context);
            if polled.is_pending() && self.bytes.is_empty() {
                // An idle connection holds no memory; the allocator hands this block out again cheaply.
                self.bytes = Vec::new();
            }
            polled
        })
        .await
    }

    /// Moves what is still needed to the front, without gaps.
    fn compact(&mut self) {
        if self.held == 0 {
            self.start = self.raw;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.start + self.held, 0);
        }
        if self.raw > self.held {
            let left = self.bytes.len() - self.raw;
            self.bytes.copy_within(self.raw.., self.held);
            self.bytes.truncate(self.held + left);
        }
        self.start = 0;
        self.raw = self.held;
    }

    fn make_room(&mut self) {
        let length = self.bytes.len();
        if self.bytes.capacity() == length {
            self.bytes.reserve_exact(length.clamp(FIRST_READ_BYTES, LARGEST_STEP_BYTES));
        }
    }
}
