//! Whether a message looks as it has to.

use serde_json::Value;

/// Why `found` does not look like `wanted`, as half a sentence; none when it does. Of an object, members that are not named
/// may be there. A text that begins with `$` stands for a kind: `$any`, `$text`, `$uint`, `$uuid`, `$absent`.
pub(crate) fn difference(wanted: &Value, found: &Value, place: &str) -> Option<String> {
    let kind =
        |right: bool, kind: &str| (!right).then(|| format!("{place} is {}, and not {kind}", shown(found)));
    match wanted {
        Value::String(word) if word.starts_with('$') => match word.as_str() {
            "$any" => None,
            "$text" => kind(found.is_string(), "a text"),
            "$uint" => kind(found.is_u64(), "a number from 0 up"),
            "$uuid" => kind(found.as_str().is_some_and(is_uuid), "a random UUID in small letters"),
            other => Some(format!("{place}: nobody knows the kind {other}")),
        },
        Value::Object(wanted) => {
            let Value::Object(there) = found else { return kind(false, "an object") };
            wanted.iter().find_map(|(name, wanted)| {
                let place = format!("{place}.{name}");
                match (there.get(name), wanted.as_str()) {
                    (None, Some("$absent")) => None,
                    (Some(found), Some("$absent")) => Some(format!("{place} is there: {}", shown(found))),
                    (None, _) => Some(format!("{place} is missing")),
                    (Some(found), _) => difference(wanted, found, &place),
                }
            })
        }
        Value::Array(wanted) => {
            let Some(there) = found.as_array().filter(|there| there.len() == wanted.len()) else {
                return kind(false, &format!("a list of {}", wanted.len()));
            };
            let mut pairs = wanted.iter().zip(there).enumerate();
            pairs.find_map(|(index, (wanted, found))| difference(wanted, found, &format!("{place}[{index}]")))
        }
        plain => kind(plain == found, &shown(plain)),
    }
}

/// A value as a reader takes it in: short.
pub(crate) fn shown(value: &Value) -> String {
    /// Characters that are shown.
    const SHOWN: usize = 160;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn is_uuid(text: &str) -> bool {
    let parsed = uuid::Uuid::try_parse(text);
    text.len() == 36 && text == text.to_lowercase() && parsed.is_ok_and(|uuid| uuid.get_version_num() == 4)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_named_has_to_be_so_and_the_rest_may_be() {
        let found = json!({"id": 1, "result": {"a": [1, "x"], "b": null}});
        for (wanted, what) in [
            (json!({"id": 1}), None),
            (json!({"result": {"a": ["$uint", "$text"], "b": null, "c": "$absent"}}), None),
            (json!({"result": {"a": [1]}}), Some(".result.a is")),
            (json!({"result": {"b": "$absent"}}), Some(".result.b is there")),
            (json!({"error": "$any"}), Some(".error is missing")),
            (json!({"id": "$text"}), Some(".id is 1, and not a text")),
            (json!({"id": 2}), Some(".id is 1, and not 2")),
        ] {
            let told = difference(&wanted, &found, "");
            match what {
                None => assert_eq!(told, None),
                Some(what) => assert!(told.as_ref().unwrap().contains(what), "{told:?}"),
            }
        }
        assert!(
            is_uuid("0b6f3c1e-8d2a-4c5b-9f00-123456789abc")
                && !is_uuid("0B6F3C1E-8D2A-4C5B-9F00-123456789ABC")
        );
    }
}
