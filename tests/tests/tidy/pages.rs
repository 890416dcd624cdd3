//! The pages: their sections count without gaps, links lead somewhere, examples are JSON, and every method stands in one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Deserializer, Value};

use crate::tree;

/// The headings of a page, without those in code blocks.
pub(crate) fn headings(page: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    page.lines().filter_map(move |line| {
        code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        (!code && title.len() < line.len()).then(|| title.strip_prefix(' ')).flatten()
    })
}

/// The number that a heading begins with: `8` of `8. Programs`, `8.4` of `8.4 Writing`.
pub(crate) fn number(heading: &str) -> Option<&str> {
    let word = heading.split(' ').next()?.trim_end_matches('.');
    let is_number = !word.is_empty() && word.split('.').all(|part| part.parse::<u32>().is_ok());
    is_number.then_some(word)
}

/// What a heading is called in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn sections_of_a_paper_count_without_gaps() {
    for name in ["protocol", "remote", "login"] {
        let page = page(&format!("docs/{name}.md"));
        let (mut chapter, mut section) = (0, 0);
        for number in headings(&page).filter_map(number) {
            match number.split_once('.') {
                None => (chapter, section) = (chapter + 1, 0),
                Some(_) => section += 1,
            }
            let expected = if section == 0 { chapter.to_string() } else { format!("{chapter}.{section}") };
            assert_eq!(number, expected, "docs/{name}.md");
        }
        assert!(chapter > 10, "docs/{name}.md has {chapter} chapters");
    }
}

/// A file and a test in it, in backticks, wherever a page claims that something is held.
#[test]
fn every_test_that_a_page_names_is_there() {
    let sources = tree::files(&[".rs"]);
    let page = page("docs/parity.md");
    let named: BTreeSet<&str> =
        page.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect();
    assert!(named.len() > 40, "{named:?}");
    let mut missing = Vec::new();
    for name in named {
        let (file, test) = name.rsplit_once("::").expect("just seen");
        let begun = format!("fn {test}(");
        let file = format!("{}.rs", file.replace("::", "/"));
        let is_there = |(path, text): &(String, String)| {
            let text = text.as_str();
            path.replace("/src/", "/").replace("/mod.rs", ".rs").ends_with(&file) && text.contains(&begun)
        };
        if !sources.iter().any(is_there) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "docs/parity.md names tests that are not there: {missing:?}");
}

#[test]
fn every_link_leads_somewhere() {
    let pages: BTreeMap<String, String> = tree::files(&[".md"]).into_iter().collect();
    let mut broken = Vec::new();
    for (path, page) in &pages {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in links(page) {
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { joined(folder, file) };
            let there = tree::root().join(&file).exists();
            let named = fragment.is_empty()
                || pages.get(&file).is_some_and(|page| headings(page).any(|h| anchor(h) == fragment));
            if !there || !named {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn examples_are_json() {
    for (path, page) in tree::files(&[".md"]) {
        for (at, block) in blocks(&page, "json") {
            let parsed: Result<Vec<Value>, _> = Deserializer::from_str(&block).into_iter().collect();
            assert!(parsed.is_ok(), "{path}, code block at line {at}: {parsed:?}");
        }
    }
}

#[test]
fn every_method_stands_in_a_page() {
    let pages: String = ["docs/protocol.md", "docs/extensions.md"].map(page).concat();
    let methods = methods();
    assert!(methods.len() > 30, "only {methods:?}");
    let missing: Vec<_> = methods.iter().filter(|name| !pages.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "neither docs/protocol.md nor docs/extensions.md has {missing:?}");
}

/// The names in the protocol crate's tables of methods and notifications: `Start: "process/start" (`.
fn methods() -> BTreeSet<String> {
    let sources = tree::files(&[".rs"]);
    let words = sources.iter().filter(|(path, _)| path.starts_with("exec-server/protocol/src/"));
    let lines = words.flat_map(|(_, text)| text.lines());
    lines
        .filter_map(|line| {
            let (_, rest) = line.trim().split_once(": \"")?;
            let (name, rest) = rest.split_once('"')?;
            rest.starts_with(" (").then(|| name.to_owned())
        })
        .collect()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(tree::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The targets of a page's links, but for those to other sites.
fn links(page: &str) -> Vec<&str> {
    let found = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    found.filter(|target| !target.contains("://") && !target.contains(' ')).collect()
}

/// A path as a page in `folder` names it, from the top.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The code blocks of a language, each with the line it begins at.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in page.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(word)) if word == language => open = Some((at + 1, String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    found
}
