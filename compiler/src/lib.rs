//! Compiler from Kubernetes and Calico network policy to eBPF.
//!
//! ```text
//! YAML ─manifest─▶ objects ─resolve─▶ PolicyIr ─passes─▶ PolicyIr ─emit─▶ PolicyImage ─▶ listing, ELF, VM, kernel
//! ```
//!
//! Pure: no file, socket, clock or environment is touched, no hash-map order
//! reaches an output, and the same input gives the same bytes.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod abi;
pub mod address;
pub mod bpf;
pub mod compile;
pub mod cost;
pub mod diag;
pub mod dispatch;
pub mod emit;
pub mod explain;
pub mod image;
pub mod ir;
pub mod lint;
pub mod live;
pub mod manifest;
pub mod passes;
pub mod profile;
pub mod resolve;
pub mod selector;
