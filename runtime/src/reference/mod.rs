//! The reference engine: packet parsing, connection tracking and policy in plain Rust, sharing no code with the entry programs or the emitter.
