//! A progress bar on stderr for long captures.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Packets between two looks at the bar; also how long a capture must be to get one.
const EVERY: u64 = 1 << 16;

/// A progress bar that shows up only where it helps: on a terminal, when the
/// rows do not go there as well, and when the capture is long.
pub struct Progress {
    wanted: bool,
    /// Size of the capture in bytes, if known.
    size: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar for a capture of `size` bytes.
    pub fn new(size: Option<u64>, rows_on_terminal: bool) -> Self {
        Self { wanted: !rows_on_terminal && stderr().is_terminal(), size, bar: None }
    }

    /// Tells how far the capture has been read.
    #[inline]
    pub fn at(&mut self, packets: u64, offset: u64) {
        if self.wanted && packets.is_multiple_of(EVERY) {
            self.show(packets, offset);
        }
    }

    #[cold]
    fn show(&mut self, packets: u64, offset: u64) {
        let bar = self.bar.get_or_insert_with(|| make(self.size));
        bar.set_position(offset);
        bar.set_message(format!("{packets} packets"));
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn make(size: Option<u64>) -> ProgressBar {
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:30} {percent:>3}% {msg} {bytes_per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
