//! Members of a credentials document that this version keeps without understanding them.

use serde_json::{Map, Value};
use std::fmt;
use zeroize::Zeroize;

/// Members of a credentials document that this version does not know. They are kept as they came, and treated as
/// secrets, since nobody knows what they hold.
#[derive(Clone, Default)]
pub(crate) struct Unknown(Map<String, Value>);

impl Unknown {
    pub(crate) fn insert(&mut self, name: String, value: Value) {
        if let Some(mut old) = self.0.insert(name, value) {
            wipe(&mut old);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }
}

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// A member that is kept whole without being understood, such as an agent's identity.
#[derive(Clone)]
pub(crate) struct Opaque(pub(crate) Value);

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl Drop for Opaque {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
