//! References in code: `(8.4)`, `section 8.4`, `remote.md 9.2`, `docs/network.md`. Each names a page, and sections it has.

use std::collections::{BTreeMap, BTreeSet};

use crate::{pages, tree};

/// Pages that programs look for, and that are none of ours.
const NOT_OURS: [&str; 2] = ["AGENTS.md", "SKILL.md"];

/// A page and the sections of it that are meant.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    page: String,
    sections: Vec<String>,
}

#[test]
fn every_reference_resolves() {
    let pages: BTreeMap<String, BTreeSet<String>> = tree::files(&[".md"])
        .into_iter()
        .map(|(path, page)| {
            let numbers = pages::headings(&page).filter_map(pages::number).map(str::to_owned).collect();
            (path, numbers)
        })
        .collect();
    let (mut count, mut broken) = (0, Vec::new());
    for (path, text) in tree::files(&[".rs", ".toml", ".proto", ".sh"]) {
        if path.ends_with("tidy/references.rs") {
            continue;
        }
        for (line, reference) in references(&path, &text) {
            count += 1;
            let page = [reference.page.clone(), format!("docs/{}", reference.page)]
                .into_iter()
                .find_map(|name| pages.get(&name));
            let fits = page.is_some_and(|has| reference.sections.iter().all(|section| has.contains(section)));
            if !fits {
                broken.push(format!("{path}:{line}: {} {}", reference.page, reference.sections.join(", ")));
            }
        }
    }
    assert!(broken.is_empty(), "{} references resolve to nothing:\n{}", broken.len(), broken.join("\n"));
    assert!(count > 300, "only {count} references were found: does this test still see them?");
}

#[test]
fn nothing_points_outside_of_the_repository() {
    for (path, text) in tree::files(&[".rs", ".toml", ".proto", ".sh", ".md"]) {
        for outside in ["../shared", "/work/shared", "(spec "] {
            let found = !path.ends_with("tidy/references.rs") && text.contains(outside);
            assert!(!found, "{path} points outside of the repository: {outside:?}");
        }
    }
}

/// A file's path, a text in it, and the references in that: pages with their sections.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// What a bare number means in a file: by the names of the file and of the folders it is in.
fn paper_of(path: &str) -> &'static str {
    let parts = || path.split('/').map(|part| part.trim_end_matches(".rs"));
    if parts().any(|part| matches!(part, "remote" | "relay" | "rendezvous" | "registry")) {
        "remote.md"
    } else if parts().any(|part| matches!(part, "login" | "config")) {
        "login.md"
    } else {
        "protocol.md"
    }
}

/// The references of a file, each with its line.
fn references(path: &str, text: &str) -> Vec<(usize, Reference)> {
    let mut found = Vec::new();
    let rust = path.ends_with(".rs") || path.ends_with(".proto");
    for (line, comment) in comments(text, if rust { "//" } else { "#" }) {
        let (named, rest) = named(&comment);
        let sections =
            bare(&rest).into_iter().map(|sections| Reference { page: paper_of(path).into(), sections });
        found.extend(named.into_iter().chain(sections).map(|reference| (line, reference)));
    }
    found
}

/// The comments of a file, each a run of lines, and where it begins.
fn comments(text: &str, mark: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut running, mut example) = (false, false);
    for (at, line) in text.lines().enumerate() {
        let whole = line.trim_start().strip_prefix(mark);
        // An example in a comment is code.
        example ^=
            whole.is_some_and(|comment| comment.trim_start_matches(['/', '!']).trim().starts_with("```"));
        if example {
            continue;
        }
        let behind = || line.split_once(&format!(" {mark} ")).map(|(_, comment)| comment);
        match whole.or_else(behind) {
            Some(comment) => {
                let comment = comment.trim_start_matches(['/', '!', '#']).trim();
                match found.last_mut().filter(|_| running && whole.is_some()) {
                    Some((_, run)) => *run = format!("{run} {comment}"),
                    None => found.push((at + 1, comment.to_owned())),
                }
                running = whole.is_some();
            }
            None => running = false,
        }
    }
    found
}

