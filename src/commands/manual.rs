//! `polc completions` and `polc man`: generated from the argument definitions.

use std::io::Write;

use clap::CommandFactory;

use super::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

/// Prints a completion script.
pub fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "polc", &mut script);
    print(&script)
}

/// Prints the manual: one page for the command, then one per subcommand.
pub fn man() -> Result<Exit, Failure> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for subcommand in command.get_subcommands() {
        clap_mangen::Man::new(subcommand.clone()).render(&mut page)?;
    }
    print(&page)
}

fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = output::stdout();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(Exit::Ok)
}
