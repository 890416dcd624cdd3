//! Harnesses on an executor's websocket: plain streams made of frames by hand, and Noise streams by our own initiator.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use codex_exec_server::protocol::registry::PublicKey;
use codex_relay::{HarnessStream, Identity, RelayLimits, StreamId, Target};
use codex_secret::Secret;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{TestClient, guarded};
use crate::rendezvous::ExecutorSocket;

/// The pipe between a test's client and its stream.
const PIPE_BYTES: usize = 1 << 20;

/// A frame's parts, as read from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream's id.
    pub stream: String,
    /// The number of the body's field: 5 data, 8 reset, 10 handshake.
    pub body: u32,
    /// Of data.
    pub seq: u32,
    /// Of data or handshake; a reset's reason.
    pub payload: Vec<u8>,
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// A field with a length.
pub fn bytes_field(number: u32, content: &[u8]) -> Vec<u8> {
    [varint(u64::from(number << 3 | 2)), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field with a number; zero is left out, as proto3 has it.
pub fn number_field(number: u32, value: u32) -> Vec<u8> {
    if value == 0 { Vec::new() } else { [varint(u64::from(number << 3)), varint(u64::from(value))].concat() }
}

/// A frame of version 1 with this body field.
pub fn frame(stream: &str, field: u32, body: &[u8]) -> Vec<u8> {
    [number_field(1, 1), bytes_field(2, stream.as_bytes()), bytes_field(field, body)].concat()
}

/// A data frame.
pub fn data(stream: &str, seq: u32, payload: &[u8]) -> Vec<u8> {
    frame(stream, 5, &[number_field(1, seq), number_field(3, 1), bytes_field(4, payload)].concat())
}

/// A reset frame.
pub fn reset(stream: &str, reason: &str) -> Vec<u8> {
    frame(stream, 8, &if reason.is_empty() { Vec::new() } else { bytes_field(1, reason.as_bytes()) })
}

/// Reads a frame; panics on what is none.
pub fn parse(bytes: &[u8]) -> Frame {
    let mut parsed = Frame { stream: String::new(), body: 0, seq: 0, payload: Vec::new() };
    for (number, value) in fields(bytes) {
        match (number, value) {
            (1, Value::Number(version)) => assert_eq!(version, 1),
            (2, Value::Bytes(id)) => parsed.stream = String::from_utf8(id).expect("an id is text"),
            (body, Value::Bytes(inner)) => {
                parsed.body = body;
                for (number, value) in fields(&inner) {
                    match (body, number, value) {
                        (5, 1, Value::Number(seq)) => parsed.seq = seq as u32,
                        (5, 3, Value::Number(count)) => assert_eq!(count, 1, "segment_count"),
                        (5, 4, Value::Bytes(payload)) | (8 | 10, 1, Value::Bytes(payload)) => {
                            parsed.payload = payload;
                        }
                        other => panic!("unexpected field in a body: {other:?}"),
                    }
                }
            }
            (3, Value::Number(_)) => {}
            other => panic!("unexpected field in a frame: {other:?}"),
        }
    }
    parsed
}

#[derive(Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

fn fields(mut bytes: &[u8]) -> Vec<(u32, Value)> {
    fn take_varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().expect("a whole varint");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(take_varint(&mut bytes)),
            2 => {
                let length = take_varint(&mut bytes) as usize;
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(content.to_vec())
            }
            other => panic!("unexpected wire type {other}"),
        };
        found.push(((key >> 3) as u32, value));
    }
    found
}

type Streams = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Vec<u8>>>>>;

/// Plain harnesses on one websocket of an executor.
pub struct PlainHarnesses {
    outgoing: mpsc::UnboundedSender<Message>,
    streams: Streams,
    /// What came for streams that no client has.
    others: mpsc::UnboundedReceiver<Frame>,
    tasks: Vec<JoinHandle<()>>,
}

