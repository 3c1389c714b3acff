//! The arguments that all commands on the kernel share.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use polc_runtime::kernel::{LoaderError, View};

use crate::exit::{Exit, Failure};

/// Where pins are.
#[derive(clap::Args, Debug)]
pub struct BpfFs {
    /// Mount point of the bpffs that everything is pinned in
    #[arg(long = "bpffs", value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub path: PathBuf,
}

impl BpfFs {
    /// What is attached, to look at.
    pub fn view(&self) -> Result<View, Failure> {
        Ok(View::new(&self.path)?)
    }
}

/// How long to wait for another process.
#[derive(clap::Args, Debug)]
pub struct Wait {
    /// Seconds to wait for another polc that is changing attachments
    #[arg(long = "wait", value_name = "SECONDS", default_value = "10")]
    seconds: u32,
}

impl Wait {
    /// As a duration.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// `-o`.
#[derive(ValueEnum, Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people
    Table,
    /// JSON, described by docs/schema
    Json,
}

impl From<LoaderError> for Failure {
    fn from(error: LoaderError) -> Self {
        let exit = if error.is_refusal() { Exit::Limit } else { Exit::Usage };
        Self::Message(exit, error.to_string())
    }
}
