//! Links: an attachment that lives as long as a descriptor or pin has it.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{Command, Program, bpf, bpf_fd, fd_by_id, invalid, object_info};
use crate::sys::SyscallError;

/// `XDP_FLAGS_SKB_MODE`.
const XDP_GENERIC: u32 = 1 << 1;

/// Where a link attaches a program; the numbers are those of `enum bpf_attach_type`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AttachPoint {
    /// XDP, in the driver where it can, else where the kernel has made a packet of it.
    Xdp = 37,
    /// Packets that come in through an interface (from 6.6).
    TcxIngress = 46,
    /// Packets that leave through an interface (from 6.6).
    TcxEgress = 47,
}

/// What the kernel tells of a link to an interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's number for it.
    pub id: u32,
    /// Id of its program.
    pub program: u32,
    /// The interface; 0 once it is gone.
    pub ifindex: u32,
}

/// A link.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl Link {
    /// Attaches a program to an interface.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface, `EINVAL` where the kernel has no
    /// such link, `EBUSY` if another XDP program is there.
    pub fn create(program: &Program, ifindex: u32, at: AttachPoint) -> Result<Self, SyscallError> {
        Self::create_in_mode(program, ifindex, at, 0)
    }

    /// Attaches a program at XDP behind the driver, which every interface can.
    ///
    /// # Errors
    /// As for [`Self::create`].
    pub fn create_generic_xdp(program: &Program, ifindex: u32) -> Result<Self, SyscallError> {
        Self::create_in_mode(program, ifindex, AttachPoint::Xdp, XDP_GENERIC)
    }

    fn create_in_mode(
        program: &Program,
        ifindex: u32,
        at: AttachPoint,
        flags: u32,
    ) -> Result<Self, SyscallError> {
        #[repr(C)]
        struct Attribute {
            prog_fd: u32,
            target_ifindex: u32,
            attach_type: u32,
            flags: u32,
            /// No program that this one is to stand before or behind: the end.
            relative: u32,
            padding: u32,
            revision: u64,
        }
        let mut attribute = Attribute {
            prog_fd: program.as_fd().as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type: at as u32,
            flags,
            relative: 0,
            padding: 0,
            revision: 0,
        };
        // SAFETY: numbers only.
        let fd = unsafe { bpf_fd("bpf_link_create", Command::LinkCreate, &mut attribute) }?;
        Ok(Self { fd })
    }

    pub(super) fn of(fd: OwnedFd) -> Result<Self, SyscallError> {
        match super::pinned_kind(fd.as_fd())? {
            Some(super::PinnedKind::Link) => Ok(Self { fd }),
            _ => Err(invalid("bpf_link_info")),
        }
    }

    /// The link with an id.
    ///
    /// # Errors
    /// `ENOENT`, `EPERM`.
    pub fn by_id(id: u32) -> Result<Self, SyscallError> {
        Self::of(fd_by_id("bpf_link_get_fd_by_id", Command::LinkFdById, id)?)
    }

    /// Puts another program in the place of the attached one: no packet passes
    /// between the two.
    ///
    /// # Errors
    /// `ENOLINK` if the interface is gone; else what the kernel says.
    pub fn update(&self, program: &Program) -> Result<(), SyscallError> {
        // link, new program, flags, expected program
        let mut attribute = [self.fd.as_raw_fd() as u32, program.as_fd().as_raw_fd() as u32, 0, 0];
        // SAFETY: numbers only.
        unsafe { bpf("bpf_link_update", Command::LinkUpdate, &mut attribute) }.map(drop)
    }

    /// Takes the program off the interface at once, whoever else has the link.
    ///
    /// # Errors
    /// What the kernel says; an interface that is gone is no error.
    pub fn detach(&self) -> Result<(), SyscallError> {
        let mut attribute = self.fd.as_raw_fd() as u32;
        // SAFETY: one number.
        match unsafe { bpf("bpf_link_detach", Command::LinkDetach, &mut attribute) } {
            Err(e) if e.io_error.raw_os_error() != Some(libc::ENOLINK) => Err(e),
            _ => Ok(()),
        }
    }

    /// What the kernel tells of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn info(&self) -> Result<LinkInfo, SyscallError> {
        // type, id, program, padding, then by kind; XDP and tcx begin with the interface.
        let mut info = [0u32; 6];
        // SAFETY: numbers only; for the kinds made here the struct has no pointer
        // in its first 24 bytes.
        unsafe { object_info(self.fd.as_raw_fd(), &mut info) }?;
        Ok(LinkInfo { id: info[1], program: info[2], ifindex: info[4] })
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
