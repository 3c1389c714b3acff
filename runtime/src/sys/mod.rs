//! The only module with unsafe code.
