//! Tells what may say where the server listens and who is allowed to connect. Such a text is never passed over when it
//! can't be understood: going on without it could open a door that somebody has closed.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::{Table, Value};

use crate::exec_server::ExecServerConfig;

/// The table with the settings of the server.
pub(crate) const SERVER: &str = "exec_server";

/// Whether a text that is not understood may hold where the server listens, a private socket perhaps, or who is allowed
/// to connect.
pub fn may_be_hidden_in(text: &str) -> bool {
    // Between the letters of UTF-16 there are NULs, and an escape can stand for any letter of a key.
    if ["\0", "\\u", "\\U", "\\x"].iter().any(|hiding| text.contains(hiding)) {
        return true;
    }
    let text = normal(text);
    let mentions = |word: &str| text.contains(word);
    mentions("ws_auth") || (mentions(SERVER) && (mentions("ws_") || mentions("listen")))
}

/// Whether a key that nobody knows, by its dotted name, may be meant to say so.
pub(crate) fn may_be_meant_by(key: &str) -> bool {
    normal(key) == SERVER || may_be_hidden_in(key)
}

/// Whether the server's settings are something else than a table. They would replace those of other layers.
pub(crate) fn is_replaced_by(layer: &Table) -> bool {
    !matches!(layer.get(SERVER), None | Some(Value::Table(_)))
}

fn normal(text: &str) -> String {
    text.to_lowercase().replace('-', "_")
}

/// Decodes the server's settings from a table and from nothing else: serde would take an array for their values in order.
pub(crate) fn from_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ExecServerConfig, D::Error> {
    deserializer.deserialize_map(FromTable)
}

struct FromTable;

impl<'de> Visitor<'de> for FromTable {
    type Value = ExecServerConfig;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a table")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<ExecServerConfig, M::Error> {
        ExecServerConfig::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_spell_the_keys_is_taken_for_them() {
        for text in [
            "[exec_server]\nws_auth = x",
            "[exec-server]\nws-auth = x",
            "WS_AUTH = none",
            "exec_server = {listen = ",
            "[exec_server]\nws_token_file = ",
            "e\0x\0e\0c\0",
            "exec_server.\"ws\\u005fauth\" = ",
        ] {
            assert!(may_be_hidden_in(text), "{text:?}");
        }
        for text in ["", "model = ", "notify = ['listen']\nmodel = ", "[exec_server.limits]\nsessions = "] {
            assert!(!may_be_hidden_in(text), "{text:?}");
        }
        assert!(may_be_meant_by("exec-server") && !may_be_meant_by("exec_server.limits.nosuch"));
    }
}
