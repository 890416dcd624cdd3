//! Keys and region of AWS: from the variables, or from the files of the AWS tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use async_trait::async_trait;
use codex_exec_server::remote::{AwsKeySource, AwsKeys, AwsSigner};
use codex_secret::Secret;

/// The service that signatures are for when nothing else is said.
pub(super) const DEFAULT_SERVICE: &str = "execute-api";
/// The profile that counts when none is named.
const DEFAULT_PROFILE: &str = "default";
/// Settings of a profile by which other programs fetch keys.
const FETCHED: [&str; 6] = [
    "sso_session",
    "sso_start_url",
    "role_arn",
    "credential_process",
    "web_identity_token_file",
    "credential_source",
];

/// What the flags say.
#[derive(Debug)]
pub(super) struct AwsChoice {
    pub(super) profile: Option<String>,
    pub(super) region: Option<String>,
    pub(super) service: String,
}

impl AwsChoice {
    /// What signs. `variable` looks up the environment.
    ///
    /// # Errors
    /// No region. Missing keys are told when something is to be signed.
    pub(super) fn signer(self, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<AwsSigner> {
        let filled = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let file = |name: &str, usual: &str| {
            filled(name).map(PathBuf::from).or_else(|| Some(dirs::home_dir()?.join(".aws").join(usual)))
        };
        let id = filled("AWS_ACCESS_KEY_ID").zip(filled("AWS_SECRET_ACCESS_KEY"));
        // Who names a profile means that one.
        let of_variables = id.filter(|_| self.profile.is_none()).map(|(id, secret)| AwsKeys {
            access_key_id: id,
            secret_access_key: secret.into(),
            session_token: filled("AWS_SESSION_TOKEN").map(Secret::from),
        });
        let profile =
            self.profile.or_else(|| filled("AWS_PROFILE")).unwrap_or_else(|| DEFAULT_PROFILE.to_owned());
        let files = Files {
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: file("AWS_CONFIG_FILE", "config"),
            profile,
        };
        let region = self.region.or_else(|| filled("AWS_REGION")).or_else(|| filled("AWS_DEFAULT_REGION"));
        let region = region.or_else(|| files.region()).ok_or_else(|| {
            anyhow!(
                "no AWS region is known: give --aws-region, set AWS_REGION, or put region into the profile {:?}",
                files.profile
            )
        })?;
        let keys: Arc<dyn AwsKeySource> = match of_variables {
            Some(keys) => Arc::new(Fixed(keys)),
            None => Arc::new(files),
        };
        Ok(AwsSigner { keys, region, service: self.service })
    }
}

/// Keys that stay as they are.
struct Fixed(AwsKeys);

#[async_trait]
impl AwsKeySource for Fixed {
    async fn current(&self) -> Result<AwsKeys, String> {
        Ok(self.0.clone())
    }
}

/// A profile in the files of the AWS tools, read anew each time: other programs renew what is there.
#[derive(Clone)]
struct Files {
    credentials: Option<PathBuf>,
    config: Option<PathBuf>,
    profile: String,
}

#[async_trait]
impl AwsKeySource for Files {
    async fn current(&self) -> Result<AwsKeys, String> {
        let files = self.clone();
        let read = tokio::task::spawn_blocking(move || files.read());
        read.await
            .unwrap_or_else(|_| Err("the AWS keys could not be read: the program is stopping".to_owned()))
    }
}

impl Files {
    fn read(&self) -> Result<AwsKeys, String> {
        let sections = [
            self.section(self.credentials.as_deref(), &self.profile)?,
            self.section(self.config.as_deref(), &self.name_in_config())?,
        ];
        for section in &sections {
            let get =
                |name: &str| section.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            if let Some((id, secret)) = get("aws_access_key_id").zip(get("aws_secret_access_key")) {
                return Ok(AwsKeys {
                    access_key_id: id,
                    secret_access_key: secret.into(),
                    session_token: get("aws_session_token").map(Secret::from),
                });
            }
        }
        let profile = &self.profile;
        let fetched = sections.iter().flatten().find(|(key, _)| FETCHED.contains(&key.as_str()));
        Err(match fetched {
            Some((how, _)) => format!(
                "the AWS profile {profile:?} takes its keys by {how}, which this program does not follow; put them into \
                 variables: eval \"$(aws configure export-credentials --profile {profile} --format env)\""
            ),
            None => format!(
                "there are no AWS keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them into the profile \
                 {profile:?} of {}",
                self.credentials.as_deref().unwrap_or(Path::new("~/.aws/credentials")).display()
            ),
        })
    }

    fn region(&self) -> Option<String> {
        let config = self.section(self.config.as_deref(), &self.name_in_config()).ok()?;
        let credentials = self.section(self.credentials.as_deref(), &self.profile).ok()?;
        config.into_iter().chain(credentials).find(|(key, _)| key == "region").map(|(_, value)| value)
    }

    fn name_in_config(&self) -> String {
        match self.profile.as_str() {
            DEFAULT_PROFILE => DEFAULT_PROFILE.to_owned(),
            name => format!("profile {name}"),
        }
    }

    /// The settings of a section; none where there is no such file.
    fn section(&self, file: Option<&Path>, name: &str) -> Result<Vec<(String, String)>, String> {
        let Some(file) = file else { return Ok(Vec::new()) };
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(section(&text, name)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(format!("can't read {}: {error}", file.display())),
        }
    }
}

/// The settings of a section of such a file. What is indented belongs to the setting above it, and is none of ours.
fn section(text: &str, name: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(header) = line.trim().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let words: Vec<&str> = header.0.split_whitespace().collect();
            inside = words.join(" ").replace(['"', '\''], "") == name;
        } else if inside
            && !line.starts_with(char::is_whitespace)
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            let value = value.split(" #").next().unwrap_or_default().trim();
            if !value.is_empty() {
                found.push((key.trim().to_ascii_lowercase(), value.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_its_own_settings_and_no_others() {
        let text = "region = nowhere\n[default]\naws_access_key_id=A\n# region = no\n[profile \"two words\"]\n\
                    Region = eu-central-1 # here\ns3 =\n  region = nested\n[profile  b]\nregion=b\n";
        for (name, expected) in [
            ("default", vec![("aws_access_key_id", "A")]),
            ("profile two words", vec![("region", "eu-central-1")]),
            ("profile b", vec![("region", "b")]),
            ("b", vec![]),
        ] {
            let found = section(text, name);
            let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
