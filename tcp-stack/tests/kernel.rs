//! The stack against the kernel's own: a network namespace with the device, and whoever opens connections outside of it.

#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use codex_tcp_stack::{Ask, Bounds, StackEnd, answer, give, next_question, pair, serve};
use rustix::event::{PollFd, PollFlags, poll};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// Whether there is what these tests take; who is no root is tested with the whole server.
fn possible() -> bool {
    let possible = rustix::process::geteuid().is_root() && std::fs::metadata("/dev/net/tun").is_ok();
    if !possible {
        eprintln!("SKIPPED: only root can make a network namespace by itself, and it takes /dev/net/tun");
    }
    possible
}

/// Does the work in a network of its own, whose connections are opened as `admit` says.
fn inside<T: Send + 'static>(
    bounds: Bounds,
    admit: impl Fn(&Ask) -> Option<TcpStream> + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (ready, given) = mpsc::channel();
    let program = thread::spawn(move || {
        // SAFETY: only this thread's network becomes another.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET).unwrap() };
        let lo = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(lo.is_ok_and(|status| status.success()), "the tests take iproute2");
        ready.send(codex_tcp_stack::make(RESOLVER).unwrap()).unwrap();
        work()
    });
    let given = given.recv_timeout(PATIENCE).unwrap();
    let (server, stack) = pair().unwrap();
    give(&server, &given, bounds).unwrap();
    drop(given);
    // Both end with the test's process.
    thread::spawn(move || serve(StackEnd::from(stack)));
    thread::spawn(move || {
        loop {
            poll(&mut [PollFd::new(&server, PollFlags::IN)], None).unwrap();
            let Ok(Some(ask)) = next_question(&server) else { return };
            let stream = admit(&ask);
            if let Some(stream) = &stream {
                stream.set_nonblocking(true).unwrap();
            }
            answer(&server, ask.id, stream.as_ref().map(AsFd::as_fd)).unwrap();
        }
    });
    program.join().unwrap()
}

const BOUNDS: Bounds = Bounds { connections: 256, names: 1000 };

/// Asks the resolver at its address, as programs do.
fn resolve(name: &str, kind: u8) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&question(name, kind), (RESOLVER, 53)).unwrap();
    let mut answer = [0; 512];
    let (length, _) = socket.recv_from(&mut answer).unwrap();
    answer[..length].to_vec()
}

fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 0, kind, 0, 1]);
    question
}

/// The last bytes of an answer are its address.
fn v4(name: &str) -> Ipv4Addr {
    let answer = resolve(name, 1);
    Ipv4Addr::from_octets(*answer.last_chunk().unwrap())
}

/// Listens outside, and does this with each connection.
fn origin(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().unwrap();
    let _ = std::io::copy(&mut stream, &mut copy);
    let _ = stream.shutdown(Shutdown::Write);
}

#[test]
fn connections_go_where_their_names_or_addresses_say() {
    if !possible() {
        return;
    }
    let there = origin(echo);
    let (asked, seen) = mpsc::channel();
    let said = inside(
        BOUNDS,
        move |ask| {
            asked.send(format!("{} {}", ask.host, ask.port)).unwrap();
            (ask.host != "denied.test").then(|| TcpStream::connect(there).unwrap())
        },
        || {
            let exchange = |target: SocketAddr| {
                let mut stream = TcpStream::connect(target)?;
                stream.write_all(b"hello")?;
                stream.shutdown(Shutdown::Write)?;
                let mut said = String::new();
                stream.read_to_string(&mut said).map(|_| said)
            };
            let v6 = resolve("a.test", 28);
            let v6 = std::net::Ipv6Addr::from_octets(*v6.last_chunk().unwrap());
            let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
            udp.connect("1.1.1.1:53").unwrap();
            udp.set_read_timeout(Some(PATIENCE)).unwrap();
            udp.send(&question("a.test", 1)).unwrap();
            [
                exchange((v4("a.test"), 80).into()),
                exchange((v6, 81).into()),
                exchange("1.2.3.4:82".parse().unwrap()),
                exchange("[2001:db8:1::7]:83".parse().unwrap()),
                exchange((v4("denied.test"), 84).into()),
                exchange("198.18.77.7:85".parse().unwrap()),
                exchange("127.0.0.1:86".parse().unwrap()),
                exchange("0.0.0.0:87".parse().unwrap()),
                udp.recv(&mut [0; 512]).map(|_| "a name server of its own".to_owned()),
            ]
            .map(|said| said.map_err(|error| error.kind()))
        },
    );
    use std::io::ErrorKind::ConnectionRefused;
    let hello = || Ok("hello".to_owned());
    let refused = || Err(ConnectionRefused);
    assert_eq!(said[..4], [hello(), hello(), hello(), hello()]);
    // By the stack, by the kernel, and a name server of the program's own choice.
    assert_eq!(said[4..], [refused(), refused(), refused(), refused(), refused()]);
    let asked: Vec<String> = seen.try_iter().collect();
    assert_eq!(asked, ["a.test 80", "a.test 81", "1.2.3.4 82", "2001:db8:1::7 83", "denied.test 84"]);
}

