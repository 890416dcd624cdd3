//! An answer whose content is read while it is sent: only a few blocks of it are in memory at a time.

use std::io;
use std::pin::Pin;

use codex_exec_protocol::{RequestId, bytes, encode, envelope};

/// Blanks of one piece.
const BLANKS: usize = 256 << 10;

/// Bytes that are read while they are sent.
pub trait Content: Send {
    /// How many there are at most.
    fn size(&self) -> u64;

    /// The next block of them, and whether it is the last; each but the last has a multiple of three bytes.
    fn next(&mut self) -> NextBlock<'_>;
}

/// A block of a [`Content`] to come, and whether it is the last; or what the system said.
pub type NextBlock<'c> = Pin<Box<dyn Future<Output = io::Result<(&'c [u8], bool)>> + Send + 'c>>;

/// An answer that holds a [`Content`] as base64. How long it is was told before the content is read. So one that turns out
/// shorter is followed by blanks, which mean nothing in JSON.
pub struct Poured {
    length: usize,
    /// What stands before the content, until it is sent.
    before: Vec<u8>,
    content: Box<dyn Content>,
    next: Next,
    /// What stands behind: blanks may go after its first character.
    behind: Vec<u8>,
    /// Base64 and blanks that are still to come.
    left: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Content,
    Blanks,
    Nothing,
}

impl std::fmt::Debug for Poured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poured").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Poured {
    /// The answer to a request: a result that has `content` as base64 between `before` and `behind`. White space means
    /// nothing after the first character of `behind`.
    pub fn answer(id: &RequestId, before: &'static [u8], content: Box<dyn Content>, behind: &[u8]) -> Self {
        let mut start = Vec::new();
        envelope::before_result(id, &mut start);
        start.extend_from_slice(before);
        let (before, behind) = (start, [behind, envelope::BEHIND_RESULT].concat());
        let left = encode::base64_len(usize::try_from(content.size()).unwrap_or(usize::MAX));
        let length = left.saturating_add(before.len() + behind.len());
        Self { length, before, content, next: Next::Content, behind, left }
    }

    /// Length of the whole message in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether the first piece was made.
    pub fn is_begun(&self) -> bool {
        self.before.is_empty()
    }

    /// Appends the next piece of the message; nothing once that is whole.
    ///
    /// # Errors
    /// What the content's reading ended with. Then the rest of the message can't be had.
    pub async fn piece(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        out.append(&mut self.before);
        match self.next {
            Next::Nothing => return Ok(()),
            Next::Content => {
                let (block, last) = self.content.next().await?;
                bytes::append(block, out);
                self.left = self.left.saturating_sub(encode::base64_len(block.len()));
                if last {
                    out.extend(self.behind.drain(..1));
                    self.next = Next::Blanks;
                }
            }
            Next::Blanks => {
                let blanks = self.left.min(BLANKS);
                out.resize(out.len() + blanks, b' ');
                self.left -= blanks;
            }
        }
        if self.next == Next::Blanks && self.left == 0 {
            out.append(&mut self.behind);
            self.next = Next::Nothing;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Blocks of a content of which `size` bytes were promised.
    struct Blocks {
        size: usize,
        blocks: Vec<Vec<u8>>,
        now: Vec<u8>,
    }

    impl Content for Blocks {
        fn size(&self) -> u64 {
            self.size as u64
        }

        fn next(&mut self) -> NextBlock<'_> {
            self.now = self.blocks.remove(0);
            Box::pin(async { Ok((&self.now[..], self.blocks.is_empty())) })
        }
    }

    fn blocks(size: usize, lengths: &[usize]) -> Box<dyn Content> {
        let blocks = lengths.iter().map(|length| vec![b'z'; *length]).collect();
        Box::new(Blocks { size, blocks, now: Vec::new() })
    }

    #[tokio::test]
    async fn the_promised_length_holds_whatever_comes() {
        for (size, lengths) in [
            (10, &[3, 6, 1][..]),
            (9, &[9]),
            (10, &[3, 2]),
            (600_000, &[3, 0]),
            (600_000, &[300_000, 300_000]),
            (4, &[0]),
        ] {
            let id = RequestId::Text("an \"id\"".into());
            let mut poured = Poured::answer(&id, b"{\"dataBase64\":\"", blocks(size, lengths), b"\"}");
            let (mut message, length) = (Vec::new(), poured.length());
            loop {
                let before = message.len();
                poured.piece(&mut message).await.unwrap();
                if message.len() == before {
                    break;
                }
            }
            assert_eq!(message.len(), length, "{size} {lengths:?}");
            let mut base64 = Vec::new();
            bytes::append(&vec![b'z'; lengths.iter().sum()], &mut base64);
            let message: Value = serde_json::from_slice(&message).unwrap();
            let data = String::from_utf8(base64).unwrap();
            assert_eq!(message, json!({"id": "an \"id\"", "result": {"dataBase64": data}}));
        }
    }
}
