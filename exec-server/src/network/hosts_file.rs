//! The names that the machine's own file gives to addresses (hosts(5)).

use std::net::IpAddr;

/// The addresses that the text of such a file gives to a name in lower case.
pub(super) fn addresses_of(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(said, _)| said));
    let mut addresses = Vec::new();
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        // An address with a scope can't be checked by the address alone.
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        let means = |word: &str| word.strip_suffix('.').unwrap_or(word).eq_ignore_ascii_case(name);
        if words.any(means) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_addresses_of_all_its_lines() {
        let text = "127.0.0.1 localhost\n# 9.9.9.9 a.test\n10.0.0.1\tA.Test. alias # b.test\n\n::1 localhost\n\
                    fe80::1%lo a.test\nwords a.test\n10.0.0.1 a.test\n10.0.0.2 a.test\n10.0.0.3\n";
        for (name, addresses) in [
            ("localhost", &["127.0.0.1", "::1"][..]),
            ("a.test", &["10.0.0.1", "10.0.0.2"]),
            ("alias", &["10.0.0.1"]),
            ("b.test", &[]),
            ("test", &[]),
            ("10.0.0.3", &[]),
        ] {
            let expected: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(addresses_of(text, name), expected, "{name}");
        }
    }
}
