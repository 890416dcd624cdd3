//! Writes messages as a server's websocket frames, payloads straight from where they were read to.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::{BINARY, CLOSE, CONTROL_BYTES, PING, PONG};
use crate::outlet::{Done, Next};

/// Frames put into one system call at most.
const BATCH_FRAMES: usize = 32;
/// Bytes put into one batch at most, but for its last frame.
const BATCH_BYTES: usize = 256 << 10;
const HEAD_BYTES: usize = 10;

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
    fn new(opcode: u8, payload: Bytes, counted: Option<(usize, usize)>) -> Self {
        let mut head = [0; HEAD_BYTES];
        head[0] = 0x80 | opcode;
        let to = match payload.len() {
            length @ ..=125 => {
                head[1] = length as u8;
                2
            }
            length @ ..=0xffff => {
                head[1] = 126;
                head[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                4
            }
            length => {
                head[1] = 127;
                head[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                10
            }
        };
        Self { head, from: 0, to, payload, counted }
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
                self.append(Frame::new(BINARY, payload, counted));
            }
            Next::Pong(payload) => self.append(Frame::new(PONG, payload, None)),
            Next::Ping => self.append(Frame::new(PING, Bytes::new(), None)),
        }
    }

    /// Adds a close frame.
    pub fn add_close(&mut self, close: Option<(u16, &str)>) {
        let payload = close.map_or_else(Bytes::new, |(code, reason)| {
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend_from_slice(reason.as_bytes());
            payload.truncate(CONTROL_BYTES);
            payload.into()
        });
        self.append(Frame::new(CLOSE, payload, None));
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
