//! Finds the skills and plugins below a directory (12.2, 12.3): one walk, and the files that it finds.

mod skill;

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use codex_exec_protocol::discovery::{
    DiscoverResult, PluginFiles, RootFound, RootParams, SkillFiles, SkillsParams, TextFile,
};
use codex_exec_protocol::filesystem::{Walk, WalkKind, WalkOptions, WalkParams};
use codex_exec_protocol::{ErrorCode, Method, RpcError, WirePath};

use super::path::local;
use super::read::open_regular;
use super::{How, PathMethod, PathUse};
use crate::Limits;
use crate::limits::DiscoveryLimits;

/// A skill's instructions.
const SKILL: &str = "SKILL.md";
/// What some skills say beside them.
const METADATA: &str = "agents/openai.yaml";
/// Directories of a plugin that hold its manifest; an earlier one wins.
const MANIFEST_DIRECTORIES: [&str; 3] = [".codex-plugin", ".claude-plugin", ".cursor-plugin"];
const MANIFEST: &str = "plugin.json";
/// Where a plugin declares MCP servers unless its manifest names a file.
const MCP_CONFIG: &str = ".mcp.json";

/// One root of `capabilityRoots/discoverV1`, as a helper is asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanRoot;

impl Method for ScanRoot {
    const NAME: &'static str = "capabilityRoots/discoverV1";
    type Params = RootParams;
    type Result = RootFound;
}

/// One root of `capabilities/discoverV2`, as a helper is asked for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanSkills;

impl Method for ScanSkills {
    const NAME: &'static str = "capabilities/discoverV2";
    type Params = SkillsParams;
    type Result = DiscoverResult;
}

impl PathMethod for ScanRoot {
    /// What can't be read is told in the result.
    fn run(params: &RootParams, limits: &Limits) -> Result<RootFound, RpcError> {
        let path = local(&params.path)?;
        let mut files = Files::below(path, limits)?;
        let manifest = files.manifest_of(path);
        let inherited = match &manifest {
            Some(manifest) => Some((path.to_owned(), manifest.clone())),
            None => {
                path.ancestors().skip(1).find_map(|above| Some((above.to_owned(), files.manifest_of(above)?)))
            }
        };
        let namespace_manifests = files.namespaces(inherited);
        let plugin = manifest.map(|manifest| files.plugin(path, manifest));
        let skills = files.skills();
        let found = RootFound::empty(params.id.clone(), params.path.clone());
        Ok(RootFound { plugin, skills, namespace_manifests, warnings: files.warnings, ..found })
    }

    fn paths(params: &RootParams) -> Vec<PathUse<'_>> {
        vec![How::Sees.of(&params.path)]
    }
}

impl PathMethod for ScanSkills {
    /// Errors: `-32004` where there is no such directory; what can't be read below is told in the result.
    fn run(params: &SkillsParams, limits: &Limits) -> Result<DiscoverResult, RpcError> {
        let mut files = Files::below(local(&params.root.path)?, limits)?;
        let skills = skill::all(&mut files, &params.root);
        Ok(DiscoverResult { plugins: Vec::new(), skills, warnings: files.warnings })
    }

    fn paths(params: &SkillsParams) -> Vec<PathUse<'_>> {
        vec![How::Sees.of(&params.root.path)]
    }
}

/// The files below a root, and what may still be read of them.
struct Files<'l> {
    /// In order of their paths.
    all: Vec<PathBuf>,
    known: HashSet<PathBuf>,
    limits: &'l DiscoveryLimits,
    /// Bytes that may still be read.
    left: usize,
    warnings: Vec<String>,
}

