//! Tells addresses of the public internet from those of this machine and the networks around it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 that is not the public internet: network and prefix length (IANA's registry of special-purpose addresses).
const NOT_PUBLIC_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Carriers' own networks, and the metadata service of some clouds.
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Link-local, and the metadata service of most clouds.
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    // Leads to whatever 6to4 relay is near.
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // The metadata service of a cloud that uses a public-looking address.
    ([168, 63, 129, 16], 32),
    // Many receivers at once.
    ([224, 0, 0, 0], 4),
    // Reserved, and everybody on the link.
    ([240, 0, 0, 0], 4),
];

/// What is public of IPv6: one eighth of it, ...
const PUBLIC_V6: (u16, u32) = (0x2000, 3);
/// The exceptions within it: first 32 bits of the network, and the prefix length.
const NOT_PUBLIC_V6: [(u32, u32); 4] = [
    // Protocol assignments. Teredo is among them, and its addresses contain other addresses.
    (0x2001_0000, 23),
    (0x2001_0db8, 32),
    // 6to4: its addresses contain other addresses.
    (0x2002_0000, 16),
    (0x3fff_0000, 20),
];

/// Whether an address belongs to the public internet. An address that contains an IPv4 address counts as that one.
pub fn is_public(address: IpAddr) -> bool {
    match embedded(address).map_or(address, IpAddr::V4) {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|(network, prefix)| {
            starts_alike(address.to_bits(), Ipv4Addr::from_octets(*network).to_bits(), *prefix)
        }),
        IpAddr::V6(address) => {
            let first = (address.to_bits() >> 96) as u32;
            starts_alike(first, u32::from(PUBLIC_V6.0) << 16, PUBLIC_V6.1)
                && !NOT_PUBLIC_V6.iter().any(|(network, prefix)| starts_alike(first, *network, *prefix))
        }
    }
}

/// Addresses, not link-local, of services that answer only this machine and hand out its secrets.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether a service at this address takes every caller for this machine: loopback, link-local, and what clouds tell their
/// machines.
pub fn is_for_this_machine(address: IpAddr) -> bool {
    let address = embedded(address).map_or(address, IpAddr::V4);
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    // The whole network 0.0.0.0/8 is "this host".
    let this_host = matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
    link_local
        || this_host
        || address.is_loopback()
        || address.is_unspecified()
        || METADATA.contains(&address)
}

fn starts_alike(one: u32, other: u32, prefix: u32) -> bool {
    (one ^ other).leading_zeros() >= prefix
}

/// The IPv4 address that an IPv6 address stands for: mapped, of the older compatible form, or behind the translator
/// (`64:ff9b::/96`).
pub fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    const MAPPED: u128 = 0xffff_0000_0000;
    const TRANSLATED: u128 = 0x64_ff9b << 96;
    let IpAddr::V6(address) = address else { return None };
    let bits = address.to_bits();
    let last = Ipv4Addr::from_bits(bits as u32);
    match bits & !u128::from(u32::MAX) {
        MAPPED | TRANSLATED => Some(last),
        // `::` and `::1` are no IPv4 addresses.
        0 if !matches!(address, Ipv6Addr::UNSPECIFIED | Ipv6Addr::LOCALHOST) => Some(last),
        _ => None,
    }
}