/// The references that name their page, and the comment without them.
fn named(comment: &str) -> (Vec<Reference>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut left = comment;
    while let Some((before, after)) = left.split_once(".md") {
        let begin = before
            .rfind(|c: char| !c.is_ascii_alphanumeric() && !"_-./".contains(c))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let name = format!("{}.md", before[begin..].trim_start_matches("../"));
        let after = after.trim_start_matches(['`', '"']);
        let (sections, behind) =
            numbers(after.trim_start().trim_start_matches("section").trim_start_matches('s'));
        rest.push_str(&before[..begin]);
        left = if sections.is_empty() { after } else { behind };
        if !NOT_OURS.contains(&name.as_str()) && name != ".md" {
            found.push(Reference { page: name, sections });
        }
    }
    rest.push_str(left);
    (found, rest)
}

/// The references that are numbers only: `(8.4)`, `(2.2, 3)`, `section 8.4`.
fn bare(comment: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for word in ["section ", "sections ", "Section ", "Sections "] {
        found.extend(comment.split(word).skip(1).map(|after| numbers(after).0));
    }
    let opened = comment
        .match_indices('(')
        .filter(|(at, _)| comment[..*at].chars().next_back().is_none_or(char::is_whitespace));
    for (at, _) in opened {
        let (sections, rest) = numbers(&comment[at + 1..]);
        let rest = rest.strip_prefix(" A").or_else(|| rest.strip_prefix(" B")).unwrap_or(rest);
        if rest.starts_with([')', ';', ',']) {
            found.push(sections);
        }
    }
    found.retain(|sections| !sections.is_empty());
    found
}

/// The section numbers that a text begins with, and what follows them.
fn numbers(text: &str) -> (Vec<String>, &str) {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while let Some(number) = number(rest) {
        found.push(number.to_owned());
        rest = &rest[number.len()..];
        let next = [", and ", ", ", " and ", " to "].iter().find_map(|joint| rest.strip_prefix(joint));
        match next.filter(|next| self::number(next).is_some()) {
            Some(next) => rest = next,
            None => break,
        }
    }
    (found, rest)
}

/// The section number that a text begins with: one or two digits, perhaps a dot and one or two more.
fn number(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    let parts: Vec<&str> = number.split('.').collect();
    let fits =
        parts.len() <= 2 && parts.iter().all(|part| matches!(part.len(), 1 | 2) && !part.starts_with('0'));
    let word = text[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '%');
    (fits && !word).then_some(number)
}

#[test]
fn references_are_seen_in_all_their_forms() {
    let here = "exec-server/src/process/act.rs";
    let cases: [Case; 18] = [
        (here, "// As released (8.4).", &[("protocol.md", "8.4")]),
        (
            here,
            "/// Exit (8.6, 15.4) and close (8.3 B).",
            &[("protocol.md", "8.6 15.4"), ("protocol.md", "8.3")],
        ),
        (here, "//! Files (section 10, common rules).", &[("protocol.md", "10")]),
        (here, "// Sections 5 and 15.2 say it.", &[("protocol.md", "5 15.2")]),
        (here, "// (10.1 to 10.6)", &[("protocol.md", "10.1 10.6")]),
        (here, "let x = 1; // asked once (6.3)", &[("protocol.md", "6.3")]),
        (here, "// A frame (`remote.md` 9.1).", &[("remote.md", "9.1")]),
        (here, "// Bounds of `remote.md` sections 4, 7.1 and 8.", &[("remote.md", "4 7.1 8")]),
        (here, "// Given in\n// remote.md 10, registry 1 to 4", &[("remote.md", "10")]),
        (here, "// See docs/network.md.", &[("docs/network.md", "")]),
        (here, "include!(\"x\"); // over ../../README.md", &[("README.md", "")]),
        (
            "login/src/store.rs",
            "// (2.2, 3, `remote.md` 7.4)",
            &[("remote.md", "7.4"), ("login.md", "2.2 3")],
        ),
        ("rendezvous/src/ticket.rs", "// A reason (8.1)", &[("remote.md", "8.1")]),
        ("exec-server/protocol/src/registry.rs", "// (6.1)", &[("remote.md", "6.1")]),
        (here, "// RFC 6455, 5.5 (5.6.7), passwd(5), (0.169), (16 MiB), (128 + n)", &[]),
        (here, "// up to 8.5 times (2 to 3 s)", &[]),
        (here, "// reads AGENTS.md", &[]),
        (here, "let section = (8, 4);", &[]),
    ];
    for (path, text, expected) in cases {
        let seen: Vec<_> = references(path, text)
            .into_iter()
            .map(|(_, reference)| (reference.page, reference.sections.join(" ")))
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(page, sections)| ((*page).to_owned(), (*sections).to_owned())).collect();
        assert_eq!(seen, expected, "{text}");
    }
}
