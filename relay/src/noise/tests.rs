//! The handshake and the records against the test vector, byte for byte, and what spoils them.

use std::cell::RefCell;
use std::collections::VecDeque;

use clatter::KeyPair;
use clatter::bytearray::{ByteArray, SensitiveByteArray};
use clatter::error::{KemError, KemResult};
use clatter::traits::{CryptoComponent, Dh, Handshaker, Kem, Rng};
use codex_secret::Secret;
use rand_core::{CryptoRng, RngCore};
use serde_json::Value;

use super::handshake::{Core, DhPair, KemPair, begin, read, split, write};
use super::*;
use crate::frame::{self, Body};
use crate::limits::RelayLimits;

const VECTOR: &str = include_str!("../../../tests/vectors/remote_noise_vector.json");

struct Vector(Value);

impl Vector {
    fn load() -> Self {
        Self(serde_json::from_str(VECTOR).unwrap())
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}"))
    }

    fn bytes(&self, pointer: &str) -> Vec<u8> {
        hex::decode(self.text(pointer)).unwrap()
    }

    fn dh(&self, party: &str) -> DhPair {
        let secret = <X25519 as Dh>::PrivateKey::from_slice(&self.bytes(&format!("/{party}/x25519_private")));
        KeyPair::new(X25519::pubkey(&secret), secret)
    }

    fn kem(&self, party: &str) -> KemPair {
        FIXED.set(self.bytes(&format!("/{party}/mlkem768_seed")).into());
        MlKem768::genkey_rng(&mut FixedRng).unwrap()
    }

    fn identity(&self, party: &str) -> Identity {
        Identity::new(self.dh(party), self.kem(party)).unwrap()
    }

    fn parties(&self) -> Parties<'_> {
        Parties {
            environment_id: self.text("/environment_id"),
            registration_id: self.text("/executor_registration_id"),
            stream_id: self.text("/stream_id"),
        }
    }

    /// The next encapsulations of [`VectorKem`].
    fn encapsulate(&self, numbers: &[usize]) {
        let of = |n: &usize| {
            let bytes = |member: &str| self.bytes(&format!("/encapsulations/{n}/{member}"));
            (bytes("ciphertext"), bytes("shared_secret"))
        };
        ENCAPSULATIONS.set(numbers.iter().map(of).collect());
    }
}

thread_local! {
    static FIXED: RefCell<VecDeque<u8>> = RefCell::default();
    static ENCAPSULATIONS: RefCell<VecDeque<(Vec<u8>, Vec<u8>)>> = RefCell::default();
}

fn take<const N: usize>(rng: &mut FixedRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Randomness from [`FIXED`].
#[derive(Default, Clone)]
struct FixedRng;

impl RngCore for FixedRng {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(take(self))
    }
    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(take(self))
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        FIXED.with_borrow_mut(|fixed| out.iter_mut().for_each(|byte| *byte = fixed.pop_front().unwrap()));
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for FixedRng {}

/// ML-KEM whose encapsulations are those of the vector, which has no seeds for them.
#[derive(Clone)]
struct VectorKem;

impl CryptoComponent for VectorKem {
    fn name() -> &'static str {
        MlKem768::name()
    }
}

impl Kem for VectorKem {
    type SecretKey = <MlKem768 as Kem>::SecretKey;
    type PubKey = <MlKem768 as Kem>::PubKey;
    type Ct = <MlKem768 as Kem>::Ct;
    type Ss = <MlKem768 as Kem>::Ss;

    fn genkey_rng<R: Rng>(_: &mut R) -> KemResult<KeyPair<Self::PubKey, Self::SecretKey>> {
        Err(KemError::KeyGeneration)
    }

    fn encapsulate<R: Rng>(_: &[u8], _: &mut R) -> KemResult<(Self::Ct, Self::Ss)> {
        let (ciphertext, secret) = ENCAPSULATIONS.with_borrow_mut(VecDeque::pop_front).unwrap();
        Ok((ByteArray::from_slice(&ciphertext), SensitiveByteArray::from_slice(&secret)))
    }

    fn decapsulate(ciphertext: &[u8], secret: &[u8]) -> KemResult<Self::Ss> {
        MlKem768::decapsulate(ciphertext, secret)
    }
}

fn hash<K: Kem>(core: &Core<K>) -> Vec<u8> {
    core.get_state().get_hash().as_slice().to_vec()
}

fn chaining_key<K: Kem>(core: &Core<K>) -> Vec<u8> {
    core.get_state().get_chaining_key().as_slice().to_vec()
}

