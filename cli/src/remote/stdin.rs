//! What stdin is for in remote mode: one line with a bearer, and its end as the wish to stop (11).
//!
//! Frames with credentials come there as well from newer programs. Their form is not known, so the first byte of one is refused.

use std::io::{BufRead, Read};

use codex_secret::Secret;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// The bearer's line, its end included, is shorter than this. Fixed by the wire.
const LINE_BYTES: u64 = 16 << 10;

/// Why a bearer can't be read from stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BearerError {
    /// Too long, or the input ended within it.
    #[error("expected a newline-terminated registration bearer of at most 16 KiB")]
    Line,
    /// Empty, or with characters that no bearer has.
    #[error("invalid registration bearer")]
    Invalid,
    /// No frame came.
    #[error("exec-server executor credential pipe closed")]
    NoFrame,
    /// Something came where a frame is expected.
    #[error("invalid exec-server executor credential frame")]
    Frame(#[source] UnknownForm),
}

/// Why a frame is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this program does not know the form of such frames; sign in with `codex login`, or give --registration-bearer-stdin or \
     --chatgpt-token-stdin instead of --executor-credential-stdin"
)]
pub(super) struct UnknownForm;

/// What stdin begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// One line with a bearer.
    Bearer,
    /// Frames with credentials.
    Frames,
}

/// A thread that reads stdin. It may outlive everything, since a read can't be interrupted.
pub(super) struct Stdin {
    bearer: Option<oneshot::Receiver<Result<Secret, BearerError>>>,
    closed: Option<oneshot::Receiver<()>>,
}

impl Stdin {
    /// Starts to read, if there is a reason to.
    pub(super) fn open(first: Option<First>, until_closed: bool) -> Self {
        if first.is_none() && !until_closed {
            return Self { bearer: None, closed: None };
        }
        let (found, bearer_there) = oneshot::channel();
        let (closed, closed_there) = oneshot::channel();
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            if let Some(first) = first {
                // Nobody waits any more: the program is ending.
                let _ = found.send(match first {
                    First::Bearer => read_bearer(&mut input),
                    First::Frames => Err(refused_frame(&mut input)),
                });
            }
            if until_closed {
                let _ = std::io::copy(&mut input, &mut std::io::sink());
                let _ = closed.send(());
            }
        });
        Self { bearer: first.map(|_| bearer_there), closed: until_closed.then_some(closed_there) }
    }

    /// The bearer, once it has come.
    pub(super) async fn bearer(&mut self) -> Result<Secret, BearerError> {
        match self.bearer.take() {
            Some(bearer) => bearer.await.unwrap_or(Err(BearerError::Line)),
            None => Err(BearerError::Line),
        }
    }

    /// Waits until stdin is closed; for ever, if that means nothing.
    pub(super) async fn closed(&mut self) {
        match &mut self.closed {
            // An error would mean that the reading thread is gone, and with it stdin.
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    }
}

fn refused_frame(input: &mut impl BufRead) -> BearerError {
    match input.fill_buf() {
        Ok([]) | Err(_) => BearerError::NoFrame,
        Ok(_) => BearerError::Frame(UnknownForm),
    }
}

fn read_bearer(input: &mut impl BufRead) -> Result<Secret, BearerError> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES as usize));
    input.take(LINE_BYTES).read_until(b'\n', &mut line).map_err(|_| BearerError::Line)?;
    let Some((b'\n', bearer)) = line.split_last() else { return Err(BearerError::Line) };
    let text = std::str::from_utf8(bearer).map_err(|_| BearerError::Invalid)?;
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(BearerError::Invalid);
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_one_line_of_printable_text() {
        let longest = "x".repeat(LINE_BYTES as usize - 1);
        let cases: [(String, Result<&str, BearerError>); 9] = [
            ("token\n".into(), Ok("token")),
            ("token\nmore".into(), Ok("token")),
            (format!("{longest}\n"), Ok(&longest)),
            (format!("{longest}x\n"), Err(BearerError::Line)),
            ("token".into(), Err(BearerError::Line)),
            (String::new(), Err(BearerError::Line)),
            ("\n".into(), Err(BearerError::Invalid)),
            ("token\r\n".into(), Err(BearerError::Invalid)),
            ("to ken\n".into(), Err(BearerError::Invalid)),
        ];
        for (input, expected) in cases {
            let got = read_bearer(&mut input.as_bytes());
            assert_eq!(got.as_ref().map(Secret::expose), expected.as_ref().copied(), "{:.20}", input);
        }
    }
}
