//! Runs and enforces images in the kernel (Linux only).