/// The vector's handshake: the initiator's and the responder's state at its end.
fn shake(vector: &Vector) -> (Core<VectorKem>, Core<VectorKem>) {
    let (initiator, responder) = (vector.identity("initiator_static"), vector.identity("responder_static"));
    let ephemeral = |party: &str| Some((vector.dh(party), vector.kem(party)));
    let parties = vector.parties();
    let peer = Some(responder.public_key());
    let mut forth = begin::<VectorKem>(&initiator, peer, &parties, ephemeral("initiator_ephemeral")).unwrap();
    let mut back = begin::<VectorKem>(&responder, None, &parties, ephemeral("responder_ephemeral")).unwrap();
    for core in [&forth, &back] {
        assert_eq!(core.get_name().as_str(), vector.text("/protocol_name"));
        assert_eq!(hash(core), vector.bytes("/h_before_message_1"));
    }
    vector.encapsulate(&[0, 1, 2]);
    let payload = vector.text("/payload_1");
    let first = write(&mut forth, 3568, payload.as_bytes()).unwrap();
    assert_eq!(first, vector.bytes("/message_1"));
    assert_eq!(*read(&mut back, &first, 3568, 4096).unwrap(), payload.as_bytes());
    for core in [&forth, &back] {
        assert_eq!(hash(core), vector.bytes("/h_after_message_1"));
        assert_eq!(chaining_key(core), vector.bytes("/ck_after_message_1"));
    }
    let second = write(&mut back, 3424, b"").unwrap();
    assert_eq!(second, vector.bytes("/message_2"));
    assert!(read(&mut forth, &second, 3424, 0).unwrap().is_empty());
    for core in [&forth, &back] {
        assert_eq!(hash(core), vector.bytes("/h_final"));
        assert_eq!(chaining_key(core), vector.bytes("/ck_final"));
    }
    (forth, back)
}

#[test]
fn identities_and_prologue_are_those_of_the_vector() {
    let vector = Vector::load();
    for party in ["initiator_static", "responder_static"] {
        let identity = vector.identity(party);
        let object = serde_json::to_value(identity.public_key()).unwrap();
        assert_eq!(&object, vector.0.pointer(&format!("/{party}/public_key_json")).unwrap());
        assert_eq!(identity.mlkem768.secret.as_slice(), vector.bytes(&format!("/{party}/mlkem768_secret")));
    }
    assert_eq!(vector.parties().prologue(), vector.bytes("/prologue"));
}

#[test]
fn a_handshake_has_the_bytes_of_the_vector_at_both_ends() {
    let vector = Vector::load();
    let (forth, back) = shake(&vector);
    let ciphers = forth.finalize().unwrap().take();
    let (key, _) = ciphers.initiator_to_responder.take();
    assert_eq!(key.as_slice(), vector.bytes("/key_initiator_to_responder"));
    let ciphers = back.finalize().unwrap().take();
    let (key, _) = ciphers.responder_to_initiator.take();
    assert_eq!(key.as_slice(), vector.bytes("/key_responder_to_initiator"));
}

#[test]
fn records_have_the_bytes_of_the_vector_in_both_directions() {
    let vector = Vector::load();
    let limits = RelayLimits::default();
    let (forth, back) = shake(&vector);
    let mut channels = [split(forth).unwrap(), split(back).unwrap()];
    let plain = |n: usize| vector.bytes(&format!("/transport_plaintexts/{n}"));
    for direction in ["initiator_to_responder", "responder_to_initiator"] {
        let sealed = |n: usize| vector.bytes(&format!("/transport_{direction}/{n}"));
        let [from, to] = &mut channels;
        let message = &plain(0)[4..];
        let (bytes, whole) = from.sender.frame("s", message).unwrap();
        assert!(whole);
        assert_eq!(payload(bytes), sealed(0));
        let mut second = plain(1);
        from.sender.seal_raw(&mut second);
        assert_eq!(second, sealed(1));
        to.receiver.accept(1, sealed(1).into(), &limits).unwrap();
        to.receiver.accept(0, sealed(0).into(), &limits).unwrap();
        assert_eq!(to.receiver.next_message(&limits).unwrap().unwrap(), message);
        assert_eq!(to.receiver.assembled(), plain(1).len());
        channels.reverse();
    }
}

fn payload(frame: bytes::Bytes) -> bytes::Bytes {
    match frame::parse(frame, 100).unwrap().body {
        Body::Data { payload, .. } => payload,
        other => panic!("{other:?}"),
    }
}

fn pair() -> (Identity, Identity) {
    (Identity::generate().unwrap(), Identity::generate().unwrap())
}

fn named(stream_id: &str) -> Parties<'_> {
    Parties { environment_id: "env-1", registration_id: "reg-1", stream_id }
}

