//! Captured packets: pcap and pcapng files, header parsing.
