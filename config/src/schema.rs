//! The JSON Schema of `config.toml`, kept in `docs/config.schema.json`.

use crate::shape::ConfigToml;

/// The JSON Schema of `config.toml`.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(ConfigToml)
}
