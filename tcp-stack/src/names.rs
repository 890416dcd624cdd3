//! Addresses that stand for names, one for each name of a program.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The range of such IPv4 addresses, 198.18.0.0/15, which is nobody's (RFC 2544).
const FIRST_V4: u32 = 0xc612_0000;
const PREFIX_V4: u32 = 15;
/// The same for IPv6, fdc0:de00::/96, which is local to this machine (RFC 4193).
const FIRST_V6: u128 = 0xfdc0_de00 << 96;
const PREFIX_V6: u32 = 96;

/// Where a program's connection is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// To this host: a name or an address in text.
    Host(String),
    /// To an address of ours that stands for no name.
    Nobody,
}

/// The names that were asked for so far.
#[derive(Debug)]
pub(crate) struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
    most: usize,
}

impl Names {
    /// None yet; at most as many as `most` and the range.
    pub(crate) fn new(most: usize) -> Self {
        Self { numbers: HashMap::new(), names: Vec::new(), most: most.min((1 << (32 - PREFIX_V4)) - 2) }
    }

    /// The number that stands for a name, from 1; none when there are too many names.
    pub(crate) fn number_of(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        if self.names.len() >= self.most {
            return None;
        }
        self.names.push(name.to_owned());
        let number = u32::try_from(self.names.len()).ok()?;
        self.numbers.insert(name.to_owned(), number);
        Some(number)
    }

    /// What an address means.
    pub(crate) fn target(&self, address: IpAddr) -> Target {
        let number = match address {
            IpAddr::V4(address) => within(u32::from(address).into(), FIRST_V4.into(), PREFIX_V4 + 96),
            IpAddr::V6(address) => within(address.into(), FIRST_V6, PREFIX_V6),
        };
        match number {
            None => Target::Host(address.to_string()),
            Some(number) => {
                let name =
                    number.checked_sub(1).and_then(|index| self.names.get(usize::try_from(index).ok()?));
                name.map_or(Target::Nobody, |name| Target::Host(name.clone()))
            }
        }
    }
}

/// The IPv4 address that stands for the name with this number.
pub(crate) fn v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_V4 | number)
}

/// The IPv6 address that stands for the name with this number.
pub(crate) fn v6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from(FIRST_V6 | u128::from(number))
}

/// What is left of an address behind a prefix of so many bits of 128; none for another prefix.
fn within(address: u128, first: u128, prefix: u32) -> Option<u128> {
    let rest = u128::MAX.checked_shr(prefix).unwrap_or(0);
    (address & !rest == first).then_some(address & rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_addresses_and_others_mean_themselves_or_nobody() {
        let mut names = Names::new(300);
        assert_eq!(names.number_of("a.test"), Some(1));
        assert_eq!(names.number_of("b.test"), Some(2));
        assert_eq!(names.number_of("a.test"), Some(1));
        for index in 3..=300 {
            assert_eq!(names.number_of(&format!("n{index}")), Some(index));
        }
        assert_eq!(names.number_of("one.more"), None);
        for (address, target) in [
            ("198.18.0.1", Some("a.test")),
            ("198.18.1.44", Some("n300")),
            ("fdc0:de00::2", Some("b.test")),
            ("198.18.1.45", None),
            ("198.18.0.0", None),
            ("198.19.255.255", None),
            ("fdc0:de00::", None),
            ("fdc0:de00::ffff:1", None),
            ("198.20.0.1", Some("198.20.0.1")),
            ("198.17.0.1", Some("198.17.0.1")),
            ("fdc0:de00::1:0:0:1", Some("fdc0:de00::1:0:0:1")),
            ("::1", Some("::1")),
            ("10.0.0.1", Some("10.0.0.1")),
        ] {
            let expected = target.map_or(Target::Nobody, |host| Target::Host(host.to_owned()));
            assert_eq!(names.target(address.parse().unwrap()), expected, "{address}");
        }
        assert_eq!(v4(300).to_string(), "198.18.1.44");
        assert_eq!(v6(2).to_string(), "fdc0:de00::2");
    }
}
