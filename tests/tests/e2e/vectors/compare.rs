//! Compares answers by shape and codes, as the README of the recordings says.

use std::collections::BTreeMap;

use codex_e2e::bytes_of;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Members whose values are not stable: only their type is compared.
const UNSTABLE: [&str; 16] = [
    "sessionId",
    "message",
    "executorVersion",
    "providerId",
    "createdAtMs",
    "modifiedAtMs",
    "seq",
    "nextSeq",
    "environmentInfo",
    "capabilities",
    "shell",
    "userHomeDir",
    "tempDir",
    "prependPathDirs",
    "temporaryDirectories",
    "platformOs",
];

/// The differences of a result from the recorded one; `method` says how to read it.
pub(crate) fn differences(method: &str, recorded: &Value, ours: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match method {
        "environment/info" | "initialize" => shape("", recorded, ours, &mut found),
        "process/read" => read(recorded, ours, &mut found),
        "http/request" => http(recorded, ours, &mut found),
        "fs/readDirectory" => {
            let names = |value: &Value| -> BTreeMap<String, Value> {
                let entries = value["entries"].as_array().into_iter().flatten();
                entries.map(|entry| (entry["fileName"].to_string(), entry.clone())).collect()
            };
            if names(recorded) != names(ours) {
                found.push(format!("entries {} instead of {}", ours["entries"], recorded["entries"]));
            }
        }
        "fs/walk" => {
            let (errors, expected) = (&ours["errors"], &recorded["errors"]);
            if errors.as_array().map(Vec::len) != expected.as_array().map(Vec::len) {
                found.push(format!("errors {errors} instead of {expected}"));
            }
            compare("entries", &recorded["entries"], &ours["entries"], &mut found);
            compare("truncated", &recorded["truncated"], &ours["truncated"], &mut found);
        }
        "fs/getMetadata" => {
            let mut recorded = recorded.clone();
            if recorded["isFile"] != true {
                // A directory's size is the file system's business.
                recorded.as_object_mut().map(|members| members.remove("size"));
            }
            compare("", &recorded, ours, &mut found);
        }
        _ => compare("", recorded, ours, &mut found),
    }
    found
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Every recorded member is there with the same type.
fn shape(place: &str, recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    if kind(recorded) != kind(ours) {
        found.push(format!("{place}: {ours} instead of {recorded}"));
    } else if let Value::Object(members) = recorded {
        for (name, value) in members.iter().filter(|_| !place.ends_with("capabilities")) {
            shape(&format!("{place}.{name}"), value, &ours[name], found);
        }
    }
}

fn compare(place: &str, recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    let name = place.rsplit('.').next().unwrap_or(place);
    if UNSTABLE.contains(&name) {
        return shape(place, recorded, ours, found);
    }
    match (recorded, ours) {
        (Value::Object(members), Value::Object(_)) => {
            for (name, value) in members {
                compare(&format!("{place}.{name}"), value, &ours[name], found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            if one.len() != other.len() {
                found.push(format!("{place}: {} items instead of {}: {ours}", other.len(), one.len()));
            }
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{place}.{index}"), one, other, found);
            }
        }
        (Value::String(text), Value::String(other)) if is_elided(text) => {
            if !elided_equals(text, other) {
                found.push(format!("{place}: {} bytes instead of {text}", other.len()));
            }
        }
        // Dialect A's code of a signalled process (8.6, 19).
        (Value::Number(code), Value::Number(other)) if name == "exitCode" && code.as_i64() == Some(-1) => {
            if other.as_i64().is_none_or(|other| other < 128) {
                found.push(format!("{place}: {other} for a signalled process"));
            }
        }
        _ if recorded == ours => {}
        _ => found.push(format!("{place}: {ours} instead of {recorded}")),
    }
}

pub(crate) fn is_elided(text: &str) -> bool {
    text.starts_with("<elided ")
}

/// `<elided N chars sha256=HEX16>`
fn elided_equals(elided: &str, text: &str) -> bool {
    let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    elided.contains(&format!(" {} chars ", text.chars().count())) && elided.contains(&hash[..16])
}

fn streams(chunks: &Value) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut streams: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for chunk in chunks.as_array()? {
        let text = chunk["chunk"].as_str()?;
        if is_elided(text) {
            return None;
        }
        streams.entry(chunk["stream"].as_str()?.into()).or_default().extend(bytes_of(&chunk["chunk"]));
    }
    Some(streams)
}

fn read(recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    for name in ["exited", "failure"] {
        compare(name, &recorded[name], &ours[name], found);
    }
    shape("nextSeq", &recorded["nextSeq"], &ours["nextSeq"], found);
    if recorded["exited"] == true {
        compare("exitCode", &recorded["exitCode"], &ours["exitCode"], found);
    }
    // Closing may come a moment earlier here than there.
    if recorded["closed"] == true {
        compare("closed", &recorded["closed"], &ours["closed"], found);
    }
    if recorded.get("sandboxDenied").is_some() {
        shape("sandboxDenied", &recorded["sandboxDenied"], &ours["sandboxDenied"], found);
    }
    let (Some(expected), Some(actual)) = (streams(&recorded["chunks"]), streams(&ours["chunks"])) else {
        return;
    };
    for (stream, bytes) in &expected {
        let other = actual.get(stream).map_or(&[][..], Vec::as_slice);
        // While a program runs, how far it is differs.
        let same = if recorded["closed"] == true {
            other == bytes
        } else {
            other.starts_with(bytes) || bytes.starts_with(other)
        };
        if !same {
            let (other, bytes) = (String::from_utf8_lossy(other), String::from_utf8_lossy(bytes));
            found.push(format!("{stream} {other:?} instead of {bytes:?}"));
        }
    }
}

fn http(recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    compare("status", &recorded["status"], &ours["status"], found);
    let headers = |value: &Value| -> Vec<String> {
        let list = value["headers"].as_array().into_iter().flatten();
        // Our origin says `connection: close`; lengths of echoed bodies vary with the port.
        let mut list: Vec<String> = list
            .filter(|h| !matches!(h["name"].as_str(), Some("connection" | "content-length" | "date")))
            .map(|h| format!("{}: {}", h["name"], h["value"]))
            .collect();
        list.sort();
        list
    };
    if headers(recorded) != headers(ours) {
        found.push(format!("headers {:?} instead of {:?}", headers(ours), headers(recorded)));
    }
    if recorded["status"] != 501 {
        body("bodyBase64", &recorded["bodyBase64"], &ours["bodyBase64"], found);
    }
}

/// Compares base64 members; an echo's headers may come in another order.
fn body(place: &str, recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    if recorded.as_str().is_none_or(is_elided) {
        return compare(place, recorded, ours, found);
    }
    let (expected, actual) = (bytes_of(recorded), bytes_of(ours));
    if normal(&expected) != normal(&actual) && !expected.starts_with(b"\x1f\x8b") {
        let (expected, actual) = (String::from_utf8_lossy(&expected), String::from_utf8_lossy(&actual));
        found.push(format!("body {actual} instead of {expected}"));
    }
}

/// An echo with its headers sorted and hosts left out; other bytes as they are.
pub(crate) fn normal(bytes: &[u8]) -> Vec<u8> {
    let Ok(mut echo) = serde_json::from_slice::<Value>(bytes) else { return bytes.to_vec() };
    if let Some(headers) = echo.get_mut("h").and_then(Value::as_array_mut) {
        for header in headers.iter_mut() {
            if header[0] == "host" || header[0] == "referer" {
                header[1] = Value::Null;
            }
        }
        headers.sort_by_key(Value::to_string);
    }
    echo.to_string().into_bytes()
}
