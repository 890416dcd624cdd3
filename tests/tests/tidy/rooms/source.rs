//! Reads which file of a crate uses which, as far as names tell: no macro is expanded, and tests don't count.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree;

/// A module's name from the crate's root: `["server", "life"]`.
type Path = Vec<String>;

/// The modules of a crate, tests left out.
pub(super) struct Library {
    modules: BTreeMap<Path, Module>,
}

/// One file.
struct Module {
    /// From the crate's `src`.
    file: String,
    /// Without comments, tests and imports.
    code: String,
    imports: Vec<Import>,
}

/// A name that a `use` brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Import {
    path: Path,
    name: String,
    /// Handed on to others.
    public: bool,
}

/// The room that a file is in: its first folder, or itself. The crate's root is in none.
pub(super) fn room(file: &str) -> Option<&str> {
    let first = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    (!matches!(first, "lib" | "main")).then_some(first)
}

impl Library {
    /// Reads a crate's `src`, a path from the top of the repository.
    pub(super) fn read(folder: &str) -> Self {
        let all: BTreeMap<Path, (String, String)> = tree::files(&[".rs"])
            .into_iter()
            .filter_map(|(path, text)| {
                let file = path.strip_prefix(folder)?.strip_prefix('/')?.to_owned();
                Some((module_of(&file), (file, without_tests(&text))))
            })
            .collect();
        let mut modules = BTreeMap::new();
        let mut left = vec![Path::new()];
        while let Some(path) = left.pop() {
            let Some((file, text)) = all.get(&path) else { continue };
            let (code, imports) = without_imports(&without_comments(text));
            left.extend(declared(&code).map(|name| below(&path, &name)));
            modules.insert(path, Module { file: file.clone(), code: without_declarations(&code), imports });
        }
        Self { modules }
    }

    /// The rooms that there are.
    pub(super) fn rooms(&self) -> BTreeSet<&str> {
        self.modules.values().filter_map(|module| room(&module.file)).collect()
    }

    /// Which file uses which, none itself.
    pub(super) fn edges(&self) -> BTreeSet<(&str, &str)> {
        let mut edges = BTreeSet::new();
        for (path, module) in &self.modules {
            let used = self.used(path, module);
            let others = used.into_iter().filter(|other| other != path);
            edges.extend(others.map(|other| (module.file.as_str(), self.modules[&other].file.as_str())));
        }
        edges
    }

    /// The modules that a module uses something of.
    fn used(&self, path: &Path, module: &Module) -> BTreeSet<Path> {
        let mut used = BTreeSet::new();
        for import in &module.imports {
            // What is only handed on is not used here.
            let here = !import.public || words(&module.code).any(|word| word == import.name);
            let Some(target) = self.absolute(path, &import.path).filter(|_| here) else { continue };
            if self.modules.contains_key(&target) {
                let through = paths_from(&module.code, &import.name);
                let precise: Vec<_> =
                    through.iter().filter_map(|rest| self.find(&joined(&target, rest), 0)).collect();
                used.extend(if precise.is_empty() { vec![target] } else { precise });
            } else {
                used.extend(self.find(&target, 0));
            }
        }
        let children =
            self.modules.keys().filter(|other| other.len() == path.len() + 1 && other.starts_with(path));
        let heads = children.filter_map(|child| child.last().cloned());
        for head in heads.chain(["crate", "self", "super"].map(str::to_owned)) {
            for rest in paths_from(&module.code, &head) {
                let written = joined(std::slice::from_ref(&head), &rest);
                used.extend(self.absolute(path, &written).and_then(|target| self.find(&target, 0)));
            }
        }
        used
    }

    /// A path as written in a module, from the crate's root. None if it leads to another crate.
    fn absolute(&self, module: &Path, written: &[String]) -> Option<Path> {
        let (mut at, mut rest) = (module.clone(), written);
        match written.first()?.as_str() {
            "crate" => (at, rest) = (Path::new(), &written[1..]),
            "self" => rest = &written[1..],
            "super" => {}
            first if self.modules.contains_key(&below(module, first)) => {}
            _ => return None,
        }
        while rest.first().is_some_and(|part| part == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        Some(joined(&at, rest))
    }

    /// The module that what is called so stands in, followed through what is handed on.
    fn find(&self, path: &Path, depth: usize) -> Option<Path> {
        let known = (0..=path.len()).rev().find(|&length| self.modules.contains_key(&path[..length]))?;
        let (module, rest) = (path[..known].to_vec(), &path[known..]);
        let Some(name) = rest.first() else { return Some(module) };
        let handed =
            self.modules[&module].imports.iter().find(|import| import.public && import.name == *name);
        match handed.filter(|_| depth < 8).and_then(|import| self.absolute(&module, &import.path)) {
            Some(target) => self.find(&joined(&target, &rest[1..]), depth + 1),
            None => Some(module),
        }
    }
}

fn joined(path: &[String], rest: &[String]) -> Path {
    path.iter().chain(rest).cloned().collect()
}

fn below(path: &[String], name: &str) -> Path {
    joined(path, &[name.to_owned()])
}

/// The module that a file holds.
fn module_of(file: &str) -> Path {
    let mut parts: Path = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The code without what is marked `#[cfg(test)]`: to the brace that closes it, by the indentation.
pub(crate) fn without_tests(text: &str) -> String {
    let (mut kept, mut skipped): (Vec<&str>, Option<String>) = (Vec::new(), None);
    for line in text.lines() {
        let indentation = &line[..line.len() - line.trim_start().len()];
        match &skipped {
            None if line.trim() == "#[cfg(test)]" => skipped = Some(indentation.to_owned()),
            None => kept.push(line),
            Some(begin) => {
                let same = indentation == begin;
                let ends = line.trim() == "}" || line.ends_with(';') || line.ends_with("{}");
                if same && ends {
                    skipped = None;
                }
            }
        }
    }
    kept.join("\n")
}

fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| {
        if line.trim_start().starts_with("//") { "" } else { line.split(" // ").next().unwrap_or_default() }
    });
    code.collect::<Vec<_>>().join("\n")
}

