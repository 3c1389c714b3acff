//! Untracked policy: at XDP for what comes in, at tc before tracking for what
//! goes out.
//!
//! A packet that comes in passes both hooks here, as it does at an interface:
//! first XDP, and unless that drops it, tc with the metadata that XDP left.

use polc_compiler::abi;
use polc_compiler::abi::config::Config;
use polc_compiler::image::{PolicyImage, for_xdp};
use polc_compiler::ir::{Direction, Verdict};

use super::{Attached, META, UNTRACKED_SLOT, Vm, unknown, write_config};
use crate::{Attachment, EngineError, Evaluation, Packet};

/// Fields of `struct xdp_md`.
const XDP_DATA: u64 = 0;
const XDP_DATA_END: u64 = 4;
const XDP_DATA_META: u64 = 8;
const XDP_IFINDEX: u64 = 12;

impl Attached {
    /// What the configuration at tc says about untracked policy.
    pub(super) fn untracked_flag(&self) -> u32 {
        match (self.untracked, self.direction) {
            (None, _) => 0,
            (Some(_), Direction::Ingress) => abi::CONFIG_XDP,
            (Some(_), Direction::Egress) => abi::CONFIG_UNTRACKED,
        }
    }
}

impl Vm {
    /// Gives an attachment an untracked policy, made for tc; `pass_decision` is
    /// the decision with which it lets pass what it has nothing to say about.
    ///
    /// # Errors
    /// As for [`Vm::new`]; or there is no such attachment.
    pub fn set_untracked(
        &mut self,
        at: Attachment,
        image: &PolicyImage,
        pass_decision: u32,
    ) -> Result<(), EngineError> {
        let Some(attached) = self.attachments.get(at.0 as usize) else { return Err(unknown(at)) };
        let (old, direction) = (attached.untracked, attached.direction);
        let new = match direction {
            Direction::Egress => self.load_image(image)?,
            Direction::Ingress => {
                let refused = |e: polc_compiler::image::OpenExit| EngineError::Refused {
                    program: e.program.clone(),
                    reason: e.to_string(),
                };
                self.load_image(&for_xdp(image).map_err(refused)?)?
            }
        };
        self.attachments[at.0 as usize].untracked = Some((new, pass_decision));
        if let Some((old, _)) = old {
            self.release_image(old);
        }
        self.current = None;
        Ok(())
    }

    /// Puts the selected attachment's untracked policy into its slot.
    pub(super) fn place_untracked(&mut self, at: Attachment) {
        let Some(attached) = self.attachments.get(at.0 as usize) else { return };
        let image = attached.untracked.and_then(|(image, _)| self.images.get(image)?.as_ref());
        let program = image.and_then(|image| image.programs.first().copied());
        let array = match attached.direction {
            Direction::Ingress => self.xdp_array,
            Direction::Egress => self.program_array,
        };
        self.world.set_program(array, UNTRACKED_SLOT, program);
    }

    /// What XDP decides about a packet that comes in; `None` leaves it to tc.
    pub(super) fn at_xdp(
        &mut self,
        at: Attachment,
        packet: Packet<'_>,
    ) -> Result<Option<Evaluation>, EngineError> {
        let Some(attached) = self.attachments.get(at.0 as usize) else { return Err(unknown(at)) };
        let (Some((_, pass_decision)), Direction::Ingress) = (attached.untracked, attached.direction) else {
            return Ok(None);
        };
        let config = Config { policy_slot: UNTRACKED_SLOT, pass_decision, ..Config::default() };
        let config = Config { endpoint: attached.endpoint, ..config };
        // tc's own comes back when the attachment is selected again.
        self.current = None;
        write_config(&self.world.arena, self.addresses.config, &config);
        self.place(packet);
        self.place_xdp();
        let [_, _, _, _, _, xdp, ..] = self.entry;
        let returned = self.run(xdp)?;
        let accepted = self.metadata() == Some(abi::XDP_ACCEPTED);
        let as_tc = match returned {
            abi::XDP_PASS => abi::TC_OK,
            abi::XDP_DROP => abi::TC_SHOT,
            other => return Err(self.fault_at_xdp(format!("returned {other}"))),
        };
        let evaluation = self.evaluation(as_tc, xdp)?;
        self.select(at)?;
        if evaluation.verdict == Verdict::Deny {
            return Ok(Some(evaluation));
        }
        if !accepted {
            return Ok(None);
        }
        self.place(packet);
        self.world.arena.write_u32(self.world.packet - 4, abi::XDP_ACCEPTED);
        self.world.arena.write_u32(self.world.context + 140, self.world.packet as u32 - 4);
        let returned = self.run(self.entry[0])?;
        let tc = self.evaluation(returned, self.entry[0])?;
        if (tc.verdict, tc.reason) != (Verdict::Allow, abi::REASON_ANOTHER_PROGRAM) {
            return Err(self.fault_at_xdp(format!("what it accepted has reason {} at tc", tc.reason)));
        }
        Ok(Some(evaluation))
    }

    /// Lays out `struct xdp_md` over the context of tc.
    fn place_xdp(&mut self) {
        let world = &mut self.world;
        let start = world.packet as u32;
        let fields = [
            (XDP_DATA, start),
            (XDP_DATA_END, start + world.packet_len),
            (XDP_DATA_META, start),
            (XDP_IFINDEX, 0),
        ];
        for (offset, value) in fields {
            world.arena.write_u32(world.context + offset, value);
        }
        world.meta = Some(META);
    }

    /// The metadata that a program left before the packet.
    fn metadata(&mut self) -> Option<u32> {
        let world = &mut self.world;
        world.meta = None;
        let meta = world.arena.read_u32(world.context + XDP_DATA_META)?;
        // The field is tc's `mark` again.
        for offset in [XDP_DATA, XDP_DATA_END, XDP_DATA_META, XDP_IFINDEX] {
            world.arena.write_u32(world.context + offset, 0);
        }
        (u64::from(meta) < world.packet).then(|| world.arena.read_u32(meta.into()))?
    }

    fn fault_at_xdp(&self, reason: String) -> EngineError {
        EngineError::Fault { program: abi::PROG_XDP.into(), reason }
    }
}
