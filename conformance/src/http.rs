//! What a listening server answers to plain HTTP (2.2).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report::Verdict;
use crate::rules::Level;
use crate::subject::Subject;

/// A request, and what its answer has to begin with.
pub(crate) struct Question {
    pub(crate) section: &'static str,
    pub(crate) level: Level,
    pub(crate) rule: &'static str,
    /// The request line and its own headers.
    request: &'static str,
    /// The status, or no answer at all.
    status: &'static str,
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// All of them.
pub(crate) const QUESTIONS: [Question; 6] = [
    Question {
        section: "2.2",
        level: Level::Must,
        rule: "a websocket is opened at /",
        request: "GET / HTTP/1.1\r\nUPGRADE",
        status: "101",
    },
    Question {
        section: "2.2",
        level: Level::Must,
        rule: "a query does not matter",
        request: "GET /?a=b HTTP/1.1\r\nUPGRADE",
        status: "101",
    },
    Question {
        section: "2.2",
        level: Level::Must,
        rule: "a page in a browser opens no websocket: any Origin is 403",
        request: "GET / HTTP/1.1\r\norigin: null\r\nUPGRADE",
        status: "403",
    },
    Question {
        section: "2.2",
        level: Level::Should,
        rule: "another path is 404",
        request: "GET /other HTTP/1.1\r\nUPGRADE",
        status: "404",
    },
    Question {
        section: "2.2",
        level: Level::Should,
        rule: "GET /readyz is 200",
        request: "GET /readyz HTTP/1.1\r\n",
        status: "200",
    },
    Question {
        section: "2.2",
        level: Level::Should,
        rule: "POST / is 405",
        request: "POST / HTTP/1.1\r\n",
        status: "405",
    },
];

pub(crate) async fn ask(subject: &Subject, question: &Question) -> Verdict {
    let Some(url) = &subject.http else { return Verdict::Skipped("it listens on no plain websocket".into()) };
    let place = url.trim_start_matches("ws://").split(['/', '?']).next().unwrap_or_default();
    match tokio::time::timeout(subject.patience, status(place, question.request)).await {
        Ok(Ok(found)) if found == question.status => Verdict::Kept,
        Ok(Ok(found)) => Verdict::Broken(format!("it answers {found}, and not {}", question.status)),
        Ok(Err(error)) => Verdict::Broken(format!("it can't be asked: {error}")),
        Err(_) => Verdict::Broken(format!("it does not answer within {:?}", subject.patience)),
    }
}

async fn status(place: &str, request: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(place).await?;
    let request = format!("{}host: {place}\r\n\r\n", request.replace("UPGRADE", UPGRADE));
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    // The status line is all that counts.
    while !answer.contains(&b'\n') {
        match socket.read(&mut buffer).await? {
            0 => break,
            count => answer.extend(buffer.iter().take(count)),
        }
    }
    let line = String::from_utf8_lossy(&answer).into_owned();
    Ok(line.split(' ').nth(1).map_or_else(|| "nothing".to_owned(), str::to_owned))
}
