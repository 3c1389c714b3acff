//! Optimisation passes over [`crate::ir::PolicyIr`].

mod classify;

pub use classify::{AddressClasses, Class, SetBit, classify};
