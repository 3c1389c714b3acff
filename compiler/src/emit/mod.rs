//! [`crate::ir::PolicyIr`] to [`crate::image::PolicyImage`].
