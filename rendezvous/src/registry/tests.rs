//! Registrations, offers and authorizations in virtual time.

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn key(seed: u8) -> PublicKey {
    PublicKey { x25519: [seed; 32], mlkem768: Box::new([seed; 1184]) }
}

fn owner(name: &str) -> TokenHash {
    TokenHash::of(name)
}

fn registry() -> Registry {
    let limits = Limits::default().with(|limits| {
        limits.callers.environments = 2;
        limits.callers.authorizations = 3;
        limits.callers.ticket_life = Duration::from_secs(60);
        limits.callers.retention = Duration::from_secs(1000);
    });
    Registry::new(&limits)
}

/// Whether an executor is told that this authorization is good.
fn is_valid(
    registry: &mut Registry,
    environment: &str,
    registration: &str,
    harness: u8,
    authorization: &str,
    now: Duration,
) -> bool {
    registry.validate(Presented { environment, registration, harness: &key(harness), authorization }, now)
}

/// A registry with `env` registered by key 1 and attached, and its registration.
fn attached() -> (Registry, String) {
    let mut registry = registry();
    let registered = registry.register("env", Some(key(1)), &owner("o"), 0, NOW).unwrap();
    let registration = registered.record.registration;
    registry.set_attached("env", &registration, true, NOW);
    (registry, registration)
}

#[test]
fn the_newest_registration_wins_and_tickets_of_older_ones_are_worth_nothing() {
    let mut registry = registry();
    let first = registry.register("env", Some(key(1)), &owner("o"), 0, NOW).unwrap();
    assert!(first.replaced.is_none());
    assert!(registry.is_ticket("env", &first.record.registration, first.ticket.expose()));
    let second = registry.register("env", Some(key(1)), &owner("o"), 0, NOW).unwrap();
    assert_eq!(second.replaced.as_ref(), Some(&first.record.registration));
    for (environment, registration, ticket, good) in [
        ("env", &second.record.registration, second.ticket.expose(), true),
        ("env", &first.record.registration, first.ticket.expose(), false),
        ("env", &second.record.registration, first.ticket.expose(), false),
        ("env", &first.record.registration, second.ticket.expose(), false),
        ("other", &second.record.registration, second.ticket.expose(), false),
    ] {
        assert_eq!(registry.is_ticket(environment, registration, ticket), good);
    }
}

#[test]
fn an_offer_needs_an_executor_that_is_there_and_has_a_key() {
    let mut registry = registry();
    assert_eq!(registry.connect("env", &key(9), NOW).unwrap_err(), NoOffer::Unknown);
    let registered = registry.register("env", Some(key(1)), &owner("o"), 0, NOW).unwrap();
    assert_eq!(registry.connect("env", &key(9), NOW).unwrap_err(), NoOffer::Away);
    registry.set_attached("env", "an older registration", true, NOW);
    assert_eq!(registry.connect("env", &key(9), NOW).unwrap_err(), NoOffer::Away);
    registry.set_attached("env", &registered.record.registration, true, NOW);
    let offer = registry.connect("env", &key(9), NOW).unwrap();
    assert_eq!((offer.registration, offer.key), (registered.record.registration, key(1)));
    assert!(offer.authorization.expose().len() >= 40 && offer.authorization.expose().len() <= 4096);
    registry.register("plain", None, &owner("o"), 0, NOW).unwrap();
    assert_eq!(registry.connect("plain", &key(9), NOW).unwrap_err(), NoOffer::Plain);
}

#[test]
fn an_authorization_is_good_once_for_its_key_and_registration_and_not_for_long() {
    let soon = NOW + Duration::from_secs(59);
    let late = NOW + Duration::from_secs(60);
    for (environment, right_registration, harness, right_text, now, valid) in [
        ("env", true, 9, true, NOW, true),
        ("env", true, 9, true, soon, true),
        ("env", true, 9, true, late, false),
        ("env", true, 8, true, NOW, false),
        ("env", true, 9, false, NOW, false),
        ("env", false, 9, true, NOW, false),
        ("other", true, 9, true, NOW, false),
    ] {
        let (mut registry, registration) = attached();
        let offer = registry.connect("env", &key(9), NOW).unwrap();
        let registration = if right_registration { &registration } else { "reg" };
        let text = if right_text { offer.authorization.expose() } else { "guess" };
        let mut ask = || is_valid(&mut registry, environment, registration, harness, text, now);
        assert_eq!(ask(), valid);
        assert!(!ask(), "used up");
    }
}

