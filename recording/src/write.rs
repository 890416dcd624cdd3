//! Writes version 3.

use serde_json::{Value, json};

use crate::text::{LineEnds, Text};
use crate::{Header, Kind};

/// Puts what happens into lines. Times are milliseconds of any one clock.
#[derive(Debug)]
pub struct Writer {
    /// Of stdout or the terminal, and of stderr: a character that one has begun is not the other's.
    texts: [Text; 2],
    /// The time of the last event.
    last_ms: u64,
}

impl Writer {
    /// A recording that begins at `begin_ms`, and its first line.
    #[must_use]
    pub fn begin(header: &Header, begin_ms: u64, line_ends: LineEnds) -> (Self, String) {
        let mut told = json!({"version": 3, "term": {"cols": header.cols, "rows": header.rows}});
        if let Some(timestamp) = header.timestamp {
            told["timestamp"] = timestamp.into();
        }
        if let Some(title) = &header.title {
            told["title"] = title.as_str().into();
        }
        let texts = [Text::new(line_ends), Text::new(line_ends)];
        (Self { texts, last_ms: begin_ms }, format!("{told}\n"))
    }

    /// The line of a piece of output; empty if all of it is the beginning of a character. `is_error`: it is of stderr.
    pub fn output(&mut self, at_ms: u64, is_error: bool, bytes: &[u8]) -> String {
        let text = self.texts[usize::from(is_error)].push(bytes);
        if text.is_empty() { String::new() } else { self.event(at_ms, &Kind::Output(text)) }
    }

    /// The line of anything else.
    pub fn event(&mut self, at_ms: u64, kind: &Kind) -> String {
        let (code, data): (&str, Value) = match kind {
            Kind::Output(text) => ("o", text.as_str().into()),
            Kind::Input(text) => ("i", text.as_str().into()),
            Kind::Resize { cols, rows } => ("r", format!("{cols}x{rows}").into()),
            Kind::Marker(text) => ("m", text.as_str().into()),
            Kind::Exit(code) => ("x", code.to_string().into()),
            Kind::Other(code) => (code, "".into()),
        };
        // Clocks may be set back.
        let after = at_ms.saturating_sub(self.last_ms);
        self.last_ms = self.last_ms.max(at_ms);
        format!("[{}.{:03}, {}, {data}]\n", after / 1000, after % 1000, Value::from(code))
    }

    /// The last lines: what is left of a character, and the exit code if it is known.
    pub fn end(&mut self, at_ms: u64, code: Option<i32>) -> String {
        let rest: String = self.texts.iter_mut().map(Text::finish).collect();
        let mut lines = if rest.is_empty() { String::new() } else { self.event(at_ms, &Kind::Output(rest)) };
        if let Some(code) = code {
            lines += &self.event(at_ms, &Kind::Exit(code));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_format_says() {
        let header =
            Header { cols: 80, rows: 24, timestamp: Some(1_504_467_315), title: Some("a \"b\"".into()) };
        let (mut writer, mut all) = Writer::begin(&header, 5_000, LineEnds::Keep);
        all += &writer.output(5_248, false, b"\x1b[1mHello\n");
        all += &writer.output(5_249, false, b"\xc3");
        all += &writer.output(6_249, false, b"\xa4");
        all += &writer.event(8_299, &Kind::Resize { cols: 90, rows: 30 });
        all += &writer.output(8_000, true, b"set back");
        all += &writer.end(8_300, Some(3));
        let expected = "{\"term\":{\"cols\":80,\"rows\":24},\"timestamp\":1504467315,\"title\":\"a \\\"b\\\"\",\"version\":3}\n\
                        [0.248, \"o\", \"\\u001b[1mHello\\n\"]\n\
                        [1.001, \"o\", \"ä\"]\n\
                        [2.050, \"r\", \"90x30\"]\n\
                        [0.000, \"o\", \"set back\"]\n\
                        [0.001, \"x\", \"3\"]\n";
        assert_eq!(all, expected);
    }
}
