//! The hybridIK handshake (section 7): both ends, by `clatter`.

use bytes::Bytes;
use clatter::bytearray::ByteArray;
use clatter::crypto::cipher::AesGcm;
use clatter::crypto::hash::Sha256;
use clatter::handshakepattern::noise_hybrid_ik;
use clatter::traits::{Dh, Handshaker, Kem};
use clatter::{HybridHandshakeCore, HybridHandshakeParams, KeyPair};
use codex_exec_protocol::registry::{AUTHORIZATION_BYTES, PublicKey};
use codex_secret::Secret;
use zeroize::Zeroizing;

use super::{Channel, DefaultRng, Identity, MlKem768, NoiseError, X25519};

/// First part of every prologue.
const CONTEXT: &str = "codex-exec-server-relay-noise/v1";
/// The payload of message 2 that tells the harness that the executor's own credential was refused.
const CREDENTIAL_REFUSED: &[u8] = b"codex-registry-authentication-rejected/v1";
/// Sizes of the messages without their payloads. Fixed by the wire.
const FIRST_BYTES: usize = 3568;
/// Fixed by the wire.
const SECOND_BYTES: usize = 3424;

pub(super) type DhPair = KeyPair<<X25519 as Dh>::PubKey, <X25519 as Dh>::PrivateKey>;
pub(super) type KemPair = KeyPair<<MlKem768 as Kem>::PubKey, <MlKem768 as Kem>::SecretKey>;
/// Generic over the KEM, so that the test vector's encapsulations can be put in.
pub(super) type Core<K> = HybridHandshakeCore<X25519, K, K, AesGcm, Sha256, DefaultRng>;

/// What both ends bind the handshake to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties<'a> {
    pub(crate) environment_id: &'a str,
    pub(crate) registration_id: &'a str,
    pub(crate) stream_id: &'a str,
}

impl Parties<'_> {
    /// Four parts, each behind its length as a 64-bit big-endian number.
    pub(super) fn prologue(&self) -> Vec<u8> {
        let parts = [CONTEXT, self.environment_id, self.registration_id, self.stream_id];
        let mut prologue = Vec::new();
        for part in parts {
            prologue.extend_from_slice(&(part.len() as u64).to_be_bytes());
            prologue.extend_from_slice(part.as_bytes());
        }
        prologue
    }
}

fn failed(error: impl std::fmt::Display) -> NoiseError {
    NoiseError::Handshake(error.to_string())
}

/// Begins a handshake; `peer` is known to an initiator only, `ephemeral` is given by tests only.
pub(super) fn begin<K>(
    identity: &Identity,
    peer: Option<&PublicKey>,
    parties: &Parties<'_>,
    ephemeral: Option<(DhPair, KemPair)>,
) -> Result<Core<K>, NoiseError>
where
    K: Kem<PubKey = <MlKem768 as Kem>::PubKey, SecretKey = <MlKem768 as Kem>::SecretKey>,
{
    let prologue = parties.prologue();
    let mut params = HybridHandshakeParams::new(noise_hybrid_ik(), peer.is_some())
        .with_prologue(&prologue)
        .with_s(identity.x25519.clone())
        .with_s_kem(identity.mlkem768.clone());
    if let Some(peer) = peer {
        params = params.with_rs(peer.x25519).with_rs_kem(ByteArray::from_slice(peer.mlkem768.as_slice()));
    }
    if let Some((dh, kem)) = ephemeral {
        params = params.with_e(dh).with_e_kem(kem);
    }
    Core::<K>::new(params).map_err(failed)
}

/// Reads a message whose payload may have `longest` bytes.
pub(super) fn read<K: Kem>(
    core: &mut Core<K>,
    message: &[u8],
    without_payload: usize,
    longest: usize,
) -> Result<Zeroizing<Vec<u8>>, NoiseError> {
    let payload = message.len().checked_sub(without_payload).ok_or(NoiseError::Length(message.len()))?;
    if payload > longest {
        return Err(NoiseError::Length(message.len()));
    }
    let mut out = Zeroizing::new(vec![0; payload]);
    core.read_message(message, &mut out).map_err(failed)?;
    Ok(out)
}

pub(super) fn write<K: Kem>(
    core: &mut Core<K>,
    without_payload: usize,
    payload: &[u8],
) -> Result<Bytes, NoiseError> {
    let mut message = vec![0; without_payload + payload.len()];
    let written = core.write_message(payload, &mut message).map_err(failed)?;
    message.truncate(written);
    Ok(message.into())
}

