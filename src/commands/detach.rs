//! `polc detach`: take policy off an interface.

use polc_runtime::kernel::{Dataplane, Pins, detach_all};

use super::bpffs::{BpfFs, Wait};
use crate::exit::{Exit, Failure};
use crate::output as streams;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Interface to detach from; it may be gone
    #[arg(short, long, value_name = "IFACE", required_unless_present = "all", conflicts_with = "all")]
    interface: Option<String>,

    /// Detach from every interface and remove everything that is pinned, whatever
    /// version of polc made it
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    bpffs: BpfFs,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Some(interface) = &args.interface else {
        let count = detach_all(&args.bpffs.path, args.wait.duration())?;
        streams::log("INFO", &format!("detached from {count} interfaces"));
        return Ok(Exit::Ok);
    };
    // Nothing was ever attached: looking must not leave a folder.
    args.bpffs.view()?;
    if !Pins::new(&args.bpffs.path).root().exists() {
        return Err(polc_runtime::kernel::LoaderError::NotAttached(interface.clone()).into());
    }
    Dataplane::open(&args.bpffs.path, args.wait.duration())?.detach(interface)?;
    streams::log("INFO", &format!("{interface}: detached"));
    Ok(Exit::Ok)
}
