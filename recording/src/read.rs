//! Reads versions 2 and 3, a line at a time.

use std::time::Duration;

use serde::Deserialize;

use crate::{Event, Header, Kind};

/// Columns and rows at most; more would be a mistake. A safeguard, far from any real use.
const LARGEST_SIZE: u16 = 10_000;

/// Why a line is none of a recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    /// The first line is no header.
    #[error("this is no recording in asciicast format: {0}")]
    NoHeader(String),
    /// A version that is not known.
    #[error("this recording has version {0} of asciicast; versions 2 and 3 can be read")]
    Version(u64),
    /// A line is no event.
    #[error("line {line} of the recording is no event: {problem}")]
    NoEvent {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader {
    header: Header,
    version: u64,
    /// Lines so far.
    lines: u64,
    /// The time of the last event of version 2, in seconds.
    last: f64,
}

#[derive(Deserialize)]
struct Told {
    version: u64,
    #[serde(default)]
    term: Option<Term>,
    #[serde(default)]
    width: u16,
    #[serde(default)]
    height: u16,
    #[serde(default)]
    timestamp: Option<u64>,
    #[serde(default)]
    title: Option<String>,
}

#[derive(Deserialize)]
struct Term {
    cols: u16,
    rows: u16,
}

impl Reader {
    /// Reads the first line.
    ///
    /// # Errors
    /// When it is no header of a known version.
    pub fn begin(line: &str) -> Result<Self, CastError> {
        let told: Told =
            serde_json::from_str(line).map_err(|error| CastError::NoHeader(error.to_string()))?;
        let (cols, rows) = match (told.version, &told.term) {
            (3, Some(term)) => (term.cols, term.rows),
            (3, None) => return Err(CastError::NoHeader("its header has no `term`".to_owned())),
            (2, _) => (told.width, told.height),
            (version, _) => return Err(CastError::Version(version)),
        };
        let header = Header {
            cols: cols.clamp(1, LARGEST_SIZE),
            rows: rows.clamp(1, LARGEST_SIZE),
            timestamp: told.timestamp,
            title: told.title,
        };
        Ok(Self { header, version: told.version, lines: 1, last: 0.0 })
    }

    /// What the recording says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads a further line; nothing for an empty one and a comment.
    ///
    /// # Errors
    /// When it is no event.
    pub fn event(&mut self, line: &str) -> Result<Option<Event>, CastError> {
        self.lines += 1;
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let wrong = |problem: String| CastError::NoEvent { line: self.lines, problem };
        let (time, code, data): (f64, String, String) =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if !(time.is_finite() && time >= 0.0) {
            return Err(wrong(format!("its time is {time}")));
        }
        let kind = match code.as_str() {
            "o" => Kind::Output(data),
            "i" => Kind::Input(data),
            "m" => Kind::Marker(data),
            "r" => {
                let size = size(&data).ok_or_else(|| wrong(format!("{data:?} is no size like 80x24")))?;
                Kind::Resize { cols: size.0, rows: size.1 }
            }
            "x" => Kind::Exit(data.parse().map_err(|_| wrong(format!("{data:?} is no exit code")))?),
            _ => Kind::Other(code),
        };
        let seconds = match self.version {
            2 => {
                let after = (time - self.last).max(0.0);
                self.last = self.last.max(time);
                after
            }
            _ => time,
        };
        let after = Duration::try_from_secs_f64(seconds).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Event { after, kind }))
    }
}

fn size(text: &str) -> Option<(u16, u16)> {
    let (cols, rows) = text.split_once('x')?;
    let number = |text: &str| text.parse().ok().filter(|number| (1..=LARGEST_SIZE).contains(number));
    Some((number(cols)?, number(rows)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LineEnds, Writer};

    fn read(text: &str) -> Result<(Header, Vec<Event>), CastError> {
        let mut lines = text.lines();
        let mut reader = Reader::begin(lines.next().unwrap_or_default())?;
        let events: Result<Vec<_>, _> = lines.filter_map(|line| reader.event(line).transpose()).collect();
        Ok((reader.header().clone(), events?))
    }

    #[test]
    fn what_is_written_is_read() {
        let header = Header { cols: 100, rows: 30, timestamp: Some(7), title: Some("t".into()) };
        let (mut writer, mut text) = Writer::begin(&header, 0, LineEnds::Keep);
        text += &writer.output(1500, false, "ä\n\u{1b}[0m".as_bytes());
        text += &writer.event(1500, &Kind::Resize { cols: 1, rows: 2 });
        text += &writer.end(3000, Some(-1));
        let (read_header, events) = read(&text).unwrap();
        assert_eq!(read_header, header);
        let event = |ms, kind| Event { after: Duration::from_millis(ms), kind };
        let expected = [
            event(1500, Kind::Output("ä\n\u{1b}[0m".into())),
            event(0, Kind::Resize { cols: 1, rows: 2 }),
            event(1500, Kind::Exit(-1)),
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn version_2_counts_from_the_beginning() {
        let text = "{\"version\": 2, \"width\": 80, \"height\": 24}\n# a comment\n\n[1.5, \"o\", \"a\"]\n[4.0, \"q\", \"\"]\n[3.0, \"i\", \"b\"]\n";
        let (header, events) = read(text).unwrap();
        assert_eq!((header.cols, header.rows), (80, 24));
        let told: Vec<_> = events.iter().map(|event| event.after.as_millis()).collect();
        assert_eq!(told, [1500, 2500, 0]);
        assert_eq!(events[1].kind, Kind::Other("q".into()));
    }

    #[test]
    fn what_is_no_recording_is_told_by_its_line() {
        let header = "{\"version\": 3, \"term\": {\"cols\": 80, \"rows\": 24}}\n";
        for (text, expected) in [
            ("", "no recording"),
            ("hello", "no recording"),
            ("{\"version\": 3}", "no `term`"),
            ("{\"version\": 1, \"width\": 1}", "version 1"),
            ("[0.1, \"o\", \"\"]", "no recording"),
            (&format!("{header}[1, \"o\"]"), "line 2"),
            (&format!("{header}[1, \"o\", \"\"]\n[-1, \"o\", \"\"]"), "line 3"),
            (&format!("{header}[1, \"r\", \"0x5\"]"), "no size"),
            (&format!("{header}[1e300, \"o\", \"\"]"), "line 2"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
