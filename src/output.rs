//! Where output goes: data to stdout, everything else to stderr.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};

/// Standard output, buffered.
pub type Stdout = BufWriter<io::StdoutLock<'static>>;

/// Standard output, buffered and locked.
pub fn stdout() -> Stdout {
    BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

/// Whether stdout shows colours: a terminal, unless `NO_COLOR` and the like say otherwise.
pub fn stdout_color() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Whether stderr shows colours.
pub fn stderr_color() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Says on stderr what is wrong. That stderr may be closed is nobody's problem.
pub fn error(message: &str) {
    let _ = writeln!(anstream::stderr(), "\x1b[1;31merror\x1b[0m: {message}");
}

/// Says on stderr what is probably not meant.
pub fn warning(message: &str) {
    let _ = writeln!(anstream::stderr(), "\x1b[1;33mwarning\x1b[0m: {message}");
}

/// Says on stderr what happened, as a line of a log.
#[cfg(target_os = "linux")]
pub fn log(level: &str, message: &str) {
    let _ = writeln!(anstream::stderr(), "{level} {message}");
}
