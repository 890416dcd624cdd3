//! Home directory, configuration layers and -c overrides, merged into one typed configuration.

/// Where credentials are kept: `cli_auth_credentials_store` (spec 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// `auth.json` in the home directory.
    #[default]
    File,
    /// The system's keyring only.
    Keyring,
    /// The keyring, and the file where there is none.
    Auto,
    /// This process' memory.
    Ephemeral,
}

/// A way to sign in: `forced_login_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginMethod {
    /// Sign in with ChatGPT.
    Chatgpt,
    /// An API key.
    Api,
}
