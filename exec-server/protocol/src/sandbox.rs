//! What an operation may touch, as a client words it (section 7.3).
//!
//! Takes what any release from 0.125 to 0.171 takes. What the words mean is section 14's matter.

use std::num::NonZeroU64;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::path::{LocalPath, WirePath};

/// The sandbox object. Decodes only from a JSON object, and only when its profile makes sense:
/// `project_roots` or a relative glob without `cwd` is refused as 0.169 refuses it (`-32602`).
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Sandbox {
    /// The permission profile.
    pub permissions: Permissions,
    /// What relative globs, `current_working_directory` and (before 0.169) `project_roots` mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<LocalPath>,
    /// What `project_roots` means to 0.169. Missing (older clients) is not the same as empty,
    /// which grants nothing (14.2); null is refused.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub workspace_roots: Option<Vec<LocalPath>>,
    /// Required by every release; means nothing here.
    pub windows_sandbox_level: WindowsSandboxLevel,
    /// Concerns Windows; ignored here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows_sandbox_proxy_settings_mode: Option<ProxySettingsMode>,
    /// Asks for the older of two Linux mechanisms; ours to ignore.
    #[serde(default)]
    pub use_legacy_landlock: bool,
    /// Not determined what it does (section 20); null is refused.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub sandbox_override: Option<SandboxOverride>,
    /// An object of undetermined content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_context: Option<Map<String, Value>>,
}

/// How strongly Windows confines; the union of all releases' words.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum WindowsSandboxLevel {
    Disabled,
    RestrictedToken,
    Elevated,
    Mxc,
}

/// What Windows does with proxy settings.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum ProxySettingsMode {
    Reconcile,
    Preserve,
}

/// A client's wish to depart from the profile.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub enum SandboxOverride {
    NoOverride,
    EscalatedSandboxWithRestrictions,
    BypassSandboxFirstAttempt,
}

/// A permission profile, in the form of today or the older one.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Permissions {
    /// The form with a `type`.
    Tagged(Profile),
    /// An object without `type` (0.125 to 0.144): kept as it came, so always in need of enforcement.
    Untagged(Map<String, Value>),
}

impl Permissions {
    /// Everything may be read and nothing written, as `read-only` means it on command lines.
    pub fn read_only(network: Network) -> Self {
        Self::restricted(network, vec![Entry::of(Special::Root, Access::Read)])
    }

    /// The same, but the workspace and the places for temporary files may be written (`workspace-write`).
    pub fn workspace_write(network: Network) -> Self {
        let writable = [Special::ProjectRoots { subpath: None }, Special::SlashTmp, Special::Tmpdir];
        let writable = writable.into_iter().map(|place| Entry::of(place, Access::Write));
        let root = Entry::of(Special::Root, Access::Read);
        Self::restricted(network, [root].into_iter().chain(writable).collect())
    }

    fn restricted(network: Network, entries: Vec<Entry>) -> Self {
        let file_system = FileSystem::Restricted { entries, glob_scan_max_depth: None };
        Self::Tagged(Profile::Managed { network, file_system })
    }
}

/// What a sandbox allows, in the form with a `type`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Profile {
    /// Nothing is forbidden.
    Disabled,
    /// Something outside confines files already.
    External {
        /// Whether sockets are allowed.
        network: Network,
    },
    /// The server enforces what follows.
    Managed {
        /// Whether sockets are allowed.
        network: Network,
        /// The files that may be touched.
        #[serde(deserialize_with = "object")]
        file_system: FileSystem,
    },
}

/// Whether sockets are allowed.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// No sockets.
    Restricted,
    /// Sockets are allowed.
    Enabled,
}

/// Which files a managed profile allows.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FileSystem {
    /// Every file may be touched.
    Unrestricted,
    /// Those that the entries name.
    Restricted {
        /// Rules; the most specific one decides.
        #[serde(deserialize_with = "objects")]
        entries: Vec<Entry>,
        /// How deep globs look, at least 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        glob_scan_max_depth: Option<NonZeroU64>,
    },
}

/// One rule: what may be done where.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The place that the rule is about.
    #[serde(deserialize_with = "object")]
    pub path: EntryPath,
    /// What may be done there.
    pub access: Access,
    /// What a missing path means. `"skip"` is the only word seen; 0.144 ignores the member, so any
    /// value decodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_path_behavior: Option<Value>,
}

/// What may be done.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
    /// Nothing; `none` is the older word, answered and sent as `deny`.
    #[serde(alias = "none")]
    Deny,
}

impl Entry {
    fn of(value: Special, access: Access) -> Self {
        Self { path: EntryPath::Special { value }, access, missing_path_behavior: None }
    }
}

/// Where a rule applies.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EntryPath {
    /// A path and what is below it.
    Path {
        /// Native path or URI. One of another system decodes, and no sandbox can be made of it.
        path: WirePath,
    },
    /// What matches a pattern.
    GlobPattern {
        /// Plain text, never a URI; relative to `cwd` without a leading `/`.
        pattern: String,
    },
    /// A place known by name.
    Special {
        /// The name of the place.
        #[serde(deserialize_with = "object")]
        value: Special,
    },
}

