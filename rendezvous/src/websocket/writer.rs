//! Writes messages as a server's websocket frames, payloads straight from where they were read to.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use codex_websocket::{HEAD_BYTES, Opcode, close, head_size, write_head};

use crate::outlet::{Done, Next};

/// Frames put into one system call at most. Chosen for speed.
const BATCH_FRAMES: usize = 32;
/// Bytes put into one batch at most, but for its last frame. Chosen for speed.
const BATCH_BYTES: usize = 256 << 10;

/// Frames on their way out; a [`Buf`] for vectored writes.
#[derive(Debug, Default)]
pub struct Batch {
    frames: VecDeque<Frame>,
    bytes: usize,
    done: Done,
}

#[derive(Debug)]
struct Frame {
    head: [u8; HEAD_BYTES],
    /// What of `head` is still to be written.
    from: u8,
    to: u8,
    payload: Bytes,
    /// The message's length, and its share of its queue's bound.
    counted: Option<(usize, usize)>,
}

impl Frame {
    fn new(opcode: Opcode, payload: Bytes, counted: Option<(usize, usize)>) -> Self {
        let mut head = [0; HEAD_BYTES];
        let to = head_size(payload.len());
        write_head(&mut head[..to], opcode, true, payload.len());
        Self { head, from: 0, to: to as u8, payload, counted }
    }

    fn head(&self) -> &[u8] {
        &self.head[usize::from(self.from)..usize::from(self.to)]
    }

    fn remaining(&self) -> usize {
        self.head().len() + self.payload.len()
    }
}

impl Batch {
    /// Adds what an outlet gave.
    pub fn add(&mut self, next: Next) {
        match next {
            Next::Frame(queued) => {
                let (payload, weight) = queued.into_parts();
                let counted = Some((payload.len(), weight));
                self.append(Frame::new(Opcode::Binary, payload, counted));
            }
            Next::Pong(payload) => self.append(Frame::new(Opcode::Pong, payload, None)),
            Next::Ping => self.append(Frame::new(Opcode::Ping, Bytes::new(), None)),
        }
    }

    /// Adds a close frame.
    pub fn add_close(&mut self, close: Option<(u16, &str)>) {
        let payload = close.map_or_else(Vec::new, |(code, reason)| close::payload(code, reason));
        self.append(Frame::new(Opcode::Close, payload.into(), None));
    }

    fn append(&mut self, frame: Frame) {
        self.bytes += frame.remaining();
        self.frames.push_back(frame);
    }

    /// Drops what has not begun to go out, so that a close frame can follow at a frame's border.
    pub fn keep_begun(&mut self) {
        while self.frames.len() > 1 || self.frames.front().is_some_and(|frame| frame.from == 0) {
            let Some(dropped) = self.frames.pop_back() else { return };
            self.bytes -= dropped.remaining();
        }
    }

    /// Whether another frame would go out with these.
    pub fn has_room(&self) -> bool {
        self.frames.len() < BATCH_FRAMES && self.bytes < BATCH_BYTES
    }

    /// The messages that went out since this was asked last.
    pub fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }

    /// Gives back the memory of busier days.
    pub fn shrink(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], |frame| match frame.head() {
            [] => &frame.payload,
            head => head,
        })
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.frames.iter().flat_map(|frame| [frame.head(), &frame.payload]);
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(frame) = self.frames.front_mut() {
            let head = frame.head().len().min(count);
            frame.from += head as u8;
            count -= head;
            let payload = frame.payload.len().min(count);
            frame.payload.advance(payload);
            count -= payload;
            if frame.remaining() > 0 {
                break;
            }
            if let Some((bytes, weight)) = frame.counted {
                self.done.add(bytes, weight);
            }
            self.frames.pop_front();
        }
    }
}
