//! The protocol as one JSON Schema, kept in `docs/protocol.schema.json`: for whoever writes a client in another language.
//!
//! The types derive it in tests only, so nothing of it is in the product.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::encode::NoParams;
use crate::path::{LocalPath, WirePath};
use crate::{Base64Bytes, Method, Notification};
use crate::{discovery, environment, filesystem as fs, http, network, process, session, tcp};

/// Implements the schema of a type that reads and writes itself.
macro_rules! written {
    ($($type:ty: $name:literal $schema:tt;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

written! {
    Base64Bytes: "Base64Bytes" {
        "description": "Standard base64, padded, without white space.", "type": "string", "contentEncoding": "base64"
    };
    WirePath: "WirePath" {
        "description": "An absolute path, or a file: URI. Answers have URIs.", "type": "string"
    };
    LocalPath: "LocalPath" {
        "description": "An absolute path, or a file: URI, of the server's machine.", "type": "string"
    };
    NoParams: "NoParams" {
        "description": "Missing, null or {}.", "type": ["object", "null"], "maxProperties": 0
    };
}

/// What the page is made from.
pub(crate) struct Page {
    generator: SchemaGenerator,
    methods: Map<String, Value>,
    notifications: Map<String, Value>,
}

impl Page {
    pub(crate) fn method<M: Method>(&mut self, from: &str)
    where
        M::Params: JsonSchema,
        M::Result: JsonSchema,
    {
        let params = self.generator.subschema_for::<M::Params>();
        let result = self.generator.subschema_for::<M::Result>();
        self.methods.insert(M::NAME.into(), json!({"from": from, "params": params, "result": result}));
    }

    pub(crate) fn notification<N: Notification>(&mut self, from: &str)
    where
        N::Params: JsonSchema,
    {
        let params = self.generator.subschema_for::<N::Params>();
        self.notifications.insert(N::NAME.into(), json!({"from": from, "params": params}));
    }
}

/// A description is one line; where it breaks in the source means nothing.
fn unwrapped(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
}

/// What describes the words of one file, and which side says them.
type Words = (fn(&mut Page, &str), &'static str);

/// Each file of methods and notifications; its own table names them.
const WORDS: &[Words] = &[
    (session::describe_methods, "client"),
    (session::describe_notifications, "client"),
    (process::describe_methods, "client"),
    (process::describe_notifications, "server"),
    (environment::describe_methods, "client"),
    (fs::describe_methods, "client"),
    (fs::handles::describe_methods, "client"),
    (fs::transfer::describe_methods, "client"),
    (fs::walk::describe_methods, "client"),
    (fs::watch::describe_methods, "client"),
    (fs::watch::describe_notifications, "server"),
    (http::describe_methods, "client"),
    (http::describe_notifications, "server"),
    (discovery::describe_methods, "client"),
    (tcp::describe_methods, "client"),
    (network::describe_methods, "server"),
    (network::describe_notifications, "server"),
];

fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut page = Page { generator, methods: Map::new(), notifications: Map::new() };
    for (describe, from) in WORDS {
        describe(&mut page, from);
    }
    let mut definitions = page.generator.take_definitions(true);
    for definition in definitions.values_mut() {
        if let Ok(schema) = <&mut Schema>::try_from(definition) {
            RecursiveTransform(unwrapped).transform(schema);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The exec-server protocol: params and results of its methods, and its notifications",
        "methods": page.methods,
        "notifications": page.notifications,
        "$defs": definitions,
    })
}

/// `CODEX_UPDATE_DOCS=1 cargo test -p codex-exec-protocol` rewrites the file.
#[test]
fn the_schema_in_docs_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.schema.json");
    let current = format!("{:#}\n", schema());
    if std::env::var_os("CODEX_UPDATE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == current,
        "docs/protocol.schema.json is stale: CODEX_UPDATE_DOCS=1 cargo test -p codex-exec-protocol"
    );
}

#[test]
fn every_method_of_the_sources_is_in_the_schema() {
    let schema = schema();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let mut files = vec![std::path::PathBuf::from(folder)];
    let mut found = 0;
    while let Some(file) = files.pop() {
        if file.is_dir() {
            files.extend(std::fs::read_dir(&file).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        // The words of another dialect.
        if file.ends_with("kimi.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        // Lines as the macros `methods!` and `notifications!` have them: `Start: "process/start" (StartParams) -> …`.
        for line in text.lines().filter(|line| line.starts_with("    ") && line.ends_with(';')) {
            let Some((_, rest)) = line.split_once(": \"") else { continue };
            let Some((name, rest)) = rest.split_once("\" (") else { continue };
            let list = if rest.contains("->") { "methods" } else { "notifications" };
            assert!(schema[list][name].is_object(), "{name} of {} is not in the schema", file.display());
            found += 1;
        }
    }
    assert!(found > 40, "only {found} were found: does this test still see them?");
}
