//! The JSON Schema of `config.toml`, kept in `docs/config.schema.json`.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::Value;

use crate::shape::ConfigToml;

/// The JSON Schema of `config.toml`.
fn schema() -> Schema {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<ConfigToml>();
    RecursiveTransform(without_null).transform(&mut schema);
    RecursiveTransform(unwrapped).transform(&mut schema);
    schema
}

/// TOML has no null: a key that may be left out is left out.
fn without_null(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
        forms.retain(|form| form.get("type").is_none_or(|name| name != "null"));
        if let [only] = forms.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            schema.insert("allOf".to_owned(), Value::Array(vec![only]));
        }
    }
}

/// A description is one line; where it breaks in the source means nothing.
fn unwrapped(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CODEX_UPDATE_DOCS=1 cargo test -p codex-config` rewrites the file.
    #[test]
    fn the_schema_in_docs_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.schema.json");
        let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
        if std::env::var_os("CODEX_UPDATE_DOCS").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == current,
            "docs/config.schema.json is stale: CODEX_UPDATE_DOCS=1 cargo test -p codex-config"
        );
    }

    #[test]
    fn every_key_is_described_and_none_may_be_null() {
        let text = serde_json::to_value(schema()).unwrap();
        assert!(!text.to_string().contains("null"), "{text}");
        let check = |name: &str, object: &Value| {
            for (key, value) in object["properties"].as_object().unwrap() {
                assert!(value["description"].is_string(), "{name}.{key}");
            }
        };
        check("", &text);
        let definitions = text["definitions"].as_object().unwrap();
        for (name, definition) in
            definitions.iter().filter(|(_, definition)| definition["properties"].is_object())
        {
            check(name, definition);
        }
        let limits = definitions["Limits"]["properties"].as_object().unwrap();
        assert_eq!(limits.len(), codex_limits::Limits::DECLARED.len());
        assert_eq!(limits["sessions"]["minimum"], 1);
    }
}
