//! Messages as encrypted records and back (7.1): sealed in the frame's own buffer, opened where they are assembled.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};

use super::NoiseError;
use crate::frame;
use crate::limits::RelayLimits;

/// Largest plaintext of a record. Fixed by the wire.
const RECORD_BYTES: usize = 60 << 10;
/// Bytes that encryption adds to a record. Fixed by the wire.
const TAG_BYTES: usize = MAX_TAG_LEN;
/// A message's length stands before it. Fixed by the wire.
const PREFIX_BYTES: usize = 4;

/// One direction's key and its counter.
///
/// `ring` encrypts several times as fast as the pure Rust cipher, but leaves the key it holds in freed memory. It is a
/// key of this stream alone; all other copies of it are wiped.
struct Cipher {
    key: LessSafeKey,
    counter: u64,
}

impl Cipher {
    fn new(key: &[u8]) -> Result<Self, NoiseError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| NoiseError::Keys("a wrong size".into()))?;
        Ok(Self { key: LessSafeKey::new(key), counter: 0 })
    }

    /// 4 zero bytes and the counter, 64-bit big-endian.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        // The 32-bit sequence number ends long before.
        self.counter += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts the bytes from `from` on and appends the tag.
    fn seal(&mut self, buffer: &mut Vec<u8>, from: usize) -> Result<(), NoiseError> {
        let nonce = self.nonce();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut buffer[from..]);
        buffer.extend_from_slice(tag.map_err(|_| NoiseError::Record)?.as_ref());
        Ok(())
    }

    /// Decrypts the bytes from `from` on, which end with the tag, and takes the tag off.
    fn open(&mut self, buffer: &mut BytesMut, from: usize) -> Result<(), NoiseError> {
        let nonce = self.nonce();
        let plain = self.key.open_in_place(nonce, Aad::empty(), &mut buffer[from..]);
        let length = plain.map_err(|_| NoiseError::Record)?.len();
        buffer.truncate(from + length);
        Ok(())
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher").field("counter", &self.counter).finish_non_exhaustive()
    }
}

/// Both directions of an open stream.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

impl Channel {
    pub(super) fn new(send: &[u8], receive: &[u8]) -> Result<Self, NoiseError> {
        let sender = Sender { cipher: Cipher::new(send)?, seq: Some(0), sent: 0 };
        let receiver = Receiver {
            cipher: Cipher::new(receive)?,
            expected: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            assembled: BytesMut::new(),
        };
        Ok(Self { sender, receiver })
    }
}

/// Cuts messages into records.
#[derive(Debug)]
pub(crate) struct Sender {
    cipher: Cipher,
    /// The next record's number; none once all are used.
    seq: Option<u32>,
    /// How much of the current message is sent, its prefix included.
    sent: usize,
}

impl Sender {
    /// How many records there were so far.
    pub(crate) fn records(&self) -> u64 {
        self.seq.map_or(1 << 32, u64::from)
    }

    /// The frame with the next record of `message`, and whether the message is whole with it. The same message has to
    /// be given until it is; it is not empty and has fewer than 2³² bytes.
    pub(crate) fn frame(&mut self, stream_id: &str, message: &[u8]) -> Result<(Bytes, bool), NoiseError> {
        let seq = self.seq.ok_or(NoiseError::Exhausted)?;
        let whole = PREFIX_BYTES + message.len();
        let size = (whole - self.sent).min(RECORD_BYTES);
        let mut out = frame::data_head(stream_id, seq, size + TAG_BYTES);
        let start = out.len();
        if self.sent == 0 {
            out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        }
        let from = self.sent.saturating_sub(PREFIX_BYTES);
        out.extend_from_slice(&message[from..self.sent + size - PREFIX_BYTES]);
        self.cipher.seal(&mut out, start)?;
        self.seq = seq.checked_add(1);
        self.sent += size;
        let done = self.sent == whole;
        if done {
            self.sent = 0;
        }
        Ok((out.into(), done))
    }
}

#[cfg(test)]
impl Sender {
    /// The next record with exactly this plaintext.
    pub(super) fn seal_raw(&mut self, record: &mut Vec<u8>) {
        self.cipher.seal(record, 0).unwrap();
    }

    /// Pretends that all numbers before `seq` are used.
    pub(super) fn jump_to(&mut self, seq: u32) {
        self.seq = Some(seq);
    }
}

/// Puts records in order and messages together.
#[derive(Debug)]
pub(crate) struct Receiver {
    cipher: Cipher,
    expected: u64,
    /// Records that came too early, by number.
    held: BTreeMap<u32, Bytes>,
    held_bytes: usize,
    assembled: BytesMut,
}

impl Receiver {
    /// Takes a record; complete messages are then given by [`Self::next_message`]. After an error the stream is to be
    /// closed.
    pub(crate) fn accept(&mut self, seq: u32, record: Bytes, limits: &RelayLimits) -> Result<(), NoiseError> {
        if record.len() > RECORD_BYTES + TAG_BYTES {
            return Err(NoiseError::RecordLength(record.len()));
        }
        let expected = self.expected;
        let ahead = match u64::from(seq).checked_sub(expected) {
            // A duplicate of what was taken or is held.
            None => return Ok(()),
            Some(_) if self.held.contains_key(&seq) => return Ok(()),
            Some(ahead) => ahead,
        };
        if ahead > limits.window.into() {
            return Err(NoiseError::Window { seq, expected });
        }
        if ahead > 0 {
            self.held_bytes += record.len();
            if self.held_bytes > limits.held_bytes {
                return Err(NoiseError::Held { limit: limits.held_bytes });
            }
            // A copy: the record is a piece of a read buffer that may be many times as large.
            self.held.insert(seq, Bytes::copy_from_slice(&record));
            return Ok(());
        }
        self.open(&record)?;
        while let Some(entry) = self.held.first_entry().filter(|held| u64::from(*held.key()) == self.expected)
        {
            let record = entry.remove();
            self.held_bytes -= record.len();
            self.open(&record)?;
        }
        Ok(())
    }

    /// The one copy on the way in: from the websocket's message to where its JSON-RPC message is put together.
    fn open(&mut self, record: &[u8]) -> Result<(), NoiseError> {
        let from = self.assembled.len();
        self.assembled.extend_from_slice(record);
        self.cipher.open(&mut self.assembled, from)?;
        self.expected += 1;
        Ok(())
    }

    /// The next whole message.
    pub(crate) fn next_message(&mut self, limits: &RelayLimits) -> Result<Option<Bytes>, NoiseError> {
        let Some(prefix) = self.assembled.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*prefix) as usize;
        if bytes == 0 || bytes > limits.message_bytes {
            return Err(NoiseError::MessageLength { bytes, limit: limits.message_bytes });
        }
        if self.assembled.len() < PREFIX_BYTES + bytes {
            return Ok(None);
        }
        self.assembled.advance(PREFIX_BYTES);
        let message = self.assembled.split_to(bytes).freeze();
        if self.assembled.is_empty() {
            // Gives the allocation to the message: an idle stream holds none.
            self.assembled = BytesMut::new();
        }
        Ok(Some(message))
    }

    /// How many records were taken, in order.
    pub(crate) fn records(&self) -> u64 {
        self.expected
    }

    /// Bytes of an incomplete message.
    pub(crate) fn assembled(&self) -> usize {
        self.assembled.len()
    }
}
