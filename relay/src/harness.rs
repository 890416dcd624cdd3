//! The harness's end of a websocket through a rendezvous (9.1, 9.2): one stream, plain or Noise. No I/O, no clock.

use std::collections::VecDeque;

use bytes::Bytes;
use codex_exec_protocol::registry::PublicKey;
use codex_secret::Secret;

use crate::frame::{self, Body, Frame, FrameError};
use crate::limits::RelayLimits;
use crate::noise::{self, Channel, HandshakeAnswer, Identity, Initiated, NoiseError, Parties};
use crate::queue::{Queue, SendError};
use crate::stream_id::StreamId;

/// The reason of the reset that a harness sends when it goes.
const GOODBYE: &str = "closed by the harness";

/// Whom a Noise stream has to reach: what `/connect` answered (6.2).
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The id of the environment to reach.
    pub environment_id: &'a str,
    /// The id under which the executor registered last.
    pub registration_id: &'a str,
    /// The executor's identity; nobody else can answer the handshake.
    pub executor_public_key: &'a PublicKey,
    /// What lets this harness in.
    pub authorization: &'a Secret,
}

/// Why a stream is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HarnessError {
    /// The rendezvous sent what is no frame.
    #[error("the rendezvous sent a malformed frame: {0}")]
    Malformed(#[from] FrameError),
    /// The executor, or the rendezvous for it, ended the stream.
    #[error("the stream was reset: {0:?}")]
    Reset(String),
    /// The registry refused the executor's own credential; another attempt would end the same way.
    #[error("the executor's credential was refused by its registry; renew it on the executor's machine")]
    ExecutorCredential,
    /// Data before the handshake's answer, or a second answer.
    #[error("the executor sent {0} out of place")]
    OutOfPlace(&'static str),
    /// The encrypted channel broke.
    #[error("the encrypted channel failed: {0}")]
    Noise(#[from] NoiseError),
}

/// One stream of a harness; it has its websocket for itself.
#[derive(Debug)]
pub struct HarnessStream {
    limits: RelayLimits,
    id: StreamId,
    state: State,
    control: VecDeque<Bytes>,
    queue: Queue,
    messages: VecDeque<Bytes>,
    /// The last data frame that was taken.
    taken: Option<u32>,
    owes_ack: bool,
}

#[derive(Debug)]
enum State {
    Plain { seq: u32 },
    Handshaking(Option<Box<Initiated>>),
    Open(Box<Channel>),
}

impl HarnessStream {
    /// A plain stream (9.1); open at once.
    pub fn plain(id: StreamId, limits: RelayLimits) -> Self {
        Self::new(id, limits, State::Plain { seq: 0 })
    }

    /// A Noise stream (9.2); open after the executor's answer to the handshake.
    ///
    /// # Errors
    /// A target that no handshake can be made with.
    pub fn noise(
        identity: &Identity,
        target: &Target<'_>,
        id: StreamId,
        limits: RelayLimits,
    ) -> Result<Self, NoiseError> {
        let parties = Parties {
            environment_id: target.environment_id,
            registration_id: target.registration_id,
            stream_id: id.as_str(),
        };
        let (initiated, message) =
            noise::initiate(identity, target.executor_public_key, &parties, target.authorization)?;
        let mut stream = Self::new(id, limits, State::Handshaking(Some(Box::new(initiated))));
        stream.control.push_back(frame::handshake(stream.id.as_str(), message));
        Ok(stream)
    }

    fn new(id: StreamId, limits: RelayLimits, state: State) -> Self {
        let control = VecDeque::from([frame::resume(id.as_str())]);
        Self {
            limits,
            id,
            state,
            control,
            queue: Queue::default(),
            messages: VecDeque::new(),
            taken: None,
            owes_ack: false,
        }
    }

    /// The name of the stream in frames and logs.
    pub fn id(&self) -> &StreamId {
        &self.id
    }

    /// Whether messages can pass.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Handshaking(_))
    }

    /// Takes one binary message of the websocket. Acks say that what came before was fetched with
    /// [`Self::next_message`], as it has to be. A text message there is a fault of the rendezvous.
    ///
    /// # Errors
    /// The stream is over; the websocket is to be closed.
    pub fn receive(&mut self, message: Bytes) -> Result<(), HarnessError> {
        let Frame { stream_id, body } = frame::parse(message, self.limits.stream_id_bytes)?;
        if stream_id != self.id.as_str() {
            return Ok(());
        }
        match body {
            // Nobody acks towards a harness.
            Body::Ack(_) | Body::Idle => Ok(()),
            Body::Heartbeat => {
                self.owes_ack = self.is_open();
                Ok(())
            }
            Body::Reset(reason) => Err(HarnessError::Reset(reason)),
            Body::Handshake(message) => self.answered(&message),
            Body::Data { seq, payload } => self.data(seq, payload),
        }
    }

    /// Whether [`Self::next_transmit`] has something that does not come of [`Self::send`].
    pub fn has_control(&self) -> bool {
        !self.control.is_empty() || self.owes_ack
    }

    fn answered(&mut self, message: &[u8]) -> Result<(), HarnessError> {
        let State::Handshaking(initiated) = &mut self.state else {
            return Err(HarnessError::OutOfPlace("a handshake"));
        };
        let initiated = initiated.take().ok_or(HarnessError::OutOfPlace("a second handshake"))?;
        match initiated.finish(message)? {
            HandshakeAnswer::Admitted(channel) => {
                self.state = State::Open(channel);
                self.owes_ack = true;
                Ok(())
            }
            HandshakeAnswer::CredentialRefused => Err(HarnessError::ExecutorCredential),
        }
    }

    fn data(&mut self, seq: u32, payload: Bytes) -> Result<(), HarnessError> {
        match &mut self.state {
            State::Handshaking(_) => Err(HarnessError::OutOfPlace("data before the handshake's answer")),
            State::Plain { .. } => {
                self.messages.push_back(payload);
                self.taken = Some(seq);
                Ok(())
            }
            State::Open(channel) => {
                channel.receiver.accept(seq, payload, &self.limits)?;
                while let Some(message) = channel.receiver.next_message(&self.limits)? {
                    self.messages.push_back(message);
                }
                self.taken = channel.receiver.records().checked_sub(1).map(|last| last as u32);
                Ok(())
            }
        }
    }

    /// The next message that arrived; to be asked until there is none after every [`Self::receive`].
    pub fn next_message(&mut self) -> Option<Bytes> {
        self.messages.pop_front()
    }

    /// Whether another message is taken.
    pub fn has_room(&self) -> bool {
        self.queue.has_room(self.limits.queued_bytes)
    }

    /// Queues one JSON-RPC message; it waits for the handshake's answer. A queue with room takes one of any length.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&mut self, message: Bytes) -> Result<(), SendError> {
        let limit = match self.state {
            State::Plain { .. } => self.limits.plain_message_bytes,
            State::Handshaking(_) | State::Open(_) => self.limits.message_bytes,
        };
        if message.len() > limit {
            return Err(SendError::TooLong { bytes: message.len(), limit });
        }
        if message.is_empty() {
            return Ok(());
        }
        self.queue.push(message, self.limits.queued_bytes)
    }

    /// The next binary message for the websocket.
    ///
    /// # Errors
    /// The stream has used up its numbers.
    pub fn next_transmit(&mut self) -> Result<Option<Bytes>, NoiseError> {
        if let Some(frame) = self.control.pop_front() {
            return Ok(Some(frame));
        }
        if std::mem::take(&mut self.owes_ack) {
            return Ok(Some(frame::ack(self.id.as_str(), self.taken.unwrap_or(0))));
        }
        let Some(message) = self.queue.front() else { return Ok(None) };
        let (frame, whole) = match &mut self.state {
            State::Handshaking(_) => return Ok(None),
            State::Plain { seq } => {
                let frame = frame::data(self.id.as_str(), *seq, message);
                // Before it there is no stream whose executor could be told.
                self.owes_ack |= *seq == 0;
                *seq = seq.wrapping_add(1);
                (frame, true)
            }
            State::Open(channel) => channel.sender.frame(self.id.as_str(), message)?,
        };
        if whole {
            self.queue.pop();
        }
        Ok(Some(frame))
    }

    /// The frame that tells the executor that this harness goes, so that its session can be taken up again at once.
    pub fn goodbye(&self) -> Bytes {
        frame::reset(self.id.as_str(), GOODBYE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::accept;

    struct Pair {
        harness: HarnessStream,
        executor: Identity,
    }

    impl Pair {
        fn new() -> Self {
            let (own, executor) = (Identity::generate().unwrap(), Identity::generate().unwrap());
            let authorization = Secret::new("granted".into());
            let target = Target {
                environment_id: "env-1",
                registration_id: "reg-1",
                executor_public_key: executor.public_key(),
                authorization: &authorization,
            };
            let harness = HarnessStream::noise(&own, &target, "S".into(), RelayLimits::default()).unwrap();
            Self { harness, executor }
        }

        /// The executor's answer to the handshake, and its channel.
        fn answer(&mut self) -> (Bytes, Box<Channel>) {
            assert_eq!(self.harness.next_transmit().unwrap(), Some(frame::resume("S")));
            let first = frame::parse(self.harness.next_transmit().unwrap().unwrap(), 10).unwrap();
            let Body::Handshake(first) = first.body else { panic!("{first:?}") };
            let parties = Parties { environment_id: "env-1", registration_id: "reg-1", stream_id: "S" };
            let accepted = accept(&self.executor, &parties, &first).unwrap();
            let (second, channel) = accepted.admit().unwrap();
            (frame::handshake("S", second), Box::new(channel))
        }
    }

    #[test]
    fn messages_wait_for_the_answer_to_the_handshake() {
        let mut pair = Pair::new();
        pair.harness.send(Bytes::from_static(b"{}")).unwrap();
        let (answer, mut channel) = pair.answer();
        assert!(!pair.harness.is_open());
        assert_eq!(pair.harness.next_transmit().unwrap(), None);
        pair.harness.receive(answer).unwrap();
        assert_eq!(pair.harness.next_transmit().unwrap(), Some(frame::ack("S", 0)));
        let sent = frame::parse(pair.harness.next_transmit().unwrap().unwrap(), 10).unwrap();
        let Body::Data { seq: 0, payload } = sent.body else { panic!("{sent:?}") };
        let limits = RelayLimits::default();
        channel.receiver.accept(0, payload, &limits).unwrap();
        assert_eq!(channel.receiver.next_message(&limits), Ok(Some(Bytes::from_static(b"{}"))));
    }

    #[test]
    fn that_it_acks_is_told_before_all_data_and_every_heartbeat_is_acked() {
        let mut pair = Pair::new();
        let (answer, mut channel) = pair.answer();
        pair.harness.send(Bytes::from_static(b"{}")).unwrap();
        pair.harness.receive(answer).unwrap();
        assert_eq!(pair.harness.next_transmit().unwrap(), Some(frame::ack("S", 0)));
        assert!(pair.harness.next_transmit().unwrap().is_some());
        for (incoming, acked) in [
            (frame::heartbeat("S"), Some(0)),
            (channel.sender.frame("S", b"{}").unwrap().0, None),
            (channel.sender.frame("S", b"{}").unwrap().0, None),
            (frame::heartbeat("T"), None),
            (frame::heartbeat("S"), Some(1)),
        ] {
            pair.harness.receive(incoming).unwrap();
            let expected = acked.map(|seq| frame::ack("S", seq));
            assert_eq!(pair.harness.has_control(), expected.is_some());
            assert_eq!(pair.harness.next_transmit().unwrap(), expected);
        }
    }

    #[test]
    fn data_before_the_answer_and_a_handshake_after_it_are_errors() {
        let mut pair = Pair::new();
        let early = pair.harness.receive(frame::data("S", 0, b"x"));
        assert!(matches!(early, Err(HarnessError::OutOfPlace(_))), "{early:?}");
        let mut pair = Pair::new();
        let (answer, _) = pair.answer();
        pair.harness.receive(answer.clone()).unwrap();
        let again = pair.harness.receive(answer.clone());
        assert!(matches!(again, Err(HarnessError::OutOfPlace(_))), "{again:?}");
        let mut plain = HarnessStream::plain("S".into(), RelayLimits::default());
        assert!(matches!(plain.receive(answer), Err(HarnessError::OutOfPlace(_))));
    }

    #[test]
    fn what_is_for_others_or_for_nobody_is_ignored_and_what_is_broken_is_an_error() {
        let mut pair = Pair::new();
        let (answer, _) = pair.answer();
        for ignored in [frame::resume("S"), frame::reset("T", "over"), frame::data("T", 0, b"x")] {
            pair.harness.receive(ignored).unwrap();
        }
        pair.harness.receive(answer).unwrap();
        let broken = pair.harness.receive(frame::data("S", 0, &[1; 30]));
        assert_eq!(broken, Err(HarnessError::Noise(NoiseError::Record)));
        let malformed = Pair::new().harness.receive(Bytes::from_static(b"\xff"));
        assert!(matches!(malformed, Err(HarnessError::Malformed(_))));
        let reset = Pair::new().harness.receive(frame::reset("S", "over"));
        assert_eq!(reset, Err(HarnessError::Reset("over".into())));
    }
}
