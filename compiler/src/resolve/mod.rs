//! Objects and inventory to [`crate::ir::PolicyIr`].