fn text(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn a_harness_is_known_by_its_key_and_brings_its_authorization() {
    let (harness, executor) = pair();
    for authorization in ["", "granted", &"é".repeat(2048)] {
        let (initiated, first) =
            initiate(&harness, executor.public_key(), &named("s"), &text(authorization)).unwrap();
        let accepted = accept(&executor, &named("s"), &first).unwrap();
        assert_eq!(&accepted.harness, harness.public_key());
        assert_eq!(accepted.authorization.expose(), authorization);
        let (second, _) = accepted.admit().unwrap();
        assert_eq!((first.len(), second.len()), (3568 + authorization.len(), 3424));
        assert!(matches!(initiated.finish(&second), Ok(HandshakeAnswer::Admitted(_))));
    }
    let long = initiate(&harness, executor.public_key(), &named("s"), &text(&"x".repeat(4097)));
    assert_eq!(long.unwrap_err(), NoiseError::Authorization { limit: 4096 });
}

#[test]
fn the_executors_own_refusal_is_told_inside_the_handshake() {
    let (harness, executor) = pair();
    let (initiated, first) = initiate(&harness, executor.public_key(), &named("s"), &text("a")).unwrap();
    let second = accept(&executor, &named("s"), &first).unwrap().refuse_credential().unwrap();
    assert_eq!(second.len(), 3465);
    assert!(matches!(initiated.finish(&second), Ok(HandshakeAnswer::CredentialRefused)));
}

#[test]
fn a_handshake_for_another_place_or_identity_or_changed_on_the_way_is_refused() {
    let (harness, executor) = pair();
    let begin = || initiate(&harness, executor.public_key(), &named("s"), &text("a")).unwrap();
    let (_, first) = begin();
    let elsewhere = [
        Parties { environment_id: "env-2", ..named("s") },
        Parties { registration_id: "reg-2", ..named("s") },
        named("t"),
        // The same text, cut at another place: lengths are part of the prologue.
        Parties { environment_id: "env-1r", registration_id: "eg-1", stream_id: "s" },
    ];
    for parties in elsewhere {
        assert!(accept(&executor, &parties, &first).is_err(), "{parties:?}");
    }
    assert!(accept(&harness, &named("s"), &first).is_err());
    for at in (0..first.len()).step_by(97).chain([first.len() - 1]) {
        let mut changed = first.to_vec();
        changed[at] ^= 1;
        assert!(accept(&executor, &named("s"), &changed).is_err(), "byte {at}");
    }
    for length in [0, 1, 3567, 70_000] {
        assert_eq!(accept(&executor, &named("s"), &vec![0; length]).unwrap_err(), NoiseError::Length(length));
    }
    let (second, _) = accept(&executor, &named("s"), &first).unwrap().admit().unwrap();
    for at in (0..second.len()).step_by(97).chain([second.len() - 1]) {
        let (initiated, first) = begin();
        let (second, _) = accept(&executor, &named("s"), &first).unwrap().admit().unwrap();
        let mut changed = second.to_vec();
        changed[at] ^= 1;
        assert!(initiated.finish(&changed).is_err(), "byte {at}");
    }
    assert!(begin().0.finish(&second).is_err(), "an answer to another handshake");
}

#[test]
fn an_authorization_that_is_no_text_or_too_long_is_refused() {
    let (harness, executor) = pair();
    for authorization in [vec![0xff; 10], vec![b'x'; 4097], vec![b'x'; 60_000]] {
        let mut core = begin::<MlKem768>(&harness, Some(executor.public_key()), &named("s"), None).unwrap();
        let first = write(&mut core, 3568, &authorization).unwrap();
        let refused = accept(&executor, &named("s"), &first).unwrap_err();
        assert_eq!(refused, NoiseError::Authorization { limit: 4096 });
    }
}

/// An open stream: the harness's and the executor's channel.
fn channels() -> (Channel, Channel) {
    let (harness, executor) = pair();
    let (initiated, first) = initiate(&harness, executor.public_key(), &named("s"), &text("")).unwrap();
    let (second, back) = accept(&executor, &named("s"), &first).unwrap().admit().unwrap();
    match initiated.finish(&second).unwrap() {
        HandshakeAnswer::Admitted(forth) => (*forth, back),
        HandshakeAnswer::CredentialRefused => panic!("refused"),
    }
}

#[test]
fn messages_of_every_size_pass_in_records_of_sixty_kib() {
    let limits = RelayLimits::default();
    let (mut from, mut to) = channels();
    let mut seq = 0;
    for length in [1usize, 61_435, 61_436, 61_437, 122_876, 122_877, 1 << 20] {
        let message: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let mut records = 0;
        loop {
            let (bytes, whole) = from.sender.frame("s", &message).unwrap();
            let record = payload(bytes);
            assert!(record.len() <= 61_440 + 16);
            to.receiver.accept(seq, record, &limits).unwrap();
            (seq, records) = (seq + 1, records + 1);
            if whole {
                break;
            }
            assert_eq!(to.receiver.next_message(&limits), Ok(None));
        }
        assert_eq!(records, (length + 4).div_ceil(61_440), "{length}");
        assert_eq!(to.receiver.next_message(&limits).unwrap().unwrap(), message);
    }
}

#[test]
fn records_may_be_empty_and_messages_may_share_or_straddle_them() {
    let limits = RelayLimits::default();
    let (mut from, mut to) = channels();
    let stream = b"\0\0\0\x02{}\0\0\0\x03{ }\0\0\0\x01x";
    let parts = [&b""[..], &stream[..8], &stream[8..9], b"", &stream[9..14], &stream[14..]];
    for (seq, part) in (0u32..).zip(parts) {
        let mut record = part.to_vec();
        from.sender.seal_raw(&mut record);
        to.receiver.accept(seq, record.into(), &limits).unwrap();
    }
    for message in [&b"{}"[..], b"{ }", b"x"] {
        assert_eq!(to.receiver.next_message(&limits).unwrap().unwrap(), message);
    }
    assert_eq!((to.receiver.next_message(&limits), to.receiver.assembled()), (Ok(None), 0));
}

#[test]
fn what_breaks_the_record_rules_is_an_error() {
    let limits = RelayLimits { message_bytes: 1000, ..RelayLimits::default() };
    let sealed = |from: &mut Channel, plain: &[u8]| {
        let mut record = plain.to_vec();
        from.sender.seal_raw(&mut record);
        bytes::Bytes::from(record)
    };
    let (mut from, mut to) = channels();
    let record = sealed(&mut from, &[0; 61_441]);
    assert_eq!(to.receiver.accept(0, record, &limits), Err(NoiseError::RecordLength(61_457)));
    for (prefix, bytes) in [([0, 0, 0, 0], 0), ([0, 0, 3, 0xe9], 1001), ([0xff; 4], u32::MAX as usize)] {
        let (mut from, mut to) = channels();
        to.receiver.accept(0, sealed(&mut from, &prefix), &limits).unwrap();
        let refused = to.receiver.next_message(&limits);
        assert_eq!(refused, Err(NoiseError::MessageLength { bytes, limit: 1000 }));
    }
    let (mut from, mut to) = channels();
    let record = sealed(&mut from, b"x");
    // Under another number, changed, too short: none of it can be decrypted.
    to.receiver.accept(1, record.clone(), &limits).unwrap();
    assert_eq!(to.receiver.accept(0, vec![1; 17].into(), &limits), Err(NoiseError::Record));
    let (_, mut to) = channels();
    assert_eq!(to.receiver.accept(0, vec![1; 15].into(), &limits), Err(NoiseError::Record));
}

#[test]
fn the_window_is_sixty_four_records_and_a_mebibyte() {
    let limits = RelayLimits::default();
    let (mut from, mut to) = channels();
    let mut records = Vec::new();
    for n in 0..66u8 {
        let mut record = vec![0, 0, 0, 1, b'a' + n % 26];
        from.sender.seal_raw(&mut record);
        records.push(bytes::Bytes::from(record));
    }
    for seq in (1..=64).rev() {
        to.receiver.accept(seq, records[seq as usize].clone(), &limits).unwrap();
    }
    let far = NoiseError::Window { seq: 65, expected: 0 };
    assert_eq!(to.receiver.accept(65, records[65].clone(), &limits), Err(far));
    // Duplicates of what is held or was taken are dropped, whatever they hold.
    to.receiver.accept(7, vec![0; 20].into(), &limits).unwrap();
    to.receiver.accept(0, records[0].clone(), &limits).unwrap();
    to.receiver.accept(0, records[0].clone(), &limits).unwrap();
    to.receiver.accept(64, vec![0; 20].into(), &limits).unwrap();
    for n in 0..=64u8 {
        assert_eq!(to.receiver.next_message(&limits).unwrap().unwrap(), [b'a' + n % 26][..], "{n}");
    }
    let (_, mut to) = channels();
    for seq in 1..=17 {
        to.receiver.accept(seq, vec![0; 61_456].into(), &limits).unwrap();
    }
    assert_eq!(
        to.receiver.accept(18, vec![0; 61_456].into(), &limits),
        Err(NoiseError::Held { limit: 1 << 20 })
    );
}

#[test]
fn numbers_never_wrap() {
    let (mut from, _) = channels();
    from.sender.jump_to(u32::MAX);
    assert!(from.sender.frame("s", b"x").is_ok());
    assert_eq!(from.sender.frame("s", b"x"), Err(NoiseError::Exhausted));
}

#[test]
fn nothing_secret_is_shown() {
    let vector = Vector::load();
    let identity = vector.identity("responder_static");
    let shown = format!("{identity:?} {:?} {:?}", text("sesame"), channels());
    assert!(
        !shown.contains("sesame") && !shown.contains(&"21".repeat(8)) && !shown.contains("33, 33"),
        "{shown}"
    );
}
