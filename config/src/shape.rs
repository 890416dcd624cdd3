//! The shape of `config.toml`: the keys that are read or checked here, and the names of those that are not.

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;

use crate::exec_server::ExecServerConfig;

/// `config.toml`, shared by all Codex programs. Only the keys that this program reads, or whose types it checks, are
/// described; all others belong to other programs and are left alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
#[cfg_attr(test, schemars(title = "config.toml"))]
pub(crate) struct ConfigToml {
    /// Where credentials are kept; default `file`.
    pub(crate) cli_auth_credentials_store: Option<StoreMode>,
    /// The only way to sign in that is allowed; credentials of another kind count as none.
    pub(crate) forced_login_method: Option<LoginMethod>,
    /// The only ChatGPT workspaces (account ids) that may be used.
    pub(crate) forced_chatgpt_workspace_id: Option<WorkspaceIds>,
    /// Base of the ChatGPT service; default `https://chatgpt.com/backend-api/`.
    pub(crate) chatgpt_base_url: Option<String>,
    /// Which directories are trusted, by absolute path.
    pub(crate) projects: BTreeMap<String, ProjectToml>,
    /// Names of files or directories that mark a project's root; default `[".git"]`.
    pub(crate) project_root_markers: Option<Vec<String>>,
    /// Feature flags; unknown ones are ignored unless strict.
    pub(crate) features: BTreeMap<String, FeatureValue>,
    /// No longer supported: any value is refused, with the way out.
    #[cfg_attr(test, schemars(extend("deprecated" = true)))]
    pub(crate) profile: Option<String>,
    /// Old profiles; checked, not used.
    #[cfg_attr(test, schemars(extend("deprecated" = true)))]
    pub(crate) profiles: BTreeMap<String, ProfileToml>,
    /// The agent's model; checked, not used here.
    pub(crate) model: Option<String>,
    /// The agent's model provider; checked, not used here.
    pub(crate) model_provider: Option<String>,
    /// Which variables the agent's commands get; checked, not used: for an exec-server only the request counts.
    pub(crate) shell_environment_policy: Option<ShellEnvironmentPolicyToml>,
    /// Telemetry; checked, not used.
    pub(crate) otel: Option<OtelToml>,
    /// Settings of `codex exec-server`.
    #[serde(deserialize_with = "crate::access::from_table")]
    #[cfg_attr(test, schemars(with = "ExecServerConfig"))]
    pub(crate) exec_server: ExecServerConfig,
}

/// Where credentials are kept (login.md 3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// In `auth.json` in the home directory.
    #[default]
    File,
    /// In the keyring only.
    Keyring,
    /// In the keyring when there is one, else in the file.
    Auto,
    /// In the memory of this process only.
    Ephemeral,
}

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LoginMethod {
    /// With a ChatGPT account.
    Chatgpt,
    /// With an API key.
    Api,
}

/// One workspace id or several.
#[derive(Debug, Clone)]
pub(crate) struct WorkspaceIds(pub(crate) Vec<String>);

// Named for the message of released programs: `data did not match any variant of untagged enum Repr`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(untagged)]
enum Repr {
    One(String),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for WorkspaceIds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Repr::deserialize(deserializer)? {
            Repr::One(id) => vec![id],
            Repr::Several(ids) => ids,
        }))
    }
}

#[cfg(test)]
impl JsonSchema for WorkspaceIds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkspaceIds".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Repr::json_schema(generator)
    }
}

/// `[projects."<path>"]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
pub(crate) struct ProjectToml {
    /// Whether the project's own `.codex/config.toml` counts; an unlisted project is not trusted.
    pub(crate) trust_level: Option<TrustLevel>,
}

/// Whether a project's own configuration counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum TrustLevel {
    /// The directory's own configuration counts.
    Trusted,
    /// The directory's own configuration is ignored.
    Untrusted,
}

/// A feature flag. Some have settings of their own in newer programs.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(untagged))]
pub(crate) enum FeatureValue {
    /// The feature is on or off.
    Flag(bool),
    /// On or off by the member `enabled`, with settings that are not read here.
    #[cfg_attr(test, schemars(with = "BTreeMap<String, serde_json::Value>"))]
    Settings {
        /// Whether the feature is on, in the form of a table.
        enabled: Option<bool>,
    },
}

