//! Shows how far a copy is, on a terminal's stderr only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use codex_exec_server::transfer::Progress;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::stdio::stderr;
use rustix::termios::isatty;

use crate::output;

/// How often the bar is drawn. Our own pace: nothing outside depends on it.
const DRAW_TIME: Duration = Duration::from_millis(100);

/// A bar, drawn beside the copy.
pub(super) struct Bar {
    bar: ProgressBar,
    drawing: Option<tokio::task::JoinHandle<()>>,
}

impl Bar {
    /// Starts to draw, unless stderr is no terminal or nobody wants to see it.
    pub(super) fn start(progress: Arc<Progress>, quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        if quiet || !isatty(stderr()) {
            return Self { bar, drawing: None };
        }
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            bar.set_style(style);
        }
        let drawn = bar.clone();
        let drawing = tokio::spawn(async move {
            loop {
                drawn.set_length(progress.expected.load(Ordering::Relaxed));
                drawn.set_position(progress.bytes.load(Ordering::Relaxed));
                drawn.set_message(format!("{} files", progress.files.load(Ordering::Relaxed)));
                tokio::time::sleep(DRAW_TIME).await;
            }
        });
        Self { bar, drawing: Some(drawing) }
    }

    /// Prints a line above the bar.
    pub(super) fn note(&self, line: &str) {
        self.bar.suspend(|| output::note(line));
    }

    /// Takes the bar away.
    pub(super) fn end(self) {}
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(drawing) = &self.drawing {
            drawing.abort();
            self.bar.finish_and_clear();
        }
    }
}

/// An amount for people.
pub(super) fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}
