//! The order of claims, sums and lists, and what a silent node leaves behind, all without a clock or a socket.

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn node(at: u8) -> NodeId {
    NodeId::from_bytes([at; NodeId::LENGTH])
}

fn claim(environment: &str, generation: u64, attachment: u64) -> Claim {
    Claim {
        environment: environment.to_owned(),
        registration: format!("r{generation}"),
        generation,
        attachment,
    }
}

fn digest(tally: Tally) -> Digest {
    Digest { tally, url: "http://n".to_owned(), leaving: false, levels: Levels::default(), tokens: 0 }
}

#[test]
fn the_later_registration_wins_then_the_later_socket_whatever_the_order_of_the_news() {
    let claims = [(node(1), claim("e", 5, 9)), (node(2), claim("e", 6, 1)), (node(3), claim("e", 6, 2))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut table = Table::new(node(9));
        for at in order {
            let (node, claim) = &claims[at];
            table.note(*node, claim, true, NOW);
        }
        assert_eq!(table.find("e"), Some(Some(node(3))), "{order:?}");
        assert!(!table.is_newest("e", 5) && table.is_newest("e", 6));
        assert_eq!(table.tally(node(1)), Tally::default());
        assert_eq!(table.tally(node(3)).count, 1);
    }
}

#[test]
fn what_is_here_gives_way_to_what_is_newer_elsewhere_only() {
    let mut table = Table::new(node(1));
    let mine = table.claim_attached("e", "r5", 5, NOW);
    for (theirs, attached, verdict) in [
        (claim("e", 4, u64::MAX), true, Verdict::Noted),
        (claim("e", 5, mine.attachment - 1), true, Verdict::Noted),
        (claim("e", 5, mine.attachment + 1), true, Verdict::Supersedes),
        (claim("e", 6, 0), false, Verdict::Noted),
    ] {
        assert_eq!(table.note(node(2), &theirs, attached, NOW), verdict, "{theirs:?}");
    }
    table.claim_attached("f", "r5", 5, NOW);
    assert_eq!(table.note(node(2), &claim("f", 6, 0), false, NOW), Verdict::Supersedes);
    assert_eq!(table.give_up("f", "r5", NOW), None, "it is not ours any more");
    assert_eq!(table.tally(node(1)), Tally::default());
}

#[test]
fn a_node_that_missed_a_newer_registration_is_told() {
    let mut table = Table::new(node(1));
    table.note(node(2), &claim("e", 6, 0), false, NOW);
    assert_eq!(table.note(node(3), &claim("e", 5, 7), true, NOW), Verdict::Outdated(claim("e", 6, 0)));
    assert_eq!(table.note(node(3), &claim("e", 5, 0), false, NOW), Verdict::Noted);
}

#[test]
fn generations_and_attachments_grow_though_the_clock_stands_or_goes_back() {
    let mut table = Table::new(node(1));
    let later = milliseconds(NOW) + 1_000;
    table.note(node(2), &claim("e", later, later), true, NOW);
    assert_eq!(table.next_generation("e", NOW), later + 1);
    assert_eq!(table.next_generation("other", NOW), milliseconds(NOW));
    let registration = format!("r{later}");
    assert_eq!(table.claim_attached("e", &registration, later, NOW).attachment, later + 1);
}

#[test]
fn sums_tell_whether_lists_differ_and_a_list_makes_them_the_same() {
    let (mut ours, mut theirs) = (Table::new(node(1)), Table::new(node(2)));
    for environment in ["a", "b", "c"] {
        theirs.claim_attached(environment, "r", 1, NOW);
    }
    assert_eq!(ours.hear(node(2), 1, NOW), Some(true));
    assert_eq!(ours.digest(node(2), &digest(theirs.tally(node(2)))), Sync::Differs);
    // One that they have lost since.
    ours.note(node(2), &claim("z", 1, 1), true, NOW);
    let (mut after, mut listed) = (String::new(), BTreeSet::new());
    loop {
        let (claims, more) = theirs.list(&after, 2);
        for claim in claims {
            ours.note(node(2), &claim, true, NOW);
            after.clone_from(&claim.environment);
            listed.insert(claim.environment);
        }
        if !more {
            break;
        }
    }
    ours.keep_only(node(2), &listed, NOW);
    assert_eq!(ours.digest(node(2), &digest(theirs.tally(node(2)))), Sync::Same);
    assert_eq!(ours.find("z"), Some(None), "known, and away");
    let lost = theirs.give_up("a", "r", NOW).unwrap();
    assert_eq!(ours.digest(node(2), &digest(theirs.tally(node(2)))), Sync::Differs);
    ours.lost(node(2), &lost, NOW);
    assert_eq!(ours.digest(node(2), &digest(theirs.tally(node(2)))), Sync::Same);
}

#[test]
fn a_silent_node_is_forgotten_and_what_it_had_is_away() {
    let mut table = Table::new(node(1));
    table.hear(node(2), 1, NOW);
    table.hear(node(3), 1, NOW + SILENCE);
    table.note(node(2), &claim("e", 1, 1), true, NOW);
    let later = NOW + SILENCE + Duration::from_secs(1);
    assert_eq!(table.silent(later), [node(2)]);
    assert!(table.forget(node(2), later) && !table.forget(node(2), later));
    assert_eq!((table.find("e"), table.find("f"), table.others()), (Some(None), None, 1));
    table.sweep(Duration::from_secs(60), later);
    assert!(table.find("e").is_some());
    table.sweep(Duration::from_secs(60), later + Duration::from_secs(61));
    assert_eq!(table.find("e"), None);
}

#[test]
fn messages_that_were_heard_before_are_not_heard_again() {
    let mut table = Table::new(node(1));
    for (counter, heard) in [(5, Some(true)), (5, None), (4, None), (6, Some(false)), (6, None)] {
        assert_eq!(table.hear(node(2), counter, NOW), heard, "{counter}");
    }
    assert_eq!(table.hear(node(1), 9, NOW), None, "our own");
}

#[test]
fn callers_are_sent_to_the_node_that_stays_and_has_least() {
    let mut table = Table::new(node(1));
    assert_eq!(table.another(), None);
    for (at, executors, leaving) in [(2, 0, true), (3, 7, false), (4, 3, false)] {
        table.hear(node(at), 1, NOW);
        assert_ne!(table.another(), Some(""), "a node is of no use before its address is known");
        let levels = Levels { executors, ..Levels::default() };
        table.digest(
            node(at),
            &Digest { url: format!("http://{at}"), leaving, levels, ..digest(Tally::default()) },
        );
    }
    assert_eq!(table.another(), Some("http://4"));
}

#[test]
fn a_hundred_thousand_environments_are_taken_over_by_lists() {
    let mut theirs = Table::new(node(2));
    for at in 0..100_000 {
        theirs.claim_attached(&format!("environment-{at}"), "7b5d9f2c-0000-4000-8000-000000000000", 1, NOW);
    }
    let mut ours = Table::new(node(1));
    let (mut after, mut listed, mut pages) = (String::new(), BTreeSet::new(), 0);
    loop {
        let (claims, more) = theirs.list(&after, 2_000);
        pages += 1;
        for claim in claims {
            ours.note(node(2), &claim, true, NOW);
            after.clone_from(&claim.environment);
            listed.insert(claim.environment);
        }
        if !more {
            break;
        }
    }
    ours.keep_only(node(2), &listed, NOW);
    assert_eq!((pages, ours.tally(node(2))), (50, theirs.tally(node(2))));
}
