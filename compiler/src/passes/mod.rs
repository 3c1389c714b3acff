//! Optimisation passes over [`crate::ir::PolicyIr`].
