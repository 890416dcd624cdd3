//! Random profiles on a random tree: nothing that is sent makes a policy wider than its grants.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const PLACES: [&str; 9] = ["", "a", "a/b", "a/b/c", "a/b/c/f", "d", "d/e", "d/e/f", "a/none/x"];

fn tree() -> Place {
    let place = Place::new();
    place.file("a/b/c/f", "1").file("d/e/f", "2").directory("a/.git").directory("tmp");
    place
}

fn entry() -> impl Strategy<Value = (usize, usize)> {
    (0..PLACES.len(), 0..3_usize)
}

fn words((place, access): (usize, usize)) -> Value {
    let shown = if PLACES[place].is_empty() { "@".to_owned() } else { format!("@/{}", PLACES[place]) };
    path(&shown, ["read", "write", "deny"][access])
}

/// How much an access allows.
fn rank(access: Access) -> u8 {
    match access {
        Access::Hidden | Access::Denied => 0,
        Access::Read => 1,
        Access::Write => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_most_specific_entry_decides(entries in prop::collection::vec(entry(), 0..8)) {
        let place = tree();
        let sent: Vec<Value> = entries.iter().copied().map(words).collect();
        let rules = place.rules(&json!(sent), &json!({}));
        for asked in PLACES.iter().filter(|asked| !asked.contains("none")) {
            let asked_path = place.at(asked);
            let above = |(at, _): &&(usize, usize)| asked_path.starts_with(place.at(PLACES[*at]));
            // Of two for one path a denial, then writing.
            let best = entries.iter().filter(above).max_by_key(|(at, access)| (PLACES[*at].len(), *access));
            let expected = best.map_or(Access::Hidden, |(_, access)| [Access::Read, Access::Write, Access::Denied][*access]);
            prop_assert_eq!(at(&rules, &asked_path), expected, "{} under {:?}", asked, sent);
        }
    }

    #[test]
    fn regions_say_the_same_as_the_rules(entries in prop::collection::vec(entry(), 0..8)) {
        let place = tree();
        let sent: Vec<Value> = entries.into_iter().map(words).collect();
        let rules = place.rules(&json!(sent), &json!({"cwd": "@/a"}));
        let regions = rules.regions();
        for asked in PLACES {
            let asked = place.at(asked);
            let region = regions.iter().rev().find(|region| asked.starts_with(&region.path));
            let by_region = region.map_or(rules.base(), |region| region.access);
            prop_assert_eq!(rank(by_region), rank(at(&rules, &asked)), "{:?}", asked);
        }
    }

    #[test]
    fn one_more_denial_or_protection_never_widens(
        entries in prop::collection::vec(entry(), 0..6), denied in 0..PLACES.len()
    ) {
        let place = tree();
        let mut sent: Vec<Value> = entries.into_iter().map(words).collect();
        let before = place.rules(&json!(sent), &json!({}));
        sent.push(words((denied, 2)));
        let after = place.rules(&json!(sent), &json!({"cwd": "@/a"}));
        for asked in PLACES.iter().map(|asked| place.at(asked)).chain([place.at("a/.git/x"), "/etc/passwd".into()]) {
            prop_assert!(rank(at(&after, &asked)) <= rank(at(&before, &asked)), "{:?}", asked);
        }
    }

    #[test]
    fn links_in_writable_trees_never_widen(target in 0..PLACES.len(), access in 0..2_usize) {
        let place = tree();
        place.directory("w").link("w/link", place.at(PLACES[target]).to_str().expect("text"));
        let entries = json!([path("@/w", "write"), path("@/w/link/x", ["read", "write"][access]),
            path("@/w/link", ["read", "write"][access])]);
        let refused = place.try_resolve(&entries, &json!({})).is_err();
        prop_assert!(refused);
    }

    #[test]
    fn any_text_for_a_path_or_a_pattern_is_refused_or_stays_narrow(text in "[a-z./*?\\[\\]{},!\\\\-]{1,20}") {
        let place = tree();
        let denied = place.try_resolve(&json!([special("root", "read"), glob(&format!("@/{text}"))]), &json!({}));
        if let Ok(policy) = denied {
            prop_assert!(rank(policy.files.access_at(&place.at("d/e/f"))) <= 1);
        }
        if let Ok(policy) = place.try_resolve(&json!([path(&format!("@/{text}"), "write")]), &json!({})) {
            prop_assert_eq!(rank(policy.files.access_at(Path::new("/home"))), 0);
            prop_assert_eq!(rank(policy.files.access_at(place.root().parent().expect("a parent"))), 0);
        }
    }
}
