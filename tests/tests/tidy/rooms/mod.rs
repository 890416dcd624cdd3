//! Who knows whom inside of a crate: the imports between its files, held against the table in ARCHITECTURE.md.

pub(crate) mod source;

use std::collections::{BTreeMap, BTreeSet};

use crate::tree;
use source::Library;

/// The crates whose rooms ARCHITECTURE.md lists, with their folders.
const CRATES: [(&str, &str); 5] = [
    ("exec-server", "exec-server/src"),
    ("login", "login/src"),
    ("rendezvous", "rendezvous/src"),
    ("console", "console/src"),
    ("cli", "cli/src"),
];

/// Crates without rooms of their own on that page.
const SMALL_CRATES: [(&str, &str); 12] = [
    ("bring", "bring/src"),
    ("children", "children/src"),
    ("config", "config/src"),
    ("conformance", "conformance/src"),
    ("limits", "limits/src"),
    ("mcp", "mcp/src"),
    ("outgoing", "outgoing/src"),
    ("protocol", "exec-server/protocol/src"),
    ("relay", "relay/src"),
    ("secret", "secret/src"),
    ("tcp-stack", "tcp-stack/src"),
    ("websocket", "websocket/src"),
];

#[test]
fn rooms_use_what_architecture_says() {
    let page = architecture();
    let said = uses(&page);
    let library = Library::read("exec-server/src");
    let real = room_edges(&library);
    let mut wrong = Vec::new();
    for ((room, other), files) in &real {
        if !said.get(room.as_str()).is_some_and(|row| row.contains(other.as_str())) {
            wrong.push(format!("`{room}` uses `{other}`, which its row does not say: {}", files.join(", ")));
        }
    }
    for (room, row) in &said {
        for other in row {
            if !real.contains_key(&((*room).to_owned(), (*other).to_owned())) {
                wrong.push(format!("the row of `{room}` says `{other}`, which it does not use"));
            }
        }
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md, Rooms:\n{}", wrong.join("\n"));
}

#[test]
fn rooms_use_only_rooms_below() {
    let page = architecture();
    let floors = floors(&page);
    let mut wrong = Vec::new();
    for (name, folder) in CRATES {
        let order = floors.get(name).unwrap_or_else(|| panic!("ARCHITECTURE.md, Rooms: no row for {name}"));
        let floor = |room: &str| order.iter().position(|floor| floor.contains(&room));
        let library = Library::read(folder);
        let listed: BTreeSet<&str> = order.iter().flatten().copied().collect();
        for room in library.rooms().symmetric_difference(&listed) {
            wrong.push(format!("{name}: `{room}` is either not there or not in the order"));
        }
        for ((room, other), files) in room_edges(&library) {
            match (floor(&room), floor(&other)) {
                (Some(upper), Some(lower)) if upper <= lower => {}
                (Some(_), Some(_)) => {
                    wrong.push(format!("{name}: `{room}` uses `{other}` above it: {}", files.join(", ")));
                }
                _ => wrong.push(format!("{name}: the order has no `{room}` or no `{other}`")),
            }
        }
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md, Rooms:\n{}", wrong.join("\n"));
}

#[test]
fn no_circle_has_more_than_two_files() {
    let mut found = Vec::new();
    for (name, folder) in CRATES.into_iter().chain(SMALL_CRATES) {
        let circles = circles(&Library::read(folder));
        found.extend(circles.into_iter().map(|circle| format!("{name}: {}", circle.join(", "))));
    }
    assert!(found.is_empty(), "files that all lead to each other:\n{}", found.join("\n"));
}

#[test]
fn crates_use_what_architecture_says() {
    let page = architecture();
    let mut said: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut above: Vec<&str> = Vec::new();
    for cells in rows(&page).filter(|cells| is_package(cells[0])) {
        for name in names(cells[0]) {
            let uses: BTreeSet<&str> = names(cells[1]).into_iter().collect();
            assert!(above.iter().all(|upper| !uses.contains(upper)), "{name} uses a crate above it");
            said.insert(name, uses);
            above.push(name);
        }
    }
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, manifest) in tree::files(&["Cargo.toml"]) {
        let Some(name) = manifest.lines().find_map(|line| line.strip_prefix("name = \"codex-")) else {
            continue;
        };
        let name = format!("codex-{}", name.trim_end_matches('"'));
        let section =
            manifest.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap_or_default();
        let ours = section.lines().filter(|line| line.starts_with("codex-"));
        let used = ours.filter_map(|line| line.split(['.', ' ', '=']).next()).map(str::to_owned);
        // What tests, measures or fuzzes may use everything.
        if !matches!(name.as_str(), "codex-e2e" | "codex-bench" | "codex-fuzz") {
            real.insert(name, used.collect());
        }
    }
    let said: BTreeMap<String, BTreeSet<String>> = said
        .into_iter()
        .map(|(name, uses)| (name.to_owned(), uses.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(said, real, "ARCHITECTURE.md, Rooms: what crates use");
}

#[test]
fn every_static_stands_in_architecture() {
    let page = architecture();
    let section = page.split("\n## ").find(|section| section.starts_with("Process-wide")).expect("a section");
    let mut missing = Vec::new();
    for (path, text) in tree::files(&[".rs"]) {
        // A binary is one process, and tests may share what they like.
        let library = path.contains("/src/") && !path.starts_with("cli/") && !path.starts_with("tests/");
        if !library || path.contains("bench/") || path.contains("/tests") || path.ends_with("testing.rs") {
            continue;
        }
        for line in source::without_tests(&text).lines() {
            let Some((before, rest)) = line.split_once("static ") else { continue };
            let name = rest.split(':').next().unwrap_or_default();
            let declares = before.trim().is_empty() || before.trim().starts_with("pub");
            if declares
                && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                && !section.contains(&format!("`{name}`"))
            {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md, Process-wide state, lacks:\n{}", missing.join("\n"));
}

fn architecture() -> String {
    std::fs::read_to_string(tree::root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// The rows of the section "Rooms", each as its cells.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    let section =
        page.split("\n## ").find(|section| section.starts_with("Rooms\n")).expect("a section Rooms");
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// The names that a cell holds in backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// What each room of exec-server uses: the rows of the first table.
fn uses(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let rows = rows(page).filter(|cells| cells.len() == 2 && !is_crate(cells[0]) && !is_package(cells[0]));
    let rooms = rows.flat_map(|cells| {
        let used: BTreeSet<&str> = names(cells[1]).into_iter().collect();
        names(cells[0]).into_iter().map(move |room| (room, used.clone()))
    });
    rooms.collect()
}

/// The order of each crate's rooms, from top to bottom. Rooms joined by "with" know each other.
fn floors(page: &str) -> BTreeMap<&str, Vec<Vec<&str>>> {
    let mut found: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for cells in rows(page).filter(|cells| cells.len() == 2 && !is_package(cells[0])) {
        let rooms = names(cells[0]);
        if is_crate(cells[0]) {
            found.insert(rooms[0], cells[1].split(", ").map(names).collect());
        } else {
            found.entry("exec-server").or_default().extend(rooms.into_iter().map(|room| vec![room]));
        }
    }
    found
}

/// Whether a row is about a package as its manifest names it, and not about a room.
fn is_package(cell: &str) -> bool {
    names(cell).first().is_some_and(|name| name.starts_with("codex-"))
}

fn is_crate(cell: &str) -> bool {
    names(cell).first().is_some_and(|name| CRATES[1..].iter().any(|(of, _)| of == name))
}

/// The rooms that use each other, with the files that do.
fn room_edges(library: &Library) -> BTreeMap<(String, String), Vec<String>> {
    let mut edges: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (from, to) in library.edges() {
        let rooms = (source::room(from), source::room(to));
        if let (Some(room), Some(other)) = rooms
            && room != other
        {
            let files = edges.entry((room.to_owned(), other.to_owned())).or_default();
            files.push(format!("{from} -> {to}"));
        }
    }
    edges
}

/// Groups of more than two files that all lead to each other.
fn circles(library: &Library) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in library.edges() {
        next.entry(from).or_default().push(to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|file| (*file, reach(file, &next))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, there) in &reached {
        let back = there.iter().filter(|other| reached.get(*other).is_some_and(|from| from.contains(file)));
        let group: Vec<String> = back.map(|&other| other.to_owned()).collect();
        if group.len() > 2 {
            found.insert(group);
        }
    }
    found.into_iter().collect()
}

/// What can be reached from a file over one import or more.
fn reach<'a>(from: &str, next: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(file) = left.pop() {
        for &other in next.get(file).into_iter().flatten() {
            if seen.insert(other) {
                left.push(other);
            }
        }
    }
    seen
}