impl PlainHarnesses {
    /// Takes over the websocket.
    pub fn on(socket: ExecutorSocket) -> Self {
        let (mut sink, mut source) = socket.into_inner().split();
        let (outgoing, mut to_send) = mpsc::unbounded_channel::<Message>();
        let (other, others) = mpsc::unbounded_channel();
        let streams = Streams::default();
        let sending = tokio::spawn(async move {
            while let Some(message) = to_send.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        let known = Arc::clone(&streams);
        let receiving = tokio::spawn(async move {
            while let Some(Ok(message)) = source.next().await {
                let Message::Binary(bytes) = message else { continue };
                let frame = parse(&bytes);
                let stream = known.lock().expect("no panic holds it").get(&frame.stream).cloned();
                match stream {
                    Some(stream) if frame.body == 5 => drop(stream.send(frame.payload)),
                    _ => drop(other.send(frame)),
                }
            }
            known.lock().expect("no panic holds it").clear();
        });
        Self { outgoing, streams, others, tasks: vec![sending, receiving] }
    }

    /// Sends a message as it stands.
    pub fn send(&self, message: Message) {
        self.outgoing.send(message).expect("the websocket is open");
    }

    /// Sends a frame as it stands.
    pub fn frame(&self, frame: Vec<u8>) {
        self.send(Message::binary(frame));
    }

    /// A client on a stream of this id. It is there at once; the executor learns of it by the first message.
    pub fn client(&self, stream: &str) -> TestClient {
        let (ours, theirs) = duplex(PIPE_BYTES);
        let (reading, writing) = split(ours);
        let (sender, receiver) = mpsc::unbounded_channel();
        self.streams.lock().expect("no panic holds it").insert(stream.into(), sender);
        let outgoing = self.outgoing.clone();
        let stream = stream.to_string();
        tokio::spawn(outward(reading, outgoing, stream));
        tokio::spawn(inward(writing, receiver));
        let (reading, writing) = split(theirs);
        TestClient::over_lines(reading, writing)
    }

    /// The next frame for a stream that no client has.
    pub async fn other(&mut self) -> Frame {
        guarded("a frame for another stream", self.others.recv()).await.expect("the websocket is open")
    }

    /// Lets go of a stream's client: what comes for it goes to [`Self::other`].
    pub fn forget(&self, stream: &str) {
        self.streams.lock().expect("no panic holds it").remove(stream);
    }

    /// Cuts the websocket off, without a close frame.
    pub fn cut(self) {}
}

impl Drop for PlainHarnesses {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn outward(reading: ReadHalf<DuplexStream>, outgoing: mpsc::UnboundedSender<Message>, stream: String) {
    let mut lines = BufReader::new(reading);
    for seq in 0.. {
        let mut line = Vec::new();
        if !lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            return;
        }
        if outgoing.send(Message::binary(data(&stream, seq, line.trim_ascii_end()))).is_err() {
            return;
        }
    }
}

async fn inward(mut writing: WriteHalf<DuplexStream>, mut messages: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(mut message) = messages.recv().await {
        message.push(b'\n');
        if writing.write_all(&message).await.is_err() {
            return;
        }
    }
    let _ = writing.shutdown().await;
}

/// Whom a Noise harness wants to reach, as `/connect` would tell it.
#[derive(Debug, Clone)]
pub struct NoiseTarget {
    /// The environment.
    pub environment_id: String,
    /// The registration.
    pub registration_id: String,
    /// The executor's key, from its registration.
    pub executor_public_key: PublicKey,
    /// What lets the harness in.
    pub authorization: Secret,
}

/// The harness's stream, ready to be driven by hand.
pub fn noise_stream(identity: &Identity, target: &NoiseTarget, id: &str) -> HarnessStream {
    let borrowed = Target {
        environment_id: &target.environment_id,
        registration_id: &target.registration_id,
        executor_public_key: &target.executor_public_key,
        authorization: &target.authorization,
    };
    HarnessStream::noise(identity, &borrowed, StreamId::from(id), RelayLimits::default())
        .expect("a handshake can be made")
}

/// A client on one Noise stream, which has the websocket for itself until either ends.
pub fn noise_client(socket: ExecutorSocket, mut stream: HarnessStream) -> (TestClient, JoinHandle<()>) {
    let (ours, theirs) = duplex(PIPE_BYTES);
    let driving = tokio::spawn(async move {
        let (reading, mut writing) = split(ours);
        let mut lines = BufReader::new(reading);
        let mut socket = socket.into_inner();
        let mut line = Vec::new();
        loop {
            while let Some(frame) = stream.next_transmit().expect("numbers are left") {
                if socket.feed(Message::Binary(frame)).await.is_err() {
                    return;
                }
            }
            if socket.flush().await.is_err() {
                return;
            }
            tokio::select! {
                read = lines.read_until(b'\n', &mut line), if stream.has_room() => {
                    if !read.is_ok_and(|read| read > 0) {
                        return;
                    }
                    let message = std::mem::take(&mut line);
                    stream.send(message.trim_ascii_end().to_vec().into()).expect("there is room");
                }
                received = socket.next() => match received {
                    Some(Ok(Message::Binary(frame))) => {
                        if stream.receive(frame).is_err() {
                            return;
                        }
                        while let Some(message) = stream.next_message() {
                            if writing.write_all(&[&message[..], b"\n"].concat()).await.is_err() {
                                return;
                            }
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
            }
        }
    });
    let (reading, writing) = split(theirs);
    (TestClient::over_lines(reading, writing), driving)
}
