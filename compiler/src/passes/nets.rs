//! Relations between lists of prefixes, as address sets hold them: sorted.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ir::Family;

/// The family of a prefix.
pub(super) fn family(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

/// First and last address as numbers; IPv4 stands among the IPv6 addresses that map
/// it (`::ffff:0:0/96`).
pub(super) fn span(net: &IpNet) -> (u128, u128) {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    (number(net.network()), number(net.broadcast()))
}

/// The fewest prefixes that cover the same addresses, sorted.
pub(super) fn aggregate(nets: &[IpNet]) -> Vec<IpNet> {
    if nets.len() < 2 {
        return nets.to_vec();
    }
    let v4: Vec<Ipv4Net> =
        nets.iter().filter_map(|n| if let IpNet::V4(n) = n { Some(*n) } else { None }).collect();
    let v6: Vec<Ipv6Net> =
        nets.iter().filter_map(|n| if let IpNet::V6(n) = n { Some(*n) } else { None }).collect();
    let mut v4 = Ipv4Net::aggregate(&v4);
    let mut v6 = Ipv6Net::aggregate(&v6);
    v4.sort_unstable();
    v6.sort_unstable();
    v4.into_iter().map(IpNet::V4).chain(v6.into_iter().map(IpNet::V6)).collect()
}

/// Whether the list says of every address of the family that it is a member;
/// certain only for aggregated lists, else it may be false where it is true.
pub(super) fn covers_family(nets: &[IpNet], of: Family) -> bool {
    nets.iter().any(|net| family(net) == of && net.prefix_len() == 0)
}

/// Whether each member of `inner` is a member of `outer`; may be false where it
/// is true, if `outer` is not aggregated. O(n log m).
pub(super) fn is_subset(inner: &[IpNet], outer: &[IpNet]) -> bool {
    inner.iter().all(|net| contains(outer, net))
}

/// Whether each address of `net` is a member; may be false where it is true, if
/// the list is not aggregated. O(log n).
pub(super) fn contains(nets: &[IpNet], net: &IpNet) -> bool {
    let at = nets.partition_point(|n| n <= net);
    at > 0 && nets[at - 1].contains(net)
}

/// Whether no address is in both. O(n + m).
pub(super) fn are_disjoint(a: &[IpNet], b: &[IpNet]) -> bool {
    let (mut i, mut j) = (0, 0);
    let (mut end_a, mut end_b): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    loop {
        let take_a = match (a.get(i), b.get(j)) {
            (None, None) => return true,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(x), Some(y)) => x.network() <= y.network(),
        };
        let (net, own, other) = match take_a {
            true => (a[i], &mut end_a, end_b),
            false => (b[j], &mut end_b, end_a),
        };
        if other.is_some_and(|end| net.network() <= end) {
            return false;
        }
        *own = Some(own.map_or(net.broadcast(), |end| end.max(net.broadcast())));
        if take_a { i += 1 } else { j += 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn aggregation_joins_neighbours_and_drops_the_nested() {
        assert_eq!(
            aggregate(&nets("10.0.0.0/9 10.1.0.0/16 10.128.0.0/9 ::/1 8000::/1")),
            nets("10.0.0.0/8 ::/0")
        );
        assert_eq!(aggregate(&[]), []);
    }

    #[test]
    fn subsets_and_disjoint_lists() {
        let cases = [
            ("10.1.0.0/16", "10.0.0.0/8", true, false),
            ("10.0.0.0/8", "10.1.0.0/16", false, false),
            ("10.0.0.0/8 11.0.0.0/8", "10.0.0.0/8", false, false),
            ("10.0.0.0/8", "11.0.0.0/8", false, true),
            ("10.2.0.0/16", "10.0.0.0/8 10.1.0.0/16", false, false),
            ("0.0.0.0/0", "::/0", false, true),
            ("", "::/0", true, true),
            ("1.0.0.0/8 255.255.255.255/32", "2.0.0.0/8 ::/128", false, true),
        ];
        for (a, b, subset, disjoint) in cases {
            assert_eq!(is_subset(&nets(a), &nets(b)), subset, "{a} in {b}");
            assert_eq!(are_disjoint(&nets(a), &nets(b)), disjoint, "{a} and {b}");
            assert_eq!(are_disjoint(&nets(b), &nets(a)), disjoint, "{b} and {a}");
        }
    }
}
