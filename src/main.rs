//! The `polc` command: arguments, output and exit codes; no logic of its own.

mod commands;
#[cfg(target_os = "linux")]
mod enforced;
mod exit;
mod inputs;
mod output;
mod programs;
#[cfg(target_os = "linux")]
mod stamps;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;
use exit::Exit;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_bug));
    let cli = Cli::parse();
    let outcome = std::panic::catch_unwind(|| commands::dispatch(cli));
    match outcome {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => failure.report().into(),
        Err(_) => Exit::Bug.into(),
    }
}

/// What a panic prints: a panic is a bug in polc, whatever the input.
fn report_bug(info: &std::panic::PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("unknown");
    let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
    output::error(&format!(
        "this is a bug in polc {}: {message}{place}\n\
         please report it with the command line and, if you can, the input",
        env!("CARGO_PKG_VERSION")
    ));
}
