//! A routing socket: bytes to the kernel and its answers.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::SyscallError;

/// A netlink socket of the routing family, in the network namespace that the
/// calling thread was in when it was made.
#[derive(Debug)]
pub struct RouteSocket {
    fd: OwnedFd,
}

impl RouteSocket {
    /// Opens it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> Result<Self, SyscallError> {
        // SAFETY: numbers only.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if fd < 0 {
            return Err(SyscallError::last("socket"));
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Sends one message to the kernel.
    ///
    /// # Errors
    /// What the kernel says about sending; its answer is [`Self::receive`]d.
    pub fn send(&self, message: &[u8]) -> Result<(), SyscallError> {
        // SAFETY: the buffer is read for its length. Without an address a netlink
        // socket speaks to the kernel.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 { Err(SyscallError::last("send")) } else { Ok(()) }
    }

    /// The next datagram: one or more messages. Waits for it.
    ///
    /// # Errors
    /// What the kernel says; `EMSGSIZE` for a datagram that had to be cut.
    pub fn receive(&self) -> Result<Vec<u8>, SyscallError> {
        let mut buffer = vec![0u8; 64 << 10];
        // SAFETY: the buffer is writable for its length; MSG_TRUNC makes the call
        // give the datagram's length, which may be more.
        let length = unsafe {
            libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC)
        };
        let Ok(length) = usize::try_from(length) else { return Err(SyscallError::last("recv")) };
        if length > buffer.len() {
            let io_error = std::io::Error::from_raw_os_error(libc::EMSGSIZE);
            return Err(SyscallError { call: "recv", io_error });
        }
        buffer.truncate(length);
        Ok(buffer)
    }
}
