//! What a skill says of itself: the front matter of its `SKILL.md`, and `agents/openai.yaml` beside it (12.3).

use std::path::{Path, PathBuf};

use codex_exec_protocol::WirePath;
use codex_exec_protocol::discovery::{DiscoveryRoot, Skill, SkillPolicy};
use serde::Deserialize;
use serde_json::Value;

use super::Files;

/// What stands between the first two `---` of a `SKILL.md`.
#[derive(Debug, Default, Deserialize)]
struct FrontMatter {
    name: Option<String>,
    description: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "short-description")]
    short_description: Option<String>,
}

/// What this program reads of `agents/openai.yaml`.
#[derive(Debug, Default, Deserialize)]
struct Openai {
    interface: Option<Interface>,
    dependencies: Option<Dependencies>,
    policy: Option<Policy>,
}

#[derive(Debug, Default, Deserialize)]
struct Interface {
    short_description: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Dependencies {
    #[serde(default)]
    tools: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Policy {
    allow_implicit_invocation: Option<bool>,
    #[serde(default)]
    products: Vec<Value>,
}

/// The skills below a root that say what they are, in order of their paths.
pub(super) fn all(files: &mut Files<'_>, root: &DiscoveryRoot) -> Vec<Skill> {
    let paths = files.skill_paths();
    paths.into_iter().filter_map(|path| skill(files, root, path)).collect()
}

fn skill(files: &mut Files<'_>, root: &DiscoveryRoot, path: PathBuf) -> Option<Skill> {
    let text = files.read(&path)?;
    let bad = |why: &str| format!("skill {} is left out: {why}", WirePath::uri_of(&path));
    let FrontMatter { name, description, metadata } = match front_matter(&text.contents) {
        Ok(found) => found,
        Err(why) => return files.warn(bad(&why)),
    };
    let Some(description) = description.map(|text| line(&text)).filter(|text| !text.is_empty()) else {
        return files.warn(bad("it has no description"));
    };
    let name = name.map(|text| line(&text)).filter(|text| !text.is_empty()).or_else(|| directory_name(&path));
    let Some(name) = name else { return files.warn(bad("it has no name")) };
    let Openai { interface, dependencies, policy } = openai(files, &path);
    let short = interface
        .and_then(|interface| interface.short_description)
        .or_else(|| metadata.and_then(|metadata| metadata.short_description));
    Some(Skill {
        name,
        description,
        short_description: short.map(|text| line(&text)),
        path: path.into(),
        discovery_root: root.clone(),
        dependencies: dependencies.map(|Dependencies { tools }| serde_json::json!({"tools": tools})),
        policy: policy.map(|Policy { allow_implicit_invocation, products }| SkillPolicy {
            allow_implicit_invocation,
            products,
        }),
    })
}

/// # Errors
/// A sentence.
fn front_matter(text: &str) -> Result<FrontMatter, String> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    if rest.next().map(str::trim_end) != Some("---") {
        return Err("it does not begin with a line `---`".into());
    }
    let mut matter = String::new();
    for line in rest {
        if line.trim_end() == "---" {
            return yaml(&matter);
        }
        matter.push_str(line);
        matter.push('\n');
    }
    Err("its front matter has no end".into())
}

fn openai(files: &mut Files<'_>, skill: &Path) -> Openai {
    let Some(file) = files.metadata_of(skill) else { return Openai::default() };
    yaml(&file.contents).unwrap_or_else(|why| {
        let uri = WirePath::uri_of(&skill.with_file_name(super::METADATA));
        files.warnings.push(format!("metadata {uri} is not read: {why}"));
        Openai::default()
    })
}

/// # Errors
/// A sentence in one line.
fn yaml<T: Default + for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    serde_saphyr::from_str(text).map_err(|error| line(&error.to_string()))
}

/// A text as one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn directory_name(skill: &Path) -> Option<String> {
    Some(skill.parent()?.file_name()?.to_str()?.to_owned())
}
