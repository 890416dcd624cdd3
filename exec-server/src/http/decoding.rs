//! Unpacks the bodies of peers that compress (21.2): gzip and zstd, a piece at a time.

use std::fmt;
use std::io::{self, Write as _};

use bytes::{Buf as _, Bytes};
use flate2::write::MultiGzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// What we ask for where the client asks for nothing of its own.
pub(super) const ACCEPTED: HeaderValue = HeaderValue::from_static("zstd,gzip");

/// The released words for a body that can't be unpacked.
pub(super) const BROKEN: &str = "error decoding response body";

/// What comes out of zstd in one go. Chosen for speed.
const PIECE_BYTES: usize = 64 << 10;

/// The largest window of a zstd body: 2^23 bytes, the most that RFC 9659 allows over HTTP. It is memory that a body takes.
const WINDOW_LOG: u32 = 23;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// The coding that the headers tell of, if it is one that we undo. Any other spelling, and more than one coding, is left
    /// as it is, as released servers do.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        match (values.next()?.as_bytes(), values.next()) {
            (b"gzip", None) => Some(Self::Gzip),
            (b"zstd", None) => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A body can't be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Unpacks a body. However small it is packed, no more than a piece of it is in memory.
pub(super) struct Unpacker {
    inner: Inner,
    /// What arrived and is not unpacked yet.
    packed: Bytes,
    /// Nothing has arrived so far: an empty body is not packed at all.
    untouched: bool,
}

enum Inner {
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

struct Gzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    /// The body turned out to be broken behind a piece that was given.
    is_broken: bool,
}

struct Zstd {
    decoder: Decoder<'static>,
    /// Between two frames.
    is_whole: bool,
    /// The last call filled its piece, so there may be more.
    is_full: bool,
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").field("packed", &self.packed.len()).finish_non_exhaustive()
    }
}

impl Unpacker {
    /// For a body of this coding.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn new(coding: Coding) -> Result<Self, Broken> {
        let inner = match coding {
            Coding::Gzip => {
                let decoder = MultiGzDecoder::new(Vec::new());
                Inner::Gzip(Box::new(Gzip { decoder, is_broken: false }))
            }
            Coding::Zstd => {
                let mut decoder = Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
                Inner::Zstd(Box::new(Zstd { decoder, is_whole: true, is_full: false }))
            }
        };
        Ok(Self { inner, packed: Bytes::new(), untouched: true })
    }

    /// Takes what arrived. To be called once [`Self::next`] has given everything before.
    pub(super) fn take(&mut self, packed: Bytes) {
        self.untouched &= packed.is_empty();
        self.packed = packed;
    }

    /// The next piece of what has arrived, never empty; none once more has to arrive.
    ///
    /// # Errors
    /// The body is not packed as its headers say.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let piece = match &mut self.inner {
            Inner::Gzip(gzip) => gzip.piece(&mut self.packed)?,
            Inner::Zstd(zstd) => zstd.piece(&mut self.packed)?,
        };
        Ok((!piece.is_empty()).then(|| piece.into()))
    }

    /// Whether the body may end where it does.
    ///
    /// # Errors
    /// It was cut off, or its checksum is wrong.
    pub(super) fn finish(&mut self) -> Result<(), Broken> {
        match &mut self.inner {
            _ if self.untouched => Ok(()),
            Inner::Gzip(gzip) if gzip.is_broken => Err(Broken),
            Inner::Gzip(gzip) => Ok(gzip.decoder.try_finish()?),
            Inner::Zstd(zstd) if zstd.is_whole => Ok(()),
            Inner::Zstd(_) => Err(Broken),
        }
    }
}

impl Gzip {
    /// Each write unpacks one buffer of the library's at most, 32 KiB, and hands over what it had unpacked before: a write
    /// that fails may have done that.
    fn piece(&mut self, packed: &mut Bytes) -> Result<Vec<u8>, Broken> {
        while !packed.is_empty() && !self.is_broken && self.decoder.get_ref().is_empty() {
            self.is_broken = self.advance(packed).is_err();
        }
        let piece = std::mem::take(self.decoder.get_mut());
        if self.is_broken && piece.is_empty() { Err(Broken) } else { Ok(piece) }
    }

    fn advance(&mut self, packed: &mut Bytes) -> Result<(), Broken> {
        let taken = self.decoder.write(packed)?;
        if taken == 0 {
            return Err(Broken);
        }
        packed.advance(taken);
        if packed.is_empty() {
            self.decoder.flush()?;
        }
        Ok(())
    }
}

