//! The userspace VM: rbpf with maps and tail calls, running the entry object and policy images.
