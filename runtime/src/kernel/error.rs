//! Why the loader did not do what it was asked.

use std::path::{Path, PathBuf};

use polc_compiler::compile::CompileError;
use polc_compiler::image::OpenExit;

use crate::sys::SyscallError;
use crate::sys::bpf::LoadError;

/// The loader's errors. Whatever was in force before stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// The host lacks something.
    #[error(
        "this host lacks what enforcing policy in the kernel takes:{}\n\
         `polc run` and `polc explain` work without it, in userspace",
        missing.iter().map(|m| format!("\n  - {m}")).collect::<String>()
    )]
    Unsupported {
        /// What is missing, and what to do about each.
        missing: Vec<String>,
    },
    /// Another process changes attachments and did not finish in time.
    #[error(
        "another polc process has been changing attachments under {folder} for {seconds} s; try again when it is done"
    )]
    Busy {
        /// The folder that is locked.
        folder: PathBuf,
        /// How long this one waited.
        seconds: u64,
    },
    /// What is pinned was made by another version of polc.
    #[error(
        "{folder} holds maps of ABI version {found}, and this polc needs {needed}: it would misread them. \
         Run `polc detach --all` (traffic passes unfiltered until the next attach) and attach again"
    )]
    Version {
        /// The folder.
        folder: PathBuf,
        /// What was found; text, since it may be nothing that this version knows.
        found: String,
        /// [`polc_compiler::abi::ABI_VERSION`].
        needed: u32,
    },
    /// A pinned map has another shape than this version's.
    #[error(
        "the map pinned at {path} is {found}, and this polc needs {needed}: it would misread it. \
         Run `polc detach --all` (traffic passes unfiltered until the next attach) and attach again"
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it has to be.
        needed: String,
    },
    /// There is no such interface, or it disappeared meanwhile.
    #[error("interface `{0}` is not there (any more); nothing is left attached to it")]
    NoInterface(String),
    /// Nothing of polc's is attached to the interface.
    #[error("nothing is attached to interface `{0}`; `polc status` lists what is")]
    NotAttached(String),
    /// A limit of polc's.
    #[error("{what}: {given}; at most {allowed}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        given: u64,
        /// How much there may be.
        allowed: u64,
    },
    /// The verifier refused a program.
    #[error("loading program `{program}`: {source}")]
    Refused {
        /// Its name.
        program: String,
        /// The kernel's answer and the verifier's log.
        source: LoadError,
    },
    /// A system call failed.
    #[error("{what}: {source}: {}", source.io_error)]
    Kernel {
        /// What it was for.
        what: String,
        /// The kernel's answer.
        source: SyscallError,
    },
    /// A file operation failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// Something under the folder is not what polc puts there.
    #[error("{path}: {reason}")]
    Unknown {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A policy cannot be compiled.
    #[error("{policy}: {source}")]
    Compile {
        /// Whose policy it is.
        policy: String,
        /// What does not fit.
        source: CompileError,
    },
    /// Untracked policy cannot run at XDP: a bug.
    #[error("untracked policy at XDP: {0}")]
    AtXdp(#[from] OpenExit),
    /// Tables in force could not take a change that was thought to fit.
    #[error("changing tables in force: {0}")]
    Tables(#[from] polc_compiler::address::Refused),
    /// The entry object is not one that this version can load: a bug.
    #[error("entry object: {0}")]
    Object(String),
}

impl LoaderError {
    /// Whether the kernel or a limit of polc's refused, as against wrong use.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Compile { source, .. } => source.is_limit(),
            _ => matches!(self, Self::Refused { .. } | Self::Limit { .. }),
        }
    }
}

/// For `map_err`: a system call's failure with what it was for.
pub(super) fn kernel(what: impl Into<String>) -> impl FnOnce(SyscallError) -> LoaderError {
    let what = what.into();
    move |source| LoaderError::Kernel { what, source }
}

/// For `map_err`: a file operation's failure with its path.
pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> LoaderError + '_ {
    move |source| LoaderError::File { path: path.to_owned(), source }
}