/// Splits a finished handshake into keys.
pub(super) fn split<K: Kem>(core: Core<K>) -> Result<Channel, NoiseError> {
    let initiator = core.is_initiator();
    let ciphers = core.finalize().map_err(failed)?.take();
    let (forth, _) = ciphers.initiator_to_responder.take();
    let (back, _) = ciphers.responder_to_initiator.take();
    let (send, receive) = if initiator { (&forth, &back) } else { (&back, &forth) };
    Channel::new(send.as_slice(), receive.as_slice())
}

/// The executor's end, between the two messages.
pub(crate) struct Accepted {
    core: Core<MlKem768>,
    /// Whom the handshake proved to be there.
    pub(crate) harness: PublicKey,
    /// What it brought for the registry to check.
    pub(crate) authorization: Secret,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").field("harness", &self.harness).finish_non_exhaustive()
    }
}

/// Reads message 1.
pub(crate) fn accept(
    identity: &Identity,
    parties: &Parties<'_>,
    message: &[u8],
) -> Result<Accepted, NoiseError> {
    let mut core = begin::<MlKem768>(identity, None, parties, None)?;
    // One byte more than allowed tells a long authorization from a message that is none.
    let payload = read(&mut core, message, FIRST_BYTES, usize::from(u16::MAX) - FIRST_BYTES)?;
    let text = Some(payload.as_slice()).filter(|payload| payload.len() <= AUTHORIZATION_BYTES);
    let text = text.and_then(|payload| std::str::from_utf8(payload).ok());
    let authorization = text.ok_or(NoiseError::Authorization { limit: AUTHORIZATION_BYTES })?;
    let remote = core.get_remote_static().ok_or_else(|| failed("no static key"))?;
    let mlkem768: Box<[u8]> = remote.kem().as_slice().into();
    let mlkem768 = mlkem768.try_into().map_err(|_| failed("a static key of a wrong size"))?;
    let harness = PublicKey { x25519: *remote.dh(), mlkem768 };
    Ok(Accepted { core, harness, authorization: Secret::new(authorization.to_owned()) })
}

impl Accepted {
    /// Lets the harness in: message 2 and the channel.
    pub(crate) fn admit(mut self) -> Result<(Bytes, Channel), NoiseError> {
        let message = write(&mut self.core, SECOND_BYTES, b"")?;
        Ok((message, split(self.core)?))
    }

    /// Tells the harness that the executor's own credential was refused: message 2, and nothing after it.
    pub(crate) fn refuse_credential(mut self) -> Result<Bytes, NoiseError> {
        write(&mut self.core, SECOND_BYTES, CREDENTIAL_REFUSED)
    }
}

/// The harness's end, between the two messages.
pub(crate) struct Initiated(Core<MlKem768>);

impl std::fmt::Debug for Initiated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Initiated")
    }
}

/// What message 2 says.
#[derive(Debug)]
pub(crate) enum HandshakeAnswer {
    /// The stream is open.
    Admitted(Box<Channel>),
    /// The registry refused the executor itself: another attempt would end the same way.
    CredentialRefused,
}

/// Writes message 1.
pub(crate) fn initiate(
    identity: &Identity,
    executor: &PublicKey,
    parties: &Parties<'_>,
    authorization: &Secret,
) -> Result<(Initiated, Bytes), NoiseError> {
    if authorization.expose().len() > AUTHORIZATION_BYTES {
        return Err(NoiseError::Authorization { limit: AUTHORIZATION_BYTES });
    }
    let mut core = begin::<MlKem768>(identity, Some(executor), parties, None)?;
    let message = write(&mut core, FIRST_BYTES, authorization.expose().as_bytes())?;
    Ok((Initiated(core), message))
}

impl Initiated {
    /// Reads message 2.
    pub(crate) fn finish(mut self, message: &[u8]) -> Result<HandshakeAnswer, NoiseError> {
        let payload = read(&mut self.0, message, SECOND_BYTES, CREDENTIAL_REFUSED.len())?;
        match payload.as_slice() {
            b"" => Ok(HandshakeAnswer::Admitted(Box::new(split(self.0)?))),
            CREDENTIAL_REFUSED => Ok(HandshakeAnswer::CredentialRefused),
            _ => Err(NoiseError::Payload),
        }
    }
}