#[test]
fn names_are_told_over_tcp_as_well_and_by_the_usual_resolver() {
    if !possible() {
        return;
    }
    let (tcp, address) = inside(
        BOUNDS,
        |_| None,
        || {
            let mut stream = TcpStream::connect((RESOLVER, 53)).unwrap();
            let question = question("b.test", 1);
            let length = u16::try_from(question.len()).unwrap().to_be_bytes();
            // Two at once, the second in two pieces.
            stream.write_all(&[&length[..], &question, &length, &question[..5]].concat()).unwrap();
            let mut answers = Vec::new();
            for rest in [&question[5..], &[]] {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut answer).unwrap();
                answers.push(answer);
                stream.write_all(rest).unwrap();
            }
            (answers, v4("b.test"))
        },
    );
    assert!(tcp.iter().all(|answer| answer.ends_with(&address.octets())), "{tcp:?}");
}

#[test]
fn two_hundred_connections_carry_at_once_and_idle_ones_stay() {
    if !possible() {
        return;
    }
    let there = origin(echo);
    inside(
        BOUNDS,
        move |_| Some(TcpStream::connect(there).unwrap()),
        || {
            let target = (v4("a.test"), 80);
            let mut streams: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(target).unwrap()).collect();
            let piece = |index: usize| vec![u8::try_from(index).unwrap_or(0); 20_000];
            for round in 0..3 {
                for (index, stream) in streams.iter_mut().enumerate() {
                    stream.write_all(&piece(index + round)).unwrap();
                }
                for (index, stream) in streams.iter_mut().enumerate() {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut back = vec![0; 20_000];
                    stream.read_exact(&mut back).unwrap();
                    assert!(back == piece(index + round), "{index}");
                }
            }
        },
    );
}

#[test]
fn ends_and_resets_arrive_on_the_other_side() {
    if !possible() {
        return;
    }
    // Says goodbye at once, and then reads all the same.
    let half = origin(|mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), 1_000_000);
    });
    let resets = origin(|mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        // With bytes that nobody has read, closing resets.
        stream.peek(&mut [0; 1]).unwrap();
    });
    inside(
        BOUNDS,
        move |ask| Some(TcpStream::connect(if ask.port == 1 { half } else { resets }).unwrap()),
        || {
            let mut stream = TcpStream::connect(("1.2.3.4", 1)).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(said, "bye");
            stream.write_all(&vec![7; 1_000_000]).unwrap();
            drop(stream);
            let mut stream = TcpStream::connect(("1.2.3.4", 2)).unwrap();
            stream.write_all(b"more than is read").unwrap();
            let error = stream.read(&mut [0; 9]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        },
    );
}

#[test]
fn what_comes_is_what_was_sent_however_much_it_is() {
    if !possible() {
        return;
    }
    const SIZE: usize = 64 << 20;
    let source = origin(|mut stream| {
        let piece: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
        for _ in 0..SIZE >> 20 {
            stream.write_all(&piece).unwrap();
        }
    });
    let took = inside(
        BOUNDS,
        move |_| Some(TcpStream::connect(source).unwrap()),
        || {
            let mut stream = TcpStream::connect(("1.2.3.4", 1)).unwrap();
            let began = Instant::now();
            let (mut piece, mut total) = (vec![0; 1 << 20], 0_usize);
            loop {
                let length = stream.read(&mut piece).unwrap();
                if length == 0 {
                    break;
                }
                let right = |(index, byte): (usize, &u8)| *byte == ((total + index) % 256) as u8;
                assert!(piece[..length].iter().enumerate().all(right), "at {total}");
                total += length;
            }
            assert_eq!(total, SIZE);
            began.elapsed()
        },
    );
    eprintln!("{} MB/s", SIZE as f64 / took.as_secs_f64() / 1e6);
}

#[test]
fn more_connections_than_there_is_room_for_wait() {
    if !possible() {
        return;
    }
    let there = origin(echo);
    let bounds = Bounds { connections: 2, names: 1 };
    inside(
        bounds,
        move |_| Some(TcpStream::connect(there).unwrap()),
        || {
            let target = ("1.2.3.4", 1).to_socket_addrs().unwrap().next().unwrap();
            let mut both = [TcpStream::connect(target).unwrap(), TcpStream::connect(target).unwrap()];
            let third = TcpStream::connect_timeout(&target, Duration::from_millis(300));
            assert_eq!(third.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
            for stream in &mut both {
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0; 1]).unwrap();
            }
            drop(both);
            // There is room once they are over.
            let mut third = TcpStream::connect(target).unwrap();
            third.write_all(b"x").unwrap();
            third.read_exact(&mut [0; 1]).unwrap();
        },
    );
}
