//! What holds for everything that can be written.

use super::*;

/// What a matcher without shortcuts says.
fn slowly(glob: &[u8], name: &[u8], reach: Reach) -> bool {
    let fits = |byte: u8| reach == Reach::Name || byte != b'.';
    match (glob.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            slowly(rest, name, reach)
                || name.split_first().is_some_and(|(byte, behind)| fits(*byte) && slowly(glob, behind, reach))
        }
        (Some((b'?', rest)), Some((byte, behind))) => fits(*byte) && slowly(rest, behind, reach),
        (Some((wanted, rest)), Some((byte, behind))) => wanted == byte && slowly(rest, behind, reach),
        _ => false,
    }
}

proptest! {
    #[test]
    fn an_address_is_the_same_in_all_its_spellings(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = address.octets();
        let low = bits & 0x00ff_ffff;
        for written in [
            address.to_string(), format!("{bits}"), format!("{bits:#x}"), format!("0{bits:o}"), format!("{a}.{low}"),
            format!("{a}.{b}.{}", bits & 0xffff), format!("{a:#x}.0{b:o}.{c}.{d}."), format!("::ffff:{address}"),
            format!("[::ffff:{address}]"), format!("64:ff9b::{address}"),
        ] {
            let host = HostName::parse(&written);
            prop_assert_eq!(host, Ok(HostName::Address(IpAddr::V4(address))), "{}", written);
        }
    }

    #[test]
    fn an_address_is_public_exactly_if_all_that_stand_for_it_are(bits in any::<u32>()) {
        let address = Ipv4Addr::from_bits(bits);
        let public = is_public(address.into());
        prop_assert_eq!(is_public(address.to_ipv6_mapped().into()), public);
        let translated = Ipv6Addr::from_bits((0x64_ff9b << 96) | u128::from(bits));
        prop_assert_eq!(is_public(translated.into()), public);
        if address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
            || address.is_documentation() || address.is_broadcast() || address.is_unspecified()
        {
            prop_assert!(!public);
        }
    }

    #[test]
    fn what_is_read_once_reads_the_same_again(text in "\\PC{0,40}") {
        if let Ok(host) = HostName::parse(&text) {
            prop_assert_eq!(HostName::parse(&host.to_string()), Ok(host.clone()));
            prop_assert_eq!(HostName::parse(&host.in_url()), Ok(host));
        }
    }

    #[test]
    fn a_fast_match_is_a_match(glob in "[ab.*?]{0,8}", name in "[ab.]{0,10}") {
        if let Ok(pattern) = Pattern::parse(&format!("x{glob}"))
            && let Ok(host @ HostName::Name(_)) = HostName::parse(&format!("x{name}"))
            && glob.contains(['*', '?'])
        {
            let glob = format!("x{}", glob.strip_suffix('.').unwrap_or(&glob));
            for reach in [Reach::Label, Reach::Name] {
                let expected = slowly(glob.as_bytes(), host.to_string().as_bytes(), reach);
                prop_assert_eq!(pattern.matches(&host, 1, reach), expected, "{} {}", glob, host);
            }
        }
    }

    #[test]
    fn an_allowance_never_means_more_than_the_same_denial(pattern in "[a*?.]{1,8}", name in "[a.]{1,10}") {
        if let (Ok(pattern), Ok(host)) = (Pattern::parse(&pattern), HostName::parse(&name)) {
            prop_assert!(!pattern.matches(&host, 1, Reach::Label) || pattern.matches(&host, 1, Reach::Name));
        }
    }

    #[test]
    fn nothing_that_is_denied_is_allowed_or_asked_about(
        allow in proptest::collection::vec("[ab*]{1,3}(\\.[ab*]{1,3}){0,2}", 0..5),
        deny in proptest::collection::vec("[ab*]{1,3}(\\.[ab*]{1,3}){0,2}", 0..5),
        name in "[ab]{1,3}(\\.[ab]{1,3}){0,3}",
    ) {
        let rules: Vec<_> = allow.iter().map(|pattern| (pattern.as_str(), DomainRule::Allow))
            .chain(deny.iter().map(|pattern| (pattern.as_str(), DomainRule::Deny)))
            .filter(|(pattern, _)| Pattern::parse(pattern).is_ok())
            .collect();
        let host = HostName::parse(&name).unwrap();
        let said = |wanted: DomainRule, reach| rules.iter().any(|(pattern, rule)| {
            // As a map, the last of two rules for one pattern holds.
            let last = rules.iter().rev().find(|(other, _)| other == pattern);
            *rule == wanted && last.is_some_and(|(_, rule)| *rule == wanted)
                && Pattern::parse(pattern).unwrap().matches(&host, 443, reach)
        });
        let expected = if said(DomainRule::Deny, Reach::Name) {
            Verdict::Refused(Reason::Denied)
        } else if said(DomainRule::Allow, Reach::Label) {
            Verdict::Allowed
        } else {
            Verdict::Undecided
        };
        prop_assert_eq!(judged(&rules, &name, 443), expected);
    }
}
