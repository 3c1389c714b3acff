//! The `polc` command: arguments, output and exit codes; no logic of its own.
fn main() {}