/// A place known by name.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Special {
    /// The whole file system.
    Root,
    /// What a program needs to run at all.
    Minimal,
    /// The sandbox's `cwd`.
    CurrentWorkingDirectory,
    /// The workspace (14.2).
    ProjectRoots {
        /// A place below each root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// `$TMPDIR`.
    Tmpdir,
    /// `/tmp`.
    SlashTmp,
    /// A place that the client's own client named.
    Unknown {
        /// The name of the place.
        path: String,
        /// A place below it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
}

impl Sandbox {
    /// These permissions for a working directory, and nothing else said.
    pub fn new(permissions: Permissions, cwd: LocalPath) -> Self {
        Self {
            permissions,
            cwd: Some(cwd),
            workspace_roots: None,
            windows_sandbox_level: WindowsSandboxLevel::Disabled,
            windows_sandbox_proxy_settings_mode: None,
            use_legacy_landlock: false,
            sandbox_override: None,
            policy_context: None,
        }
    }

    /// Whether a program under it needs the kernel's help: always, but for `disabled`, `external`
    /// with network `enabled`, and `managed` with `unrestricted` files and network `enabled`.
    pub fn needs_enforcement_for_programs(&self) -> bool {
        match &self.permissions {
            Permissions::Untagged(_) => true,
            Permissions::Tagged(Profile::Disabled) => false,
            Permissions::Tagged(Profile::External { network }) => *network != Network::Enabled,
            Permissions::Tagged(Profile::Managed { network, file_system }) => {
                *network != Network::Enabled || *file_system != FileSystem::Unrestricted
            }
        }
    }

    /// Whether a program under it may use the network freely. The untagged form is not looked into, so no.
    pub fn allows_network(&self) -> bool {
        match &self.permissions {
            Permissions::Untagged(_) => false,
            Permissions::Tagged(Profile::Disabled) => true,
            Permissions::Tagged(Profile::External { network } | Profile::Managed { network, .. }) => {
                *network == Network::Enabled
            }
        }
    }

    /// Whether a file operation under it needs checking: `managed` with `restricted` files that do
    /// not grant write on `root` (14.1), and the untagged form. A root that is writable but for
    /// some places needs it too: an exception that is not enforced would be a plain run.
    pub fn needs_enforcement_for_files(&self) -> bool {
        match &self.permissions {
            Permissions::Untagged(_) => true,
            Permissions::Tagged(Profile::Managed {
                file_system: FileSystem::Restricted { entries, .. },
                ..
            }) => {
                !entries.iter().any(Entry::grants_root_write) || entries.iter().any(Entry::narrows_root_write)
            }
            Permissions::Tagged(_) => false,
        }
    }

    fn lacks_cwd(&self) -> bool {
        let Permissions::Tagged(Profile::Managed { file_system, .. }) = &self.permissions else {
            return false;
        };
        let FileSystem::Restricted { entries, .. } = file_system else { return false };
        self.cwd.is_none() && entries.iter().any(Entry::needs_cwd)
    }
}

impl Entry {
    fn special(&self) -> Option<&Special> {
        match &self.path {
            EntryPath::Special { value } => Some(value),
            EntryPath::Path { .. } | EntryPath::GlobPattern { .. } => None,
        }
    }

    fn grants_root_write(&self) -> bool {
        self.access == Access::Write && self.special() == Some(&Special::Root)
    }

    /// Takes something away from a writable root; reading what is readable anyway does not.
    fn narrows_root_write(&self) -> bool {
        match self.access {
            Access::Write => false,
            Access::Deny => true,
            Access::Read => {
                !matches!(self.special(), Some(Special::Root | Special::Minimal | Special::Unknown { .. }))
            }
        }
    }

    fn needs_cwd(&self) -> bool {
        match &self.path {
            EntryPath::Path { .. } => false,
            EntryPath::GlobPattern { pattern } => !pattern.starts_with('/'),
            EntryPath::Special { value } => {
                matches!(value, Special::ProjectRoots { .. } | Special::CurrentWorkingDirectory)
            }
        }
    }
}

impl Serialize for Sandbox {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Sandbox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The derived reading, which knows nothing of the checks around it.
        struct Unchecked(Sandbox);
        impl<'de> Deserialize<'de> for Unchecked {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Sandbox::deserialize(deserializer).map(Self)
            }
        }
        let Unchecked(sandbox) = object(deserializer)?;
        if sandbox.lacks_cwd() {
            return Err(D::Error::custom(
                "sandbox permissions with project_roots, current_working_directory or a relative glob_pattern need the \
                 sandbox's cwd; add it",
            ));
        }
        Ok(sandbox)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members: Map<String, Value> = object(deserializer)?;
        if members.contains_key("type") {
            from_members(members).map(Self::Tagged).map_err(D::Error::custom)
        } else {
            Ok(Self::Untagged(members))
        }
    }
}

fn from_members<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, serde_json::Error> {
    serde_json::from_value(Value::Object(members))
}

/// Refuses null where a member may be missing.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads `T` from a JSON object only: serde's derived readers would take an array as well.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// Reads an array of JSON objects.
fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(ObjectVisitor(std::marker::PhantomData)).map(Self)
    }
}
