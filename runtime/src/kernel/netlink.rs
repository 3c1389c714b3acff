//! The few routing messages that clsact takes: a qdisc and filters come and go.
//!
//! ```text
//! nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32
//! tcmsg:    family u8, 3 zero bytes, ifindex i32, handle u32, parent u32, info u32
//! attributes, each: length u16, type u16, value, filled up to 4
//! ```
//!
//! Spec: Linux `include/uapi/linux/{netlink,rtnetlink,pkt_sched,pkt_cls}.h`.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use crate::sys::bpf::Program;
use crate::sys::{RouteSocket, SyscallError};

const NEW_QDISC: u16 = 36;
const DEL_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const DEL_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;
/// The program's return code is the verdict.
const DIRECT_ACTION: u32 = 1;

/// Where the qdisc stands, and its handle.
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// First in line, all protocols (`ETH_P_ALL`, network order).
const PRIORITY_AND_PROTOCOL: u32 = 1 << 16 | 0x0300;
/// `polc`: says whose filter it is.
const HANDLE: u32 = 0x706f_6c63;

const HEAD: usize = 16;
const TC_HEAD: usize = 20;

/// A hook of the clsact qdisc; the value is the filters' parent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Side {
    /// What comes in through the interface.
    Ingress = 0xffff_fff2,
    /// What leaves through it.
    Egress = 0xffff_fff3,
}

/// Adds the qdisc; false if the interface has one already.
pub(super) fn add_clsact(ifindex: u32) -> Result<bool, SyscallError> {
    let mut message = Message::new(NEW_QDISC, CREATE | EXCLUSIVE, ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0);
    message.attribute(KIND, b"clsact\0");
    match message.request("adding the clsact qdisc") {
        Ok(_) => Ok(true),
        Err(e) if code(&e) == Some(libc::EEXIST) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes the qdisc with all filters; one that is not there is fine.
pub(super) fn remove_clsact(ifindex: u32) -> Result<(), SyscallError> {
    let message = Message::new(DEL_QDISC, 0, ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0);
    gone_is_fine(message.request("removing the clsact qdisc"))
}

/// Puts a program into polc's filter, which is made if it is not there. A filter
/// that is there changes in place: no packet passes in between.
pub(super) fn set_filter(ifindex: u32, side: Side, program: &Program) -> Result<(), SyscallError> {
    let mut message = Message::new(NEW_FILTER, CREATE, ifindex, HANDLE, side as u32, PRIORITY_AND_PROTOCOL);
    message.attribute(KIND, b"bpf\0");
    let mut options = Vec::new();
    put(&mut options, BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes());
    put(&mut options, BPF_NAME, b"polc\0");
    put(&mut options, BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    message.attribute(OPTIONS, &options);
    message.request("setting a tc filter").map(drop)
}

/// Removes polc's filter; one that is not there is fine.
pub(super) fn remove_filter(ifindex: u32, side: Side) -> Result<(), SyscallError> {
    let mut message = Message::new(DEL_FILTER, 0, ifindex, HANDLE, side as u32, PRIORITY_AND_PROTOCOL);
    message.attribute(KIND, b"bpf\0");
    gone_is_fine(message.request("removing a tc filter"))
}

/// The filters of a hook: handle, and id of the program (0 for other kinds).
pub(super) fn filters(ifindex: u32, side: Side) -> Result<Vec<(u32, u32)>, SyscallError> {
    let message = Message::new(GET_FILTER, DUMP, ifindex, 0, side as u32, 0);
    let answers = match message.request("listing tc filters") {
        Err(e) if is_gone(&e) => return Ok(Vec::new()),
        answers => answers?,
    };
    let mut found = Vec::new();
    for answer in answers {
        let Some(body) = answer.get(HEAD + TC_HEAD..) else { continue };
        let handle = word(&answer, HEAD + 8);
        let program = attributes(body)
            .find(|(kind, _)| *kind == OPTIONS)
            .and_then(|(_, options)| attributes(options).find(|(kind, _)| *kind == BPF_ID))
            .map_or(0, |(_, id)| word(id, 0));
        // The head of each priority is listed as well, with handle 0.
        if handle != 0 {
            found.push((handle, program));
        }
    }
    Ok(found)
}

/// Id of the program in polc's filter.
pub(super) fn filter_program(ifindex: u32, side: Side) -> Result<Option<u32>, SyscallError> {
    let all = filters(ifindex, side)?;
    Ok(all.into_iter().find(|(handle, _)| *handle == HANDLE).map(|(_, program)| program))
}

fn code(error: &SyscallError) -> Option<i32> {
    error.io_error.raw_os_error()
}

/// No such interface, qdisc or filter.
fn is_gone(error: &SyscallError) -> bool {
    matches!(code(error), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL))
}

fn gone_is_fine(outcome: Result<Vec<Vec<u8>>, SyscallError>) -> Result<(), SyscallError> {
    match outcome {
        Err(e) if !is_gone(&e) => Err(e),
        _ => Ok(()),
    }
}

/// A request under construction.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16, ifindex: u32, handle: u32, parent: u32, info: u32) -> Self {
        let flags = flags | REQUEST | if flags & DUMP == DUMP { 0 } else { ACKNOWLEDGE };
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([0; 4]);
        for number in [ifindex, handle, parent, info] {
            bytes.extend(number.to_ne_bytes());
        }
        Self { bytes }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        put(&mut self.bytes, kind, value);
    }

    /// Sends it; the answers up to the acknowledgement or the dump's end.
    fn request(mut self, call: &'static str) -> Result<Vec<Vec<u8>>, SyscallError> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let socket = RouteSocket::new()?;
        socket.send(&self.bytes)?;
        let mut answers = Vec::new();
        loop {
            let datagram = socket.receive()?;
            let mut rest = &datagram[..];
            while rest.len() >= HEAD {
                let length = (word(rest, 0) as usize).clamp(HEAD, rest.len());
                let message = &rest[..length];
                match half(message, 4) {
                    MESSAGE_DONE => return Ok(answers),
                    MESSAGE_ERROR => match word(message, HEAD) as i32 {
                        0 => return Ok(answers),
                        error => {
                            return Err(SyscallError {
                                call,
                                io_error: io::Error::from_raw_os_error(-error),
                            });
                        }
                    },
                    _ => answers.push(message.to_vec()),
                }
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend((value.len() as u16 + 4).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Type and value of each attribute; stops at one that is cut.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = half(bytes, 0) as usize;
        let value = bytes.get(4..length)?;
        let kind = half(bytes, 2) & 0x3fff;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The number at an offset; 0 behind the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut bytes = Vec::new();
        put(&mut bytes, 7, b"polc\0");
        put(&mut bytes, 11, &5u32.to_ne_bytes());
        assert_eq!(bytes.len(), 12 + 8);
        let all: Vec<_> = attributes(&bytes).collect();
        assert_eq!(all, [(7, &b"polc\0"[..]), (11, &5u32.to_ne_bytes()[..])]);
        assert_eq!(attributes(&bytes[..10]).count(), 1);
        assert_eq!(attributes(&bytes[..7]).count(), 0);
    }
}
