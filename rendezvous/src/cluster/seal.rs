//! Seals what nodes say to each other, so that a broker can neither read nor change it.
//!
//! A sealed message is a version, the sender, a counter that makes the nonce, and the ciphertext. The key is the sender's own,
//! made from the shared secret, so that no nonce is used twice under one key.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;

use super::secret::ClusterSecrets;
use crate::node_id::NodeId;

/// The form of what is sealed.
const VERSION: u8 = 1;
/// Version, sender and counter.
const HEAD: usize = 1 + NodeId::LENGTH + 8;

/// Seals as one node and opens what others sealed.
pub(super) struct Sealer {
    me: NodeId,
    keys: RwLock<Keys>,
    counter: AtomicU64,
}

struct Keys {
    mine: Option<LessSafeKey>,
    roots: Vec<hmac::Key>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("me", &self.me).finish_non_exhaustive()
    }
}

/// What was sealed, by whom, and its place in the order of what that node sealed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) sender: NodeId,
    pub(super) counter: u64,
    pub(super) text: Vec<u8>,
    /// By the secret that signs now, and not by one on its way in or out.
    pub(super) by_current: bool,
}

impl Sealer {
    pub(super) fn new(me: NodeId, secrets: &ClusterSecrets) -> Self {
        Self { me, keys: RwLock::new(Keys::new(me, secrets)), counter: AtomicU64::new(0) }
    }

    /// Takes other secrets from now on.
    pub(super) fn replace(&self, secrets: &ClusterSecrets) {
        *self.keys.write() = Keys::new(self.me, secrets);
    }

    /// Seals a text for one use: `context` has to be the same when it is opened. `None` only if the cipher fails.
    pub(super) fn seal(&self, context: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let mut sealed = Vec::with_capacity(HEAD + text.len() + CHACHA20_POLY1305.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(self.me.as_bytes());
        sealed.extend_from_slice(&counter.to_be_bytes());
        let mut body = text.to_vec();
        let keys = self.keys.read();
        keys.mine.as_ref()?.seal_in_place_append_tag(nonce(counter), Aad::from(context), &mut body).ok()?;
        sealed.extend_from_slice(&body);
        Some(sealed)
    }

    /// Opens what a node with one of the secrets sealed for this use.
    pub(super) fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Opened> {
        let (head, body) = sealed.split_at_checked(HEAD)?;
        let (version, rest) = head.split_first()?;
        let (sender, counter) = rest.split_at_checked(NodeId::LENGTH)?;
        if *version != VERSION {
            return None;
        }
        let sender = NodeId::from_bytes(sender.try_into().ok()?);
        let counter = u64::from_be_bytes(counter.try_into().ok()?);
        let keys = self.keys.read();
        keys.roots.iter().enumerate().find_map(|(at, root)| {
            let mut text = body.to_vec();
            let length =
                key(root, sender)?.open_in_place(nonce(counter), Aad::from(context), &mut text).ok()?.len();
            text.truncate(length);
            Some(Opened { sender, counter, text, by_current: at == 0 })
        })
    }
}

impl Keys {
    fn new(me: NodeId, secrets: &ClusterSecrets) -> Self {
        let roots: Vec<_> = secrets.keys("messages of nodes").collect();
        Self { mine: roots.first().and_then(|root| key(root, me)), roots }
    }
}

fn key(root: &hmac::Key, sender: NodeId) -> Option<LessSafeKey> {
    let bytes = hmac::sign(root, sender.as_bytes());
    UnboundKey::new(&CHACHA20_POLY1305, bytes.as_ref()).ok().map(LessSafeKey::new)
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secrets: &[&str]) -> Sealer {
        let text = secrets.iter().map(|secret| secret.repeat(32) + "\n").collect::<String>();
        Sealer::new(NodeId::random(), &ClusterSecrets::parse(&text).unwrap())
    }

    #[test]
    fn a_message_is_opened_by_who_has_the_secret_in_its_context_unchanged() {
        let (ours, theirs, foreign) = (sealer(&["a"]), sealer(&["a"]), sealer(&["b"]));
        let sealed = ours.seal(b"all", b"a message").unwrap();
        let opened = theirs.open(b"all", &sealed).unwrap();
        assert_eq!((opened.sender, opened.counter, opened.text.as_slice()), (ours.me, 1, &b"a message"[..]));
        assert_eq!(theirs.open(b"node", &sealed), None, "another use");
        assert_eq!(foreign.open(b"all", &sealed), None, "another secret");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(theirs.open(b"all", &changed), None, "byte {at}");
            assert_eq!(theirs.open(b"all", &sealed[..at]), None, "the first {at} bytes");
        }
        let shown = sealed.windows(9).any(|window| window == b"a message");
        assert!(!shown, "the text stands in the clear");
        assert!(theirs.open(b"all", &ours.seal(b"all", b"more").unwrap()).unwrap().counter > 1);
    }

    #[test]
    fn a_secret_is_changed_node_by_node() {
        let (first, second) = (sealer(&["a"]), sealer(&["a"]));
        let both = ClusterSecrets::parse(&format!("{}\n{}", "b".repeat(32), "a".repeat(32))).unwrap();
        second.replace(&both);
        assert!(second.open(b"", &first.seal(b"", b"x").unwrap()).is_some(), "the old one is still good");
        assert!(first.open(b"", &second.seal(b"", b"x").unwrap()).is_none(), "the new one is not known yet");
        first.replace(&both);
        assert!(first.open(b"", &second.seal(b"", b"x").unwrap()).is_some());
    }
}