impl<'l> Files<'l> {
    /// # Errors
    /// When the root can't be looked at or is no directory.
    fn below(root: &Path, limits: &'l Limits) -> Result<Self, RpcError> {
        let uri = WirePath::uri_of(root);
        let inspected = std::fs::metadata(root).map_err(|error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorCode::NOT_FOUND,
                _ => ErrorCode::INVALID_REQUEST,
            };
            RpcError::new(code, format!("failed to inspect capability root {uri}: {error}"))
        })?;
        if !inspected.is_dir() {
            return Err(RpcError::invalid_request(format!("capability root {uri} is not a directory")));
        }
        let options = WalkOptions {
            max_depth: limits.files.walk_depth,
            max_directories: limits.files.walk_directories,
            max_entries: limits.files.walk_entries,
            follow_directory_symlinks: true,
            prune_hidden_directories: false,
        };
        let walked = Walk::run(&WalkParams { path: root.to_owned().into(), options, sandbox: None }, limits)?;
        let file = |(path, kind)| match (path, kind) {
            (WirePath::Local(path), WalkKind::File) => Some(path),
            _ => None,
        };
        let mut all: Vec<PathBuf> =
            walked.entries.into_iter().filter_map(|entry| file((entry.path, entry.kind))).collect();
        all.retain(|path| is_of_interest(path));
        all.sort();
        let failed = |error: codex_exec_protocol::filesystem::WalkError| {
            format!("failed to scan capability path {}: {}", shown(&error.path), error.message)
        };
        let mut warnings: Vec<String> = walked.errors.into_iter().map(failed).collect();
        if walked.truncated {
            warnings.push(format!("capability scan reached its traversal limit (root: {uri})"));
        }
        let known = all.iter().cloned().collect();
        Ok(Self {
            all,
            known,
            limits: &limits.discovery,
            left: limits.discovery.capability_root_bytes,
            warnings,
        })
    }

    /// The paths of the skills.
    fn skill_paths(&self) -> Vec<PathBuf> {
        self.all.iter().filter(|path| path.ends_with(SKILL)).cloned().collect()
    }

    fn skills(&mut self) -> Vec<SkillFiles> {
        let paths = self.skill_paths();
        let files = |path: PathBuf| {
            let instructions = self.read(&path)?;
            Some(SkillFiles { instructions, metadata: self.metadata_of(&path) })
        };
        paths.into_iter().filter_map(files).collect()
    }

    /// What a skill says beside its instructions.
    fn metadata_of(&mut self, skill: &Path) -> Option<TextFile> {
        let path = skill.with_file_name(METADATA);
        if self.known.contains(&path) { self.read(&path) } else { None }
    }

    fn manifest_of(&mut self, plugin: &Path) -> Option<TextFile> {
        MANIFEST_DIRECTORIES.iter().find_map(|directory| self.read(&plugin.join(directory).join(MANIFEST)))
    }

    /// The manifests that name what is found: that of the root or the nearest above it, then one for each plugin below.
    fn namespaces(&mut self, inherited: Option<(PathBuf, TextFile)>) -> Vec<TextFile> {
        let mut below: Vec<(PathBuf, usize, PathBuf)> = self
            .all
            .iter()
            .filter_map(|path| {
                let (plugin, rank) = plugin_of(path)?;
                Some((plugin.to_owned(), rank, path.clone()))
            })
            .collect();
        below.sort();
        let (mut seen, mut manifests) = (HashSet::new(), Vec::new());
        if let Some((plugin, manifest)) = inherited {
            seen.insert(plugin);
            manifests.push(manifest);
        }
        for (plugin, _, path) in below {
            if !seen.contains(&plugin)
                && let Some(manifest) = self.read(&path)
            {
                seen.insert(plugin);
                manifests.push(manifest);
            }
        }
        manifests
    }

    fn plugin(&mut self, root: &Path, manifest: TextFile) -> PluginFiles {
        let told: serde_json::Value = serde_json::from_str(&manifest.contents).unwrap_or_default();
        let named = |member: &str| told.get(member)?.as_str().and_then(|path| inside(root, path));
        let mcp = named("mcpServers").unwrap_or_else(|| root.join(MCP_CONFIG));
        let apps = named("apps");
        PluginFiles {
            mcp_config: self.read(&mcp),
            apps_config: apps.and_then(|path| self.read(&path)),
            manifest,
        }
    }

    /// A text within the bounds. A missing one is none; what can't be read is told in the warnings.
    fn read(&mut self, path: &Path) -> Option<TextFile> {
        let most = self.limits.capability_file_bytes;
        match read_text(path, most) {
            Ok(Some(contents)) if contents.len() > self.left => {
                self.warn(format!("capability bundle budget exhausted at {}", WirePath::uri_of(path)))
            }
            Ok(Some(contents)) => {
                self.left -= contents.len();
                Some(TextFile { path: path.to_owned().into(), contents })
            }
            Ok(None) => None,
            Err(why) => self.warn(why),
        }
    }

    fn warn<T>(&mut self, why: String) -> Option<T> {
        self.warnings.push(why);
        None
    }
}

/// # Errors
/// A sentence, unless the file is missing.
fn read_text(path: &Path, most: usize) -> Result<Option<String>, String> {
    let uri = || WirePath::uri_of(path);
    let (file, size) = match open_regular(path, true) {
        Ok(opened) => opened,
        Err(error) if error.code == ErrorCode::NOT_FOUND => return Ok(None),
        Err(error) => return Err(format!("failed to read capability file {}: {}", uri(), error.message)),
    };
    // With room for all of it, two reads do: a file's usual size would take eight otherwise, and there are thousands.
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(most).min(most) + 1);
    let read = std::fs::File::from(file).take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("failed to read capability file {}: {error}", uri()))?;
    if bytes.len() > most {
        return Err(format!("capability file {} exceeds {most} bytes", uri()));
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| format!("capability file {} is not valid UTF-8", uri()))
}

fn is_of_interest(path: &Path) -> bool {
    path.ends_with(SKILL) || path.ends_with(METADATA) || plugin_of(path).is_some()
}

/// The plugin that a manifest is of, and how far its place stands behind others.
fn plugin_of(path: &Path) -> Option<(&Path, usize)> {
    if path.file_name()? != MANIFEST {
        return None;
    }
    let directory = path.parent()?;
    let rank = MANIFEST_DIRECTORIES
        .iter()
        .position(|known| directory.file_name().is_some_and(|name| name == *known))?;
    Some((directory.parent()?, rank))
}

/// A path that a manifest names, if it stays inside of the plugin.
fn inside(root: &Path, named: &str) -> Option<PathBuf> {
    let stays = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let named = Path::new(named);
    (named.components().count() > 0 && named.components().all(stays))
        .then(|| root.join(named).components().collect())
}

fn shown(path: &WirePath) -> String {
    match path {
        WirePath::Local(path) => WirePath::uri_of(path),
        WirePath::Foreign(text) => text.clone(),
    }
}
