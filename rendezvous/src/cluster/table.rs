//! The table of who has which environment. A state machine: no sockets, and the time is handed in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::directory::{NodeStatus, Place};
use super::message::{Claim, Digest, Tally, Version, milliseconds};
use crate::metrics::Levels;
use crate::node_id::NodeId;

/// A node that is silent for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// What a node knows of all.
#[derive(Debug)]
pub(super) struct Table {
    me: NodeId,
    environments: BTreeMap<Box<str>, Entry>,
    /// What each node has, this one included.
    tallies: HashMap<NodeId, Tally>,
    nodes: HashMap<NodeId, Node>,
}

/// The newest that is known of an environment.
#[derive(Debug)]
struct Entry {
    registration: Box<str>,
    version: Version,
    attached: bool,
    /// When it was last attached, or registered.
    seen: Duration,
}

/// Another node.
#[derive(Debug)]
struct Node {
    url: String,
    leaving: bool,
    levels: Levels,
    heard: Duration,
    /// The place of its last announcement in the order of its messages.
    counter: u64,
}

/// What follows from a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is to be done.
    Noted,
    /// It replaces what this node has.
    Supersedes,
    /// Its node has an executor of an older registration than this one, and nobody else would tell.
    Outdated(Claim),
}

/// What follows from a digest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// The table has what the node has.
    Same,
    /// The node's list has to be asked for.
    Differs,
}

impl Table {
    pub(super) fn new(me: NodeId) -> Self {
        Self { me, environments: BTreeMap::new(), tallies: HashMap::new(), nodes: HashMap::new() }
    }

    /// The generation of a registration made now: more than any that is known.
    pub(super) fn next_generation(&self, environment: &str, now: Duration) -> u64 {
        let known = self.environments.get(environment).map_or(0, |entry| entry.version.generation);
        milliseconds(now).max(known.saturating_add(1))
    }

    /// Whether no newer registration is known.
    pub(super) fn is_newest(&self, environment: &str, generation: u64) -> bool {
        self.environments.get(environment).is_none_or(|entry| entry.version.generation <= generation)
    }

    /// A claim for a socket that is here now.
    pub(super) fn claim_attached(
        &mut self,
        environment: &str,
        registration: &str,
        generation: u64,
        now: Duration,
    ) -> Claim {
        let known = self.environments.get(environment).filter(|entry| entry.version.generation == generation);
        let known = known.map_or(0, |entry| entry.version.attachment);
        let attachment = milliseconds(now).max(known.saturating_add(1));
        let claim = Claim {
            environment: environment.to_owned(),
            registration: registration.to_owned(),
            generation,
            attachment,
        };
        self.note(self.me, &claim, true, now);
        claim
    }

    /// The claim of this node for an executor, which is given up.
    pub(super) fn give_up(&mut self, environment: &str, registration: &str, now: Duration) -> Option<Claim> {
        let entry = self.environments.get(environment)?;
        if entry.version.node != self.me || !entry.attached || *entry.registration != *registration {
            return None;
        }
        let claim = claim(environment, entry);
        self.lost(self.me, &claim, now);
        Some(claim)
    }

    /// Takes a claim of a node: that it has the executor (`attached`), or that it made the registration.
    pub(super) fn note(&mut self, node: NodeId, claim: &Claim, attached: bool, now: Duration) -> Verdict {
        let version = claim.version(node);
        let mut verdict = Verdict::Noted;
        if let Some(entry) = self.environments.get(claim.environment.as_str()) {
            if entry.version > version || (entry.version == version && entry.attached == attached) {
                let outdated = attached && !entry.attached && entry.version.generation > version.generation;
                let newer = || Claim { attachment: 0, ..self::claim(&claim.environment, entry) };
                return if outdated { Verdict::Outdated(newer()) } else { Verdict::Noted };
            }
            if entry.attached {
                let old = self::claim(&claim.environment, entry);
                let owner = entry.version.node;
                if owner == self.me && node != self.me {
                    verdict = Verdict::Supersedes;
                }
                self.count(owner, &old, false);
            }
        }
        if attached {
            self.count(node, claim, true);
        }
        let entry = Entry { registration: claim.registration.as_str().into(), version, attached, seen: now };
        match self.environments.get_mut(claim.environment.as_str()) {
            Some(known) => *known = entry,
            None => drop(self.environments.insert(claim.environment.as_str().into(), entry)),
        }
        verdict
    }

    /// A node has the executor no more.
    pub(super) fn lost(&mut self, node: NodeId, claim: &Claim, now: Duration) {
        let Some(entry) = self.environments.get_mut(claim.environment.as_str()) else { return };
        if entry.attached && entry.version == claim.version(node) {
            entry.attached = false;
            entry.seen = now;
            self.count(node, claim, false);
        }
    }

    /// Hears a node; whether it is the first time. `None`: the message is one of before.
    pub(super) fn hear(&mut self, node: NodeId, counter: u64, now: Duration) -> Option<bool> {
        if node == self.me {
            return None;
        }
        let Some(known) = self.nodes.get_mut(&node) else {
            let unknown =
                Node { url: String::new(), leaving: false, levels: Levels::default(), heard: now, counter };
            self.nodes.insert(node, unknown);
            return Some(true);
        };
        if counter <= known.counter {
            return None;
        }
        known.counter = counter;
        known.heard = now;
        Some(false)
    }