impl<'de> Deserialize<'de> for FeatureValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FeatureVisitor)
    }
}

struct FeatureVisitor;

impl<'de> serde::de::Visitor<'de> for FeatureVisitor {
    type Value = FeatureValue;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a boolean")
    }

    fn visit_bool<E>(self, on: bool) -> Result<FeatureValue, E> {
        Ok(FeatureValue::Flag(on))
    }

    fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<FeatureValue, M::Error> {
        let mut enabled = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "enabled" {
                enabled = Some(map.next_value()?);
            } else {
                map.next_value::<toml::Value>()?;
            }
        }
        Ok(FeatureValue::Settings { enabled })
    }
}

/// `[profiles.<name>]`: the keys whose types are checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
#[allow(dead_code, reason = "only the types are checked")]
pub(crate) struct ProfileToml {
    /// The agent's model.
    pub(crate) model: Option<String>,
    /// The agent's model provider.
    pub(crate) model_provider: Option<String>,
    /// Base of the ChatGPT service.
    pub(crate) chatgpt_base_url: Option<String>,
    /// Feature flags.
    pub(crate) features: BTreeMap<String, FeatureValue>,
}

/// `[shell_environment_policy]` (login.md 12.8).
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
#[allow(dead_code, reason = "only the types are checked")]
pub(crate) struct ShellEnvironmentPolicyToml {
    /// Which variables to start from.
    pub(crate) inherit: Option<EnvironmentInherit>,
    /// Keep variables whose names contain KEY, SECRET or TOKEN.
    pub(crate) ignore_default_excludes: Option<bool>,
    /// Patterns of names to drop.
    pub(crate) exclude: Option<Vec<String>>,
    /// Variables to add.
    pub(crate) set: Option<BTreeMap<String, String>>,
    /// Patterns of the only names to keep.
    pub(crate) include_only: Option<Vec<String>>,
    /// Run commands in a shell with the user's profile.
    pub(crate) experimental_use_profile: Option<bool>,
}

/// Which variables to start from.
#[derive(Debug, Clone, Copy, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum EnvironmentInherit {
    /// A few that every program needs.
    Core,
    /// The whole environment.
    All,
    /// No variables.
    None,
}

/// `[otel]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default)]
#[allow(dead_code, reason = "only the types are checked")]
pub(crate) struct OtelToml {
    /// Whether the text of prompts may be exported.
    pub(crate) log_user_prompt: Option<bool>,
    /// The deployment that data is marked with.
    pub(crate) environment: Option<String>,
    /// Where logs go.
    pub(crate) exporter: Option<OtelExporter>,
    /// Where traces go.
    pub(crate) trace_exporter: Option<OtelExporter>,
    /// Where metrics go.
    pub(crate) metrics_exporter: Option<OtelExporter>,
}

/// Where telemetry goes.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "only the types are checked")]
pub(crate) enum OtelExporter {
    /// Telemetry goes nowhere.
    None,
    /// To the maker of the program.
    Statsig,
    /// To an OTLP collector over HTTP.
    OtlpHttp(OtlpHttp),
    /// To an OTLP collector over gRPC.
    OtlpGrpc(OtlpGrpc),
}

// Not in the variants themselves: there, TOML refuses the keys that only other programs know, such as `tls`.
/// An OTLP collector over HTTP.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(inline))]
#[allow(dead_code, reason = "only the types are checked")]
pub(crate) struct OtlpHttp {
    /// Address of the collector.
    endpoint: String,
    /// Headers to send along.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// How data is encoded.
    protocol: OtelProtocol,
}

/// An OTLP collector over gRPC.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[cfg_attr(test, schemars(inline))]
#[allow(dead_code, reason = "only the types are checked")]
pub(crate) struct OtlpGrpc {
    /// Address of the collector.
    endpoint: String,
    /// Headers to send along.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// How OTLP over HTTP is encoded.
#[derive(Debug, Clone, Copy, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum OtelProtocol {
    /// As protocol buffers.
    Binary,
    /// As JSON.
    Json,
}
