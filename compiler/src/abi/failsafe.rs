//! Failsafe ports of the host: what the entry programs of host endpoints
//! ([`super::CONFIG_FAILSAFES`]) let through whatever policy says, even without a
//! policy program.
//!
//! [`super::FAILSAFES_MAP`] is a hash. Its key (4 bytes) is the destination port
//! (`u16`, host order), the protocol (`u8`), and 1 for packets from the host, 0
//! for packets towards it (`u8`). Its value says which far addresses it is open
//! for: the number of nets (`u32`), a zero `u32`, and [`MAX_NETS`] nets.

use std::net::IpAddr;

use ipnet::IpNet;

/// Entries of the map.
pub const MAX_PORTS: u32 = 1024;
/// Nets that one port may have.
pub const MAX_NETS: usize = 8;
/// Bytes of a net: family (`u32`: 4, 6, or 0 for any address), address (16
/// bytes, as in the packet state), mask (16 bytes).
const NET_SIZE: usize = 36;
/// Size of the map's key.
pub const KEY_SIZE: u32 = 4;
/// Size of the map's value.
pub const VALUE_SIZE: u32 = 8 + (MAX_NETS * NET_SIZE) as u32;

/// A port that is open.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// For packets from the host; else towards it.
    pub egress: bool,
    /// Protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
}

impl Port {
    /// The key in the map.
    pub fn key(self) -> [u8; KEY_SIZE as usize] {
        let [low, high] = self.port.to_ne_bytes();
        [low, high, self.protocol, self.egress.into()]
    }
}

/// More nets than a port may have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TooManyNets {
    /// As many as were given; [`MAX_NETS`] are allowed.
    pub given: usize,
}

/// The value in the map for a port that is open for these far addresses; `None`
/// stands for all.
///
/// # Errors
/// [`TooManyNets`].
pub fn value(nets: &[Option<IpNet>]) -> Result<[u8; VALUE_SIZE as usize], TooManyNets> {
    let mut value = [0; VALUE_SIZE as usize];
    if nets.len() > MAX_NETS {
        return Err(TooManyNets { given: nets.len() });
    }
    value[..4].copy_from_slice(&(nets.len() as u32).to_ne_bytes());
    for (slot, net) in value[8..].chunks_exact_mut(NET_SIZE).zip(nets) {
        let Some(net) = net else { continue };
        let family: u32 = if net.addr().is_ipv4() { 4 } else { 6 };
        slot[..4].copy_from_slice(&family.to_ne_bytes());
        write(&mut slot[4..20], net.network());
        write(&mut slot[20..36], net.netmask());
    }
    Ok(value)
}

fn write(to: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(v4) => to[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => to.copy_from_slice(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nets_are_masked_and_counted() {
        let net: IpNet = "10.9.8.7/12".parse().unwrap();
        let value = value(&[None, Some(net)]).unwrap();
        assert_eq!(value[..4], 2_u32.to_ne_bytes());
        assert_eq!(value[8..44], [0; 36], "any address");
        assert_eq!(value[44..48], 4_u32.to_ne_bytes());
        assert_eq!(value[48..52], [10, 0, 0, 0]);
        assert_eq!(value[64..68], [255, 240, 0, 0]);
        assert_eq!(super::value(&[None; 9]), Err(TooManyNets { given: 9 }));
    }
}
