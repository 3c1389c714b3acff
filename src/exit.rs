//! How the command ends: exit codes and the failures behind them.

use std::io;
use std::process::ExitCode;

use polc_runtime::EngineError;

use crate::output;

/// Exit codes; part of the command's contract.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Done, and something was found.
    Finding = 1,
    /// Wrong usage, or input that cannot be read.
    Usage = 2,
    /// Invalid policy.
    InvalidPolicy = 3,
    /// A limit of polc's or of the kernel's, or a verifier's refusal.
    Limit = 4,
    /// A bug in polc.
    Bug = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// Nobody reads the output any more: not an error.
    ClosedPipe,
    /// Everything has been said on stderr.
    Reported(Exit),
    /// To be said on stderr.
    Message(Exit, String),
}

impl Failure {
    /// Wrong usage, or input that cannot be read.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Message(Exit::Usage, message.into())
    }

    /// Says on stderr what has not been said yet.
    pub fn report(self) -> Exit {
        match self {
            Self::ClosedPipe => Exit::Ok,
            Self::Reported(exit) => exit,
            Self::Message(exit, message) => {
                output::error(&message);
                exit
            }
        }
    }

    /// Data could not be written to `what`.
    pub fn write(what: &str, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::usage(format!("cannot write {what}: {error}"))
    }
}

/// Standard output could not be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::write("standard output", &error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let exit = match &error {
            EngineError::Unavailable { .. } => Exit::Usage,
            EngineError::Refused { .. } | EngineError::Kernel { .. } => Exit::Limit,
            _ => Exit::Bug,
        };
        Self::Message(exit, error.to_string())
    }
}