/// The code without its `use` statements, and what these bring in.
fn without_imports(code: &str) -> (String, Vec<Import>) {
    let (mut kept, mut imports) = (String::new(), Vec::new());
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let (public, begun) = match line.trim_start().split_once("use ") {
            Some(("", begun)) => (false, begun),
            Some((visibility, begun)) if is_visibility(visibility) => (true, begun),
            _ => {
                kept.push_str(line);
                kept.push('\n');
                continue;
            }
        };
        let mut statement = begun.to_owned();
        while !statement.contains(';') {
            let Some(line) = lines.next() else { break };
            statement.push_str(line.trim());
        }
        let tree = statement.split(';').next().unwrap_or_default();
        spread(tree, &[], public, &mut imports);
    }
    (kept, imports)
}

fn is_visibility(text: &str) -> bool {
    let text = text.trim();
    text == "pub" || (text.starts_with("pub(") && text.ends_with(')'))
}

/// Every name of a tree such as `a::{b, c::{self, D as E}}`.
fn spread(tree: &str, above: &[String], public: bool, imports: &mut Vec<Import>) {
    let tree = tree.trim();
    let (head, braces) = tree
        .split_once('{')
        .map_or((tree, None), |(head, rest)| (head, rest.rsplit_once('}').map(|(inner, _)| inner)));
    let (head, alias) =
        head.split_once(" as ").map_or((head, None), |(head, alias)| (head, Some(alias.trim())));
    let parts = head.split("::").map(str::trim).filter(|part| !part.is_empty());
    let mut path: Path = above.iter().cloned().chain(parts.map(str::to_owned)).collect();
    if let Some(inner) = braces {
        for part in top_level(inner) {
            spread(part, &path, public, imports);
        }
        return;
    }
    if path.last().is_some_and(|last| matches!(last.as_str(), "self" | "*")) && path.len() > 1 {
        path.pop();
    }
    if let Some(last) = path.last() {
        let name = alias.unwrap_or(last).to_owned();
        imports.push(Import { path, name, public });
    }
}

/// The parts of a list, at commas that stand in no braces.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[begin..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// The code without declarations of modules, and without the paths that visibilities name.
fn without_declarations(code: &str) -> String {
    let kept = code.lines().filter(|line| declared(line).next().is_none());
    kept.map(|line| line.replace("pub(in crate::", "pub(")).collect::<Vec<_>>().join("\n")
}

/// The modules that a file declares as files of their own.
fn declared(code: &str) -> impl Iterator<Item = String> {
    code.lines().filter_map(|line| {
        let (visibility, rest) = line.trim().split_once("mod ")?;
        let name = rest.strip_suffix(';')?;
        (visibility.is_empty() || is_visibility(visibility)).then(|| name.to_owned())
    })
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// What follows a name in the paths that begin with it: `[life, Session]` for `head` of `head::life::Session`.
fn paths_from(code: &str, head: &str) -> Vec<Path> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&format!("{head}::")) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
            continue;
        }
        let rest = &code[at + head.len() + 2..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let parts = rest[..end].split("::").take_while(|part| !part.is_empty());
        found.push(parts.map(|part| part.trim_end_matches(':').to_owned()).collect());
    }
    found
}

#[test]
fn imports_are_read_in_all_their_forms() {
    let cases: [(&str, &[&str]); 7] = [
        ("use crate::server::Session;", &["crate::server::Session"]),
        (
            "use super::{life, session::{self, Session as S}};",
            &["super::life", "super::session", "super::session::Session"],
        ),
        ("pub(crate) use log::OutputLog;", &["log::OutputLog"]),
        ("use super::*;", &["super"]),
        ("let used = 1;", &[]),
        ("// use crate::server::Session;", &[]),
        ("#[cfg(test)]\nuse crate::server::Session;\nuse crate::rpc::Outbox;", &["crate::rpc::Outbox"]),
    ];
    for (text, expected) in cases {
        let (_, imports) = without_imports(&without_comments(&without_tests(text)));
        let seen: Vec<String> = imports.iter().map(|import| import.path.join("::")).collect();
        assert_eq!(seen, expected, "{text}");
    }
}

#[test]
fn paths_in_code_are_seen() {
    let code =
        "let a = crate::server::life::end(); xcrate::no(); b::crate::no(); $crate::no(); crate::Limits { c }";
    let seen: Vec<String> = paths_from(code, "crate").iter().map(|path| path.join("::")).collect();
    assert_eq!(seen, ["server::life::end", "Limits"]);
}

#[test]
fn tests_are_left_out() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}";
    assert_eq!(without_tests(text), "fn a() {}\nfn c() {}\nfn d() {}");
}
