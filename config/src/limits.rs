//! `[exec_server.limits]`: the server's bounds by their names, each checked against its range.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;

use codex_limits::{Declared, Limits as Bounds};
#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::number::InRange;

/// The server's bounds that are set: name and number, in bytes, pieces or milliseconds. What is not set keeps its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits(Vec<(&'static str, u64)>);

impl Limits {
    /// The bounds that are set, in the order of their declaration.
    pub fn given(&self) -> &[(&'static str, u64)] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Limits;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a table of limits")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Limits, A::Error> {
        let mut given: Vec<Option<u64>> = vec![None; Bounds::DECLARED.len()];
        while let Some(name) = map.next_key::<String>()? {
            match Bounds::DECLARED.iter().position(|declared| declared.name == name) {
                Some(place) => given[place] = Some(map.next_value_seed(Number(&Bounds::DECLARED[place]))?),
                // Whoever reads strictly is told of what is ignored.
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let given = Bounds::DECLARED.iter().zip(given);
        Ok(Limits(given.filter_map(|(declared, number)| Some((declared.name, number?))).collect()))
    }
}

/// A number in the range of this bound.
struct Number(&'static Declared);

impl<'de> DeserializeSeed<'de> for Number {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_u64(InRange { least: self.0.least, most: self.0.most })
    }
}

#[cfg(test)]
impl JsonSchema for Limits {
    fn schema_name() -> Cow<'static, str> {
        "Limits".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let properties: serde_json::Map<_, _> = Bounds::DECLARED
            .iter()
            .map(|declared| {
                let schema = serde_json::json!({
                    "description": declared.meaning,
                    "type": "integer",
                    "minimum": declared.least,
                    "maximum": declared.most,
                });
                (declared.name.to_owned(), schema)
            })
            .collect();
        json_schema!({
            "description": "The server's bounds. What is not given keeps its default. Sizes are bytes, times are milliseconds.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}