    /// Takes what a node says of itself.
    pub(super) fn digest(&mut self, node: NodeId, digest: &Digest) -> Sync {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.url.clone_from(&digest.url);
            known.leaving = digest.leaving;
            known.levels = digest.levels;
        }
        if self.tally(node) == digest.tally { Sync::Same } else { Sync::Differs }
    }

    /// What a node has, as far as is known.
    pub(super) fn tally(&self, node: NodeId) -> Tally {
        self.tallies.get(&node).copied().unwrap_or_default()
    }

    /// Some of what this node has, in the order of their ids, and whether there is more.
    pub(super) fn list(&self, after: &str, most: usize) -> (Vec<Claim>, bool) {
        let mut mine = self
            .environments
            .range::<str, _>((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, entry)| entry.attached && entry.version.node == self.me);
        let claims = mine.by_ref().take(most).map(|(environment, entry)| claim(environment, entry)).collect();
        (claims, mine.next().is_some())
    }

    /// Gives up what a node was thought to have and has not.
    pub(super) fn keep_only(&mut self, node: NodeId, listed: &BTreeSet<String>, now: Duration) {
        let gone: Vec<_> = self
            .environments
            .iter()
            .filter(|(environment, entry)| {
                entry.attached && entry.version.node == node && !listed.contains(&***environment)
            })
            .map(|(environment, entry)| claim(environment, entry))
            .collect();
        for claim in gone {
            self.lost(node, &claim, now);
        }
    }

    /// Forgets a node; its environments are away.
    pub(super) fn forget(&mut self, node: NodeId, now: Duration) -> bool {
        let known = self.nodes.remove(&node).is_some();
        if known {
            self.keep_only(node, &BTreeSet::new(), now);
            self.tallies.remove(&node);
        }
        known
    }

    /// Nodes that were silent too long.
    pub(super) fn silent(&self, now: Duration) -> Vec<NodeId> {
        let silent = |node: &Node| now.saturating_sub(node.heard) > SILENCE;
        self.nodes.iter().filter(|(_, node)| silent(node)).map(|(id, _)| *id).collect()
    }

    /// Forgets environments that were away too long.
    pub(super) fn sweep(&mut self, retention: Duration, now: Duration) {
        self.environments.retain(|_, entry| entry.attached || now.saturating_sub(entry.seen) <= retention);
    }

    /// Whether an environment is known, and which other node has its executor.
    pub(super) fn find(&self, environment: &str) -> Option<Option<NodeId>> {
        let entry = self.environments.get(environment)?;
        Some(Some(entry.version.node).filter(|node| entry.attached && *node != self.me))
    }

    /// How many other nodes are known.
    pub(super) fn others(&self) -> usize {
        self.nodes.len()
    }

    /// The node that takes callers and has least.
    pub(super) fn another(&self) -> Option<&str> {
        let mut staying: Vec<_> =
            self.nodes.values().filter(|node| !node.leaving && !node.url.is_empty()).collect();
        staying.sort_by_key(|node| node.levels.executors);
        staying.first().map(|node| node.url.as_str())
    }

    /// All other nodes.
    pub(super) fn nodes(&self, now: Duration) -> Vec<NodeStatus> {
        let mut nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(id, node)| NodeStatus {
                node: *id,
                url: node.url.clone(),
                leaving: node.leaving,
                silent: now.saturating_sub(node.heard),
                levels: node.levels,
            })
            .collect();
        nodes.sort_by(|one, other| (&one.url, one.node).cmp(&(&other.url, other.node)));
        nodes
    }

    /// Where environments are, in the order of their ids after this one.
    pub(super) fn places(&self, after: &str, most: usize) -> Vec<Place> {
        self.environments
            .range::<str, _>((Bound::Excluded(after), Bound::Unbounded))
            .take(most)
            .map(|(environment, entry)| Place {
                environment: environment.to_string(),
                node: entry.version.node,
                attached: entry.attached,
            })
            .collect()
    }

    fn count(&mut self, node: NodeId, claim: &Claim, gained: bool) {
        let tally = self.tallies.entry(node).or_default();
        tally.sum ^= fingerprint(claim);
        tally.count = if gained { tally.count.saturating_add(1) } else { tally.count.saturating_sub(1) };
    }
}

fn claim(environment: &str, entry: &Entry) -> Claim {
    Claim {
        environment: environment.to_owned(),
        registration: entry.registration.to_string(),
        generation: entry.version.generation,
        attachment: entry.version.attachment,
    }
}

/// A number that is another one for any other claim.
fn fingerprint(claim: &Claim) -> u64 {
    let hash = Sha256::new()
        .chain_update(claim.environment.as_bytes())
        .chain_update([0])
        .chain_update(claim.registration.as_bytes())
        .chain_update(claim.generation.to_be_bytes())
        .chain_update(claim.attachment.to_be_bytes())
        .finalize();
    hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
