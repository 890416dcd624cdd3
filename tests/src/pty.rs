//! Runs the binary on a terminal of its own, and knows what that terminal shows.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::login::Home;
use crate::{GUARD, binary};

/// A program on a terminal.
pub struct Pty {
    master: File,
    child: Child,
    shown: Arc<Shown>,
    /// The sizes that it had, each from that byte of the output on.
    sizes: Vec<(usize, u16, u16)>,
}

#[derive(Default)]
struct Shown {
    /// Everything that the terminal got.
    output: Mutex<Vec<u8>>,
    more: Notify,
}

fn size(rows: u16, cols: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Pty {
    /// Runs `codex ARGUMENTS` on a terminal of this size, with a home directory of its own. The terminal controls it, so
    /// that a change of size is told.
    pub fn start(home: &Home, rows: u16, cols: u16, arguments: &[&str]) -> Self {
        Self::program(home, rows, cols, binary::codex(), arguments)
    }

    /// The same for another program.
    pub fn program(home: &Home, rows: u16, cols: u16, program: &Path, arguments: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal of ours");
        unlockpt(&master).expect("an unlocked terminal");
        tcsetwinsize(&master, size(rows, cols)).expect("a terminal takes a size");
        let name = ptsname(&master, Vec::new()).expect("a terminal has a name");
        let name = name.to_str().expect("a name in ASCII");
        let open = || OpenOptions::new().read(true).write(true).open(name).expect("a terminal can be opened");
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program).args(arguments);
        home.dress(&mut command);
        let child = command
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .kill_on_drop(true)
            .spawn()
            .expect("setsid of util-linux can be started");
        let master = File::from(master);
        let shown = Arc::<Shown>::default();
        let (mut reader, told) = (master.try_clone().expect("a descriptor"), Arc::clone(&shown));
        // Ends with EIO once nobody has the terminal open any more.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                told.output.lock().expect("nobody fails while writing").extend_from_slice(&buffer[..count]);
                told.more.notify_waiters();
            }
        });
        Self { master, child, shown, sizes: vec![(0, rows, cols)] }
    }

    /// Types these keys.
    pub fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("a terminal takes keys");
    }

    /// Changes the terminal's size.
    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.sizes.push((self.output().len(), rows, cols));
        tcsetwinsize(&self.master, size(rows, cols)).expect("a terminal takes a size");
    }

    /// All that the terminal got so far.
    pub fn output(&self) -> Vec<u8> {
        self.shown.output.lock().expect("nobody fails while writing").clone()
    }

    /// The text on a screen of this size that got the same.
    pub fn screen(&self, rows: u16, cols: u16) -> String {
        let size = |size| NonZero::new(size).expect("a size above 0");
        let mut parser = vt100::Parser::new(size(rows), size(cols), 0);
        parser.process(&self.output());
        parser.screen().contents()
    }

    /// A terminal that got the same, and had the same sizes meanwhile.
    pub fn terminal(&self) -> vt100::Parser {
        let size = |size| NonZero::new(size).expect("a size above 0");
        let (_, rows, cols) = self.sizes[0];
        let mut parser = vt100::Parser::new(size(rows), size(cols), 0);
        let output = self.output();
        for (number, (from, rows, cols)) in self.sizes.iter().enumerate() {
            let to = self.sizes.get(number + 1).map_or(output.len(), |(next, ..)| *next);
            parser.screen_mut().set_size(size(*rows), size(*cols));
            parser.process(&output[*from..to]);
        }
        parser
    }

    /// Waits until both terminals show the same, as `view` sees it.
    pub async fn shows_what(&self, other: &Self, view: impl Fn(&vt100::Screen) -> String) {
        let waiting = async {
            loop {
                let (ours, theirs) = (self.shown.more.notified(), other.shown.more.notified());
                tokio::pin!(ours, theirs);
                ours.as_mut().enable();
                theirs.as_mut().enable();
                if view(self.terminal().screen()) == view(other.terminal().screen()) {
                    return;
                }
                tokio::select! {
                    () = ours => {}
                    () = theirs => {}
                }
            }
        };
        if timeout(GUARD, waiting).await.is_err() {
            let [ours, theirs] = [self, other].map(|pty| pty.terminal().screen().contents());
            panic!("they never came to show the same:\n{ours}\n-- and the other:\n{theirs}");
        }
    }

    /// Waits until a screen of this size shows what is asked for.
    pub async fn until(&self, rows: u16, cols: u16, is_there: impl Fn(&str) -> bool) {
        let waiting = async {
            loop {
                let more = self.shown.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if is_there(&self.screen(rows, cols)) {
                    return;
                }
                more.await;
            }
        };
        if timeout(GUARD, waiting).await.is_err() {
            panic!("the screen never came to show it:\n{}", self.screen(rows, cols));
        }
    }

    /// Waits until a screen of 24 rows and 80 columns shows these words.
    pub async fn shows(&self, words: &str) {
        self.until(24, 80, |screen| screen.contains(words)).await;
    }

    /// Waits until the terminal got these words, whatever its screen shows by then.
    pub async fn says(&self, words: &str) {
        let said = |output: &[u8]| output.windows(words.len()).any(|part| part == words.as_bytes());
        self.until(24, 80, |_| said(&self.output())).await;
    }

    /// Waits for the end of the program.
    pub async fn ended(&mut self) -> ExitStatus {
        match timeout(GUARD, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => panic!("it never ended; the screen:\n{}", self.screen(24, 80)),
        }
    }
}
