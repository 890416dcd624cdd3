//! Finds the keys of a configuration that nobody knows.

use std::fmt;

use serde::Deserializer;
use serde_ignored::Path;

use crate::features;
use crate::keys;
use crate::shape::ConfigToml;

/// A key that nobody knows, down to its topmost unknown part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown(Vec<String>);

impl Unknown {
    pub(crate) fn parts(&self) -> &[String] {
        &self.0
    }

    /// Whether a dotted key of the command line leads to it or through it.
    pub(crate) fn is_on_the_way_of(&self, dotted: &str) -> bool {
        self.0.iter().map(String::as_str).zip(dotted.split('.')).all(|(own, other)| own == other)
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join("."))
    }
}

/// Decodes a configuration and collects the keys that nobody knows, unknown features included.
///
/// # Errors
/// A bad value.
pub(crate) fn find<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Unknown>, D::Error> {
    let mut found = Vec::new();
    let config: ConfigToml = serde_ignored::deserialize(deserializer, |path| {
        let parts = parts(&path);
        if !keys::may_be_known_elsewhere(&parts) {
            found.push(Unknown(parts));
        }
    })?;
    let unknown_features = config.features.into_keys().filter(|name| !features::is_known(name));
    found.extend(unknown_features.map(|name| Unknown(vec!["features".to_owned(), name])));
    Ok(found)
}

fn parts(path: &Path<'_>) -> Vec<String> {
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => with(parent, index.to_string()),
        Path::Map { parent, key } => with(parent, key.clone()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            parts(parent)
        }
    }
}

fn with(parent: &Path<'_>, part: String) -> Vec<String> {
    let mut all = parts(parent);
    all.push(part);
    all
}