impl Zstd {
    fn piece(&mut self, packed: &mut Bytes) -> Result<Vec<u8>, Broken> {
        let mut piece = Vec::new();
        while piece.is_empty() && (self.is_full || !packed.is_empty()) {
            piece.reserve_exact(PIECE_BYTES);
            let mut input = InBuffer::around(packed);
            let mut output = OutBuffer::around(&mut piece);
            // How much more it would like; nothing at the end of a frame.
            self.is_whole = self.decoder.run(&mut input, &mut output)? == 0;
            let taken = input.pos();
            packed.advance(taken);
            self.is_full = !self.is_whole && piece.len() == piece.capacity();
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn packed(coding: Coding, text: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => gzip(text),
            Coding::Zstd => zstd::bulk::compress(text, 3).unwrap(),
        }
    }

    /// What comes out of a body that arrives in chunks of this size, and the longest piece.
    fn unpacked(coding: Coding, body: &[u8], chunk: usize) -> (Vec<u8>, usize, Result<(), Broken>) {
        let mut unpacker = Unpacker::new(coding).unwrap();
        let (mut text, mut longest) = (Vec::new(), 0);
        for chunk in body.chunks(chunk) {
            unpacker.take(Bytes::copy_from_slice(chunk));
            loop {
                match unpacker.next() {
                    Ok(None) => break,
                    Ok(Some(piece)) => {
                        assert!(!piece.is_empty());
                        longest = longest.max(piece.len());
                        text.extend_from_slice(&piece);
                    }
                    Err(broken) => return (text, longest, Err(broken)),
                }
            }
        }
        (text, longest, unpacker.finish())
    }

    #[test]
    fn only_one_coding_in_the_right_spelling_is_undone() {
        let coding = |values: &[&'static str]| {
            let header = |value: &&'static str| (CONTENT_ENCODING, HeaderValue::from_static(value));
            Coding::of(&HeaderMap::from_iter(values.iter().map(header)))
        };
        assert_eq!((coding(&["gzip"]), coding(&["zstd"])), (Some(Coding::Gzip), Some(Coding::Zstd)));
        for other in [
            &[][..],
            &["x-gzip"],
            &["GZIP"],
            &["deflate"],
            &["br"],
            &["identity"],
            &["gzip, gzip"],
            &["gzip,zstd"],
            &["gzip "],
            &[""],
        ] {
            assert_eq!(coding(other), None, "{other:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        twice.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(Coding::of(&twice), None);
    }

    #[test]
    fn a_body_that_unpacks_to_a_thousand_times_its_size_comes_in_small_pieces() {
        let text = vec![b'x'; 20_000_000];
        for coding in [Coding::Gzip, Coding::Zstd] {
            let body = packed(coding, &text);
            assert!(body.len() < 30_000);
            for chunk in [body.len(), 7] {
                let (unpacked, longest, end) = unpacked(coding, &body, chunk);
                assert!(unpacked == text && end == Ok(()), "{coding:?}");
                assert!(longest <= 128 << 10, "{coding:?}: a piece of {longest} bytes");
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_no_such_body_is_broken_and_an_empty_one_is_fine() {
        // Several of the blocks of 128 KiB that zstd unpacks as a whole.
        let text: Vec<u8> = (0..400_000_u32).map(|n| (n.wrapping_mul(n) / 7 % 251) as u8).collect();
        for coding in [Coding::Gzip, Coding::Zstd] {
            assert_eq!(unpacked(coding, b"", 1), (Vec::new(), 0, Ok(())));
            let body = packed(coding, &text);
            for length in [1, 3, 9, 11, body.len() / 2, body.len() - 1] {
                let (part, _, end) = unpacked(coding, &body[..length], 1000);
                assert!(text.starts_with(&part) && end == Err(Broken), "{coding:?} {length}");
            }
            assert!(!unpacked(coding, &body[..body.len() / 2], 1000).0.is_empty(), "what could be unpacked");
            assert_eq!(unpacked(coding, b"not packed at all, but long enough", 1000).2, Err(Broken));
            let mut behind = body.clone();
            behind.extend(b"something else that is long enough");
            let (all, _, end) = unpacked(coding, &behind, 1000);
            assert_eq!((all.len(), end), (text.len(), Err(Broken)), "{coding:?}");
            assert!(all == text, "{coding:?}");
        }
        let mut wrong = gzip(&text);
        let checksum = wrong.len() - 8;
        wrong[checksum] ^= 1;
        assert_eq!(unpacked(Coding::Gzip, &wrong, 1000).2, Err(Broken), "a wrong checksum");
        assert_eq!(unpacked(Coding::Zstd, &gzip(&text), 1000).2, Err(Broken));
    }

    #[test]
    fn a_window_beyond_what_http_allows_is_refused_before_it_takes_memory() {
        // Magic number, a descriptor without single segment, and a window of 2^27 bytes.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 1, 0, 0];
        assert_eq!(unpacked(Coding::Zstd, &frame, 100).2, Err(Broken));
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 1, 0, 0];
        assert_eq!(unpacked(Coding::Zstd, &frame, 100), (Vec::new(), 0, Ok(())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn members_and_frames_of_any_text_in_any_chunks_come_out_whole(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..4),
            repeat in 1_usize..40,
            chunk in 1_usize..5000,
        ) {
            let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.repeat(repeat)).collect();
            for coding in [Coding::Gzip, Coding::Zstd] {
                let body = texts.iter().map(|text| packed(coding, text)).collect::<Vec<_>>().concat();
                let (text, _, end) = unpacked(coding, &body, chunk);
                prop_assert!(text == texts.concat() && end == Ok(()), "{coding:?}");
            }
        }

        #[test]
        fn no_bytes_make_it_fail_otherwise_than_with_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
            at in any::<prop::sample::Index>(),
            chunk in 1_usize..600,
        ) {
            for coding in [Coding::Gzip, Coding::Zstd] {
                let _ = unpacked(coding, &bytes, chunk);
                let mut body = packed(coding, &bytes);
                let at = at.index(body.len());
                body[at] ^= 0x55;
                let _ = unpacked(coding, &body, chunk);
            }
        }
    }
}
