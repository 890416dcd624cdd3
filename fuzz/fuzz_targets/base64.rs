//! Base64 of the wire, and `process/write` (protocol.md 4, 8.4): decoded as strictly as its words say, and written as serde would.
#![cfg_attr(fuzzing, no_main)]

use codex_exec_protocol::{bytes, encode, process};
use codex_fuzz::target;

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The definition, a character at a time; what is left of the last one has to be zero.
fn oracle(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for byte in &text[..text.len() - padding] {
        bits = (bits << 6) | ALPHABET.iter().position(|letter| letter == byte)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0 && count == padding as u32 * 2).then_some(out)
}

target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        assert_eq!(bytes::decode(text).ok(), oracle(text), "{text:?}");
        let params = format!(r#"{{"processId":"p","chunk":{}}}"#, serde_json::Value::from(text));
        let read = serde_json::from_str::<process::WriteParams>(&params).ok();
        assert_eq!(read.map(|params| params.chunk.0), oracle(text));
    }
    if let Ok(params) = serde_json::from_slice::<process::WriteParams>(input) {
        let again = serde_json::to_vec(&params).expect("params can be written");
        let again: process::WriteParams = serde_json::from_slice(&again).expect("and read again");
        assert_eq!(
            (again.process_id, again.chunk, again.write_id),
            (params.process_id, params.chunk, params.write_id)
        );
    }
    let mut out = Vec::new();
    encode::base64_string(input, &mut out);
    let text: String = serde_json::from_slice(&out).expect("a JSON string");
    assert_eq!(text.len(), encode::base64_len(input.len()));
    assert_eq!(bytes::decode(&text).as_deref(), Ok(input));
});
