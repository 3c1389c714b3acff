//! Captured packets: pcap and pcapng files, header parsing.

pub mod build;
