//! Reads the recorded conversations in `tests/vectors`.

use serde_json::Value;

/// The lines of a recording.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// Each request with an object's `id`, and its answer, in order.
pub(crate) fn answered(text: &str) -> Vec<(Value, Value)> {
    let mut asked: Vec<(Value, Value)> = Vec::new();
    let mut pairs = Vec::new();
    for line in lines(text) {
        let (conn, data) = (&line["conn"], &line["data"]);
        if !data.is_object() || data["id"].is_null() {
            continue;
        }
        if line["dir"] == "c2s" {
            asked.push((conn.clone(), data.clone()));
        } else if let Some(at) = asked.iter().position(|(c, d)| c == conn && d["id"] == data["id"]) {
            pairs.push((asked.remove(at).1, data.clone()));
        }
    }
    pairs
}
