//! The two ways to an interface's packets: tcx links (from 6.6) and filters of the
//! clsact qdisc; and XDP links, for a host's untracked policy.
//!
//! A link is pinned with the attachment and gone with its pin. A filter stays
//! until it is removed; it carries polc's handle. Both change their program in
//! place.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{LoaderError, kernel};
use super::netlink::{self, Side};
use crate::sys::SyscallError;
use crate::sys::bpf::{AttachPoint, Link, Program};

/// How programs are attached.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// tcx links, from 6.6.
    Tcx,
    /// Filters of the clsact qdisc.
    Clsact,
}

impl Hook {
    /// `tcx` or `clsact`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// One of an interface's two hooks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// What comes in through the interface.
    In,
    /// What leaves through it.
    Out,
}

impl Way {
    pub const BOTH: [Self; 2] = [Self::In, Self::Out];

    /// Name of its pins: `link_in`.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    fn side(self) -> Side {
        match self {
            Self::In => Side::Ingress,
            Self::Out => Side::Egress,
        }
    }

    fn point(self) -> AttachPoint {
        match self {
            Self::In => AttachPoint::TcxIngress,
            Self::Out => AttachPoint::TcxEgress,
        }
    }
}

/// Attaches a tcx link and pins it at once: a process that is killed in between
/// leaves nothing.
pub(super) fn attach_tcx(program: &Program, ifindex: u32, way: Way, pin: &Path) -> Result<(), SyscallError> {
    Link::create(program, ifindex, way.point())?.pin(pin)
}

/// Puts a program in the place of the attached one.
pub(super) fn update_link(program: &Program, pin: &Path) -> Result<(), LoaderError> {
    let what = || format!("changing the program of the link {}", pin.display());
    Link::open(pin).map_err(kernel(what()))?.update(program).map_err(kernel(what()))
}

/// Attaches at XDP and pins the link at once; in the driver, else behind it.
pub(super) fn attach_xdp(program: &Program, ifindex: u32, pin: &Path) -> Result<(), SyscallError> {
    let link = Link::create(program, ifindex, AttachPoint::Xdp);
    link.or_else(|_| Link::create_generic_xdp(program, ifindex))?.pin(pin)
}

/// Sets polc's filter of the clsact qdisc, which must be there.
pub(super) fn set_clsact(program: &Program, ifindex: u32, way: Way) -> Result<(), SyscallError> {
    netlink::set_filter(ifindex, way.side(), program)
}

/// Removes polc's filters, and the qdisc if it is polc's and nobody else uses it.
pub(super) fn remove_clsact(ifindex: u32, made_qdisc: bool) -> Result<(), SyscallError> {
    for way in Way::BOTH {
        netlink::remove_filter(ifindex, way.side())?;
    }
    if made_qdisc && !has_filters(ifindex)? {
        netlink::remove_clsact(ifindex)?;
    }
    Ok(())
}

fn has_filters(ifindex: u32) -> Result<bool, SyscallError> {
    for way in Way::BOTH {
        if !netlink::filters(ifindex, way.side())?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Id of the program that polc attached, as the kernel has it; `None` if there is
/// none, or the interface is gone. `pins` is the attachment's folder.
pub(super) fn attached(hook: Hook, ifindex: u32, way: Way, pins: &Path) -> Option<u32> {
    match hook {
        Hook::Tcx => linked(ifindex, &link_pin(pins, way)),
        Hook::Clsact => netlink::filter_program(ifindex, way.side()).ok()?,
    }
}

/// Id of the program that a pinned link attaches to an interface.
pub(super) fn linked(ifindex: u32, pin: &Path) -> Option<u32> {
    let info = Link::open(pin).ok()?.info().ok()?;
    (info.ifindex == ifindex).then_some(info.program)
}

/// Takes an attachment's links off their hooks now. Removing the pins does it, too, a
/// moment later: what fails here is left to that.
pub(super) fn detach_links(pins: &Path) {
    for pin in [link_pin(pins, Way::In), link_pin(pins, Way::Out), xdp_link_pin(pins)] {
        let _ = Link::open(&pin).and_then(|link| link.detach());
    }
}

/// Where a link is pinned in an attachment's folder.
pub(super) fn link_pin(pins: &Path, way: Way) -> std::path::PathBuf {
    pins.join(format!("link_{}", way.name()))
}

/// Where an entry program is pinned.
pub(super) fn entry_pin(pins: &Path, way: Way) -> std::path::PathBuf {
    pins.join(format!("entry_{}", way.name()))
}

/// Where the link at XDP is pinned.
pub(super) fn xdp_link_pin(pins: &Path) -> std::path::PathBuf {
    pins.join("link_xdp")
}

/// Where the entry program at XDP is pinned.
pub(super) fn xdp_pin(pins: &Path) -> std::path::PathBuf {
    pins.join("entry_xdp")
}

/// Where the program is pinned that goes on behind untracked policy.
pub(super) fn tracked_pin(pins: &Path) -> std::path::PathBuf {
    pins.join("entry_tracked")
}
