//! Leaves an administrator what concerns files and users, and takes what could undo the rest.

use std::io;

use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// What stays, of what was there: changing owners and users, and passing over file modes, which no file rule minds.
pub(super) const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID);

/// Drops everything else, now and for every program that is executed later.
pub(super) fn drop_dangerous() -> io::Result<()> {
    let held = thread::capabilities(None)?;
    if held.permitted.is_empty() {
        return Ok(());
    }
    thread::clear_ambient_capability_set()?;
    // Only who may set capabilities can shrink the bounding set; anybody else can't regain any, with no new privileges.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if KEPT.contains(one) {
                continue;
            }
            match thread::remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // The kernel knows no further ones.
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    let kept = held.permitted & KEPT;
    let sets = CapabilitySets {
        effective: held.effective & kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(thread::set_capabilities(None, sets)?)
}