#[test]
fn a_stranger_who_asks_with_another_key_uses_nothing_up() {
    let (mut registry, registration) = attached();
    let offer = registry.connect("env", &key(9), NOW).unwrap();
    assert!(!is_valid(&mut registry, "env", &registration, 8, offer.authorization.expose(), NOW));
    assert!(is_valid(&mut registry, "env", &registration, 9, offer.authorization.expose(), NOW));
}

#[test]
fn a_new_registration_forgets_the_authorizations_of_the_old() {
    let (mut registry, registration) = attached();
    let offer = registry.connect("env", &key(9), NOW).unwrap();
    let newer = registry.register("env", Some(key(1)), &owner("o"), 0, NOW).unwrap().record.registration;
    assert!(!is_valid(&mut registry, "env", &registration, 9, offer.authorization.expose(), NOW));
    assert!(!is_valid(&mut registry, "env", &newer, 9, offer.authorization.expose(), NOW));
}

#[test]
fn only_so_many_authorizations_wait_and_the_oldest_goes_first() {
    let (mut registry, registration) = attached();
    let offers: Vec<_> = (0..4).map(|_| registry.connect("env", &key(9), NOW).unwrap()).collect();
    let valid: Vec<_> = offers
        .iter()
        .map(|offer| is_valid(&mut registry, "env", &registration, 9, offer.authorization.expose(), NOW))
        .collect();
    assert_eq!(valid, [false, true, true, true]);
}

#[test]
fn a_token_with_too_many_environments_loses_the_one_longest_away_but_none_in_use() {
    let mut registry = registry();
    let mut register = |id: &str, seconds| {
        let registered = registry.register(id, None, &owner("o"), 0, NOW + Duration::from_secs(seconds));
        registered.map(|registered| {
            let forgotten = registered.forgotten.map(|record| record.environment);
            (registered.record.registration, forgotten)
        })
    };
    let (first, _) = register("a", 0).unwrap();
    register("b", 1).unwrap();
    assert_eq!(register("c", 2).unwrap().1.as_deref(), Some("a"));
    let _ = first;
    assert_eq!(register("b", 3).unwrap().1, None, "known already");
    assert_eq!(register("d", 4).unwrap().1.as_deref(), Some("c"));
    assert!(registry.register("other", None, &owner("another"), 0, NOW).is_some());
    for id in ["b", "d"] {
        let registration = registry.current(id).unwrap().registration.clone();
        registry.set_attached(id, &registration, true, NOW);
    }
    assert!(registry.register("e", None, &owner("o"), 0, NOW).is_none());
    assert_eq!((registry.len(), registry.attached()), (3, 2));
}

#[test]
fn environments_without_an_executor_are_forgotten_in_the_end() {
    let (mut registry, registration) = attached();
    registry.register("away", None, &owner("o"), 0, NOW).unwrap();
    let later = NOW + Duration::from_secs(1001);
    let forgotten: Vec<_> = registry.sweep(later).into_iter().map(|record| record.environment).collect();
    assert_eq!(forgotten, ["away"]);
    registry.set_attached("env", &registration, false, later);
    assert!(registry.sweep(later + Duration::from_secs(1000)).is_empty());
    assert_eq!(registry.sweep(later + Duration::from_secs(1001)).len(), 1);
    assert!(registry.is_empty());
}

#[test]
fn what_was_stored_comes_back_with_its_ticket_and_shows_no_secret() {
    let mut first = registry();
    let registered = first.register("env", Some(key(1)), &owner("o"), 0, NOW).unwrap();
    let stored = serde_json::to_string(&registered.record).unwrap();
    assert!(!stored.contains(registered.ticket.expose()));
    let mut second = registry();
    second.restore(serde_json::from_str(&stored).unwrap(), NOW);
    assert!(second.is_ticket("env", &registered.record.registration, registered.ticket.expose()));
    assert_eq!(second.connect("env", &key(9), NOW).unwrap_err(), NoOffer::Away);
    assert!(!format!("{second:?}").contains(registered.ticket.expose()));
}
