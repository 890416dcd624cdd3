//! The sandbox object (section 7.3).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Placeholder shape, replaced by the full one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// The permission profile.
    pub permissions: Value,
}

impl Sandbox {
    /// Whether a program under it needs the kernel's help: anything but `disabled`, `external` with
    /// network `enabled`, and `managed` + `unrestricted` + `enabled`.
    pub fn needs_enforcement_for_programs(&self) -> bool {
        true
    }
    /// Whether a file operation under it does: `managed` + `restricted` without write on `root` (14.1).
    pub fn needs_enforcement_for_files(&self) -> bool {
        true
    }
}
