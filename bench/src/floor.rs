//! The floor: the least that a server for this protocol can be. One thread, one buffer, no checks, no sessions, no bounds.
//!
//! It is nobody's exec-server. It answers what the benchmarks ask, so that their client measures it and ours alike, and
//! shows what the protocol itself costs on this machine.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use base64_simd::STANDARD;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::machine::open_terminal;

/// The size of a read, and of a piece of a file.
const PIECE: usize = 64 << 10;

/// Serves one connection after the other, for ever; prints the address first.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ws://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept()?;
        if let Err(error) = Connection::upgrade(stream).and_then(Connection::run) {
            eprintln!("floor: {error:#}");
        }
    }
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    frame: Vec<u8>,
    piece: Vec<u8>,
    programs: Vec<Program>,
}

struct Program {
    id: String,
    child: Child,
    exit: OwnedFd,
    exited: bool,
    input: Option<File>,
    outputs: Vec<(&'static str, File)>,
    seq: u64,
}

impl Program {
    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

/// What was ready after a wait: the socket, an output of a program, a program's end.
enum Ready {
    Socket,
    Output(usize, usize),
    Exit(usize),
}

impl Connection {
    fn upgrade(mut stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        // The benchmarks' client sends one fixed key.
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )?;
        let piece = vec![0; PIECE];
        Ok(Self { stream, received: Vec::new(), frame: Vec::new(), piece, programs: Vec::new() })
    }

    fn run(mut self) -> Result<()> {
        loop {
            for ready in self.wait()? {
                match ready {
                    Ready::Socket => {
                        if !self.receive()? {
                            return Ok(());
                        }
                    }
                    Ready::Output(program, output) => self.output(program, output)?,
                    Ready::Exit(program) => self.exit(program)?,
                }
            }
            self.close_ended()?;
        }
    }

    fn wait(&self) -> Result<Vec<Ready>> {
        let mut ready = vec![Ready::Socket];
        let mut watched: Vec<BorrowedFd<'_>> = vec![self.stream.as_fd()];
        for (number, program) in self.programs.iter().enumerate() {
            for (index, (_, output)) in program.outputs.iter().enumerate() {
                watched.push(output.as_fd());
                ready.push(Ready::Output(number, index));
            }
            if !program.exited {
                watched.push(program.exit.as_fd());
                ready.push(Ready::Exit(number));
            }
        }
        let mut watched: Vec<_> = watched.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        poll(&mut watched, None)?;
        let mut happened = watched.iter().map(|fd| !fd.revents().is_empty());
        ready.retain(|_| happened.next().unwrap_or_default());
        // An output that ends leaves its place; the later ones come first, so that places stay true.
        ready.reverse();
        Ok(ready)
    }

    /// Takes what the client sent; false at its end.
    fn receive(&mut self) -> Result<bool> {
        let from = self.received.len();
        self.received.resize(from + PIECE, 0);
        let count = self.stream.read(&mut self.received[from..])?;
        self.received.truncate(from + count);
        while let Some((text, taken)) = unmasked(&self.received) {
            self.received.drain(..taken);
            self.request(&serde_json::from_slice(&text)?)?;
        }
        Ok(count > 0)
    }

    fn request(&mut self, request: &Value) -> Result<()> {
        let (id, params) = (&request["id"], &request["params"]);
        let path =
            |value: &Value| value.as_str().unwrap_or_default().trim_start_matches("file://").to_owned();
        match request["method"].as_str().unwrap_or_default() {
            "initialize" => self.answer(id, "{\"sessionId\":\"floor\"}"),
            "initialized" => Ok(()),
            "process/start" => {
                let program = start(params, &path(&params["cwd"]))?;
                self.answer(id, &json!({"processId": program.id}).to_string())?;
                self.programs.push(program);
                Ok(())
            }
            "process/write" => {
                let bytes = STANDARD.decode_to_vec(params["chunk"].as_str().unwrap_or_default())?;
                let program = self.programs.iter_mut().find(|program| params["processId"] == program.id);
                program.and_then(|program| program.input.as_mut()).context("no input")?.write_all(&bytes)?;
                self.answer(id, "{\"status\":\"accepted\"}")
            }
            "process/terminate" => {
                let program = self.programs.iter_mut().find(|program| params["processId"] == program.id);
                program.map(|program| program.child.kill()).transpose()?;
                self.answer(id, "{\"running\":true}")
            }
            "fs/getMetadata" => {
                let metadata = std::fs::metadata(path(&params["path"]))?;
                self.answer(
                    id,
                    &json!({"isDirectory": metadata.is_dir(), "size": metadata.len()}).to_string(),
                )
            }
            "fs/readFile" => self.read_file(id, &path(&params["path"])),
            other => bail!("the floor has no {other}"),
        }
    }

    fn answer(&mut self, id: &Value, result: &str) -> Result<()> {
        self.send(|frame| write!(frame, "{{\"id\":{id},\"result\":{result}}}"))
    }

    /// Sends one text message that `write` writes.
    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Result<()> {
        self.frame.clear();
        self.frame.resize(10, 0);
        write(&mut self.frame)?;
        let length = self.frame.len() - 10;
        let start = put_head(&mut self.frame, length);
        self.stream.write_all(&self.frame[start..]).map_err(Into::into)
    }

