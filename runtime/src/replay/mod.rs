//! Replays a capture: which endpoints own a packet, and what each of them decides.