    fn output(&mut self, program: usize, output: usize) -> Result<()> {
        let program = &mut self.programs[program];
        let (stream, file) = &mut program.outputs[output];
        let mut piece = std::mem::take(&mut self.piece);
        let mut filled = 0;
        let mut ended = false;
        // A terminal gives 4 KiB at a time.
        while filled < PIECE {
            match file.read(&mut piece[filled..]) {
                Ok(0) => ended = true,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::EIO) => ended = true,
                Err(error) => return Err(error.into()),
            }
            if ended {
                break;
            }
        }
        let stream = *stream;
        if ended {
            program.outputs.remove(output);
        }
        if filled > 0 {
            let (seq, id) = (program.next_seq(), program.id.clone());
            self.send_output(&id, seq, stream, &piece[..filled])?;
        }
        self.piece = piece;
        Ok(())
    }

    fn send_output(&mut self, id: &str, seq: u64, stream: &str, bytes: &[u8]) -> Result<()> {
        self.send(|frame| {
            write!(
                frame,
                "{{\"method\":\"process/output\",\"params\":{{\"processId\":\"{id}\",\"seq\":{seq},\
                 \"stream\":\"{stream}\",\"chunk\":\""
            )?;
            STANDARD.encode_append(bytes, frame);
            frame.write_all(b"\"}}")
        })
    }

    fn exit(&mut self, program: usize) -> Result<()> {
        let program = &mut self.programs[program];
        let code = program.child.wait()?.code().unwrap_or(-1);
        program.exited = true;
        let (seq, id) = (program.next_seq(), program.id.clone());
        self.send(|frame| {
            write!(
                frame,
                "{{\"method\":\"process/exited\",\"params\":{{\"processId\":\"{id}\",\"seq\":{seq},\"exitCode\":{code}}}}}"
            )
        })
    }

    fn close_ended(&mut self) -> Result<()> {
        while let Some(place) =
            self.programs.iter().position(|program| program.exited && program.outputs.is_empty())
        {
            let mut program = self.programs.swap_remove(place);
            let (seq, id) = (program.next_seq(), program.id);
            self.send(|frame| {
                write!(
                    frame,
                    "{{\"method\":\"process/closed\",\"params\":{{\"processId\":\"{id}\",\"seq\":{seq}}}}}"
                )
            })?;
        }
        Ok(())
    }

    /// The length of the answer is known before the file is read, so it goes out piece by piece.
    fn read_file(&mut self, id: &Value, path: &str) -> Result<()> {
        const END: &str = "\"}}";
        // A multiple of three bytes, so that pieces join without padding.
        const FILE_PIECE: usize = PIECE / 3 * 3 * 4;
        let mut file = File::open(path)?;
        let size = usize::try_from(file.metadata()?.len())?;
        let start = format!("{{\"id\":{id},\"result\":{{\"dataBase64\":\"");
        self.frame.clear();
        self.frame.resize(10, 0);
        let head = put_head(&mut self.frame, start.len() + size.div_ceil(3) * 4 + END.len());
        self.frame.extend(start.as_bytes());
        self.stream.write_all(&self.frame[head..])?;
        let mut piece = vec![0; FILE_PIECE];
        let mut left = size;
        while left > 0 {
            let wanted = left.min(FILE_PIECE);
            file.read_exact(&mut piece[..wanted])?;
            left -= wanted;
            self.frame.clear();
            STANDARD.encode_append(&piece[..wanted], &mut self.frame);
            self.stream.write_all(&self.frame)?;
        }
        self.stream.write_all(END.as_bytes()).map_err(Into::into)
    }
}

/// Writes the head of a text frame so that it ends at byte 10; where it begins.
fn put_head(frame: &mut [u8], length: usize) -> usize {
    match length {
        0..=125 => {
            frame[8..10].copy_from_slice(&[0x81, length as u8]);
            8
        }
        126..=0xffff => {
            frame[6..8].copy_from_slice(&[0x81, 126]);
            frame[8..10].copy_from_slice(&(length as u16).to_be_bytes());
            6
        }
        _ => {
            frame[..2].copy_from_slice(&[0x81, 127]);
            frame[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            0
        }
    }
}

/// The first whole frame of a client, and how many bytes it took.
fn unmasked(received: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (length, at) = match *received.get(1)? & 0x7f {
        126 => (usize::from(u16::from_be_bytes(received.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(received.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let mask = received.get(at..at + 4)?;
    let payload = received.get(at + 4..at + 4 + length)?;
    let text = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((text, at + 4 + length))
}

fn start(params: &Value, cwd: &str) -> Result<Program> {
    let argv: Vec<&str> = params["argv"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (program, arguments) = argv.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(cwd).env_clear().process_group(0);
    for (name, value) in params["env"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap_or_default());
    }
    let mut input = None;
    let mut outputs = Vec::new();
    if params["tty"] == true {
        let (master, slave) = open_terminal()?;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        input = Some(File::from(master.try_clone()?));
        outputs.push(("pty", File::from(master)));
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let mut child = command.spawn()?;
    if let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    {
        input = Some(File::from(OwnedFd::from(stdin)));
        outputs.push(("stdout", File::from(OwnedFd::from(stdout))));
        outputs.push(("stderr", File::from(OwnedFd::from(stderr))));
    }
    for (_, output) in &outputs {
        rustix::io::ioctl_fionbio(output, true)?;
    }
    let exit = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let id = params["processId"].as_str().unwrap_or_default().to_owned();
    Ok(Program { id, child, exit, exited: false, input, outputs, seq: 0 })
}
