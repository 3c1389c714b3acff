//! Changes to a case that must change no answer.

use ipnet::IpNet;
use polc_compiler::manifest::{EntityRule, KubernetesPeer, KubernetesRule, Objects, Spanned};

use crate::random::Random;
use crate::world::{ACCOUNT_KEYS, KEYS, NAMESPACE_KEYS, World};

/// A changed case: other text, and what is done to the objects read from it.
pub struct Changed {
    /// The documents.
    pub documents: Vec<String>,
    /// What is done to the objects.
    pub objects: fn(Objects, &mut Random) -> Objects,
}

/// A change.
pub type Variant = fn(&World, &mut Random) -> Changed;

/// All changes by name.
pub const ALL: [(&str, Variant); 4] = [
    ("documents reordered", reordered),
    ("list items reordered", items_reordered),
    ("labels renamed", renamed),
    ("CIDRs in halves", halved),
];

fn reordered(world: &World, random: &mut Random) -> Changed {
    let mut documents = world.documents.clone();
    random.shuffle(&mut documents);
    Changed { documents, objects: |objects, _| objects }
}

fn items_reordered(world: &World, _: &mut Random) -> Changed {
    Changed { documents: world.documents.clone(), objects: shuffle_items }
}

/// Other names, which sort the other way about.
fn renamed(world: &World, _: &mut Random) -> Changed {
    let rename = |text: &String| {
        let keys = KEYS.iter().chain(&NAMESPACE_KEYS).chain(&ACCOUNT_KEYS).enumerate();
        keys.fold(text.clone(), |text, (i, key)| {
            text.replace(key, &format!("{}.example.org/x-{key}", (b'z' - i as u8) as char))
        })
    };
    Changed { documents: world.documents.iter().map(rename).collect(), objects: |objects, _| objects }
}

fn halved(world: &World, _: &mut Random) -> Changed {
    Changed { documents: world.documents.clone(), objects: |objects, _| halve_all(objects) }
}

/// Changes every Kubernetes rule and every side of a Calico rule.
fn for_each(
    objects: &mut Objects,
    mut rule: impl FnMut(&mut KubernetesRule),
    mut side: impl FnMut(&mut EntityRule),
) {
    for policy in &mut objects.kubernetes_policies {
        policy.ingress.iter_mut().chain(&mut policy.egress).for_each(&mut rule);
    }
    for policy in &mut objects.calico_policies {
        for calico in policy.ingress.iter_mut().chain(&mut policy.egress).flatten() {
            side(&mut calico.source);
            side(&mut calico.destination);
        }
    }
}

fn shuffle_items(mut objects: Objects, random: &mut Random) -> Objects {
    let random = std::cell::RefCell::new(random);
    let rule = |rule: &mut KubernetesRule| {
        random.borrow_mut().shuffle(&mut rule.peers);
        random.borrow_mut().shuffle(&mut rule.ports);
    };
    let side = |side: &mut EntityRule| {
        let mut random = random.borrow_mut();
        random.shuffle(&mut side.nets);
        random.shuffle(&mut side.not_nets);
        random.shuffle(&mut side.ports);
        random.shuffle(&mut side.not_ports);
    };
    for_each(&mut objects, rule, side);
    objects
}

fn halve_all(mut objects: Objects) -> Objects {
    let rule = |rule: &mut KubernetesRule| rule.peers = rule.peers.iter().flat_map(halve_peer).collect();
    let side = |side: &mut EntityRule| {
        side.nets = halve(&side.nets);
        // The negation of all addresses has a meaning of its own: no rule at all.
        let (all, some): (Vec<_>, Vec<_>) = side.not_nets.drain(..).partition(|n| n.value.prefix_len() == 0);
        side.not_nets = halve(&some).into_iter().chain(all).collect();
    };
    for_each(&mut objects, rule, side);
    for set in &mut objects.network_sets {
        set.nets = halve(&set.nets);
    }
    objects
}

fn halve(nets: &[Spanned<IpNet>]) -> Vec<Spanned<IpNet>> {
    let halves = |net: &Spanned<IpNet>| {
        let span = net.span;
        halves(net.value).into_iter().map(move |value| Spanned { value, span })
    };
    nets.iter().flat_map(halves).collect()
}

/// The two halves; the net itself if it is one address.
fn halves(net: IpNet) -> Vec<IpNet> {
    net.subnets(net.prefix_len() + 1).map(Iterator::collect).unwrap_or_else(|_| vec![net])
}

/// One block for each half, with what was cut out of that half.
fn halve_peer(peer: &KubernetesPeer) -> Vec<KubernetesPeer> {
    let KubernetesPeer::IpBlock { cidr, except, span } = peer else { return vec![peer.clone()] };
    let mut peers = Vec::new();
    for half in halves(cidr.value) {
        let inside: Vec<_> = halve(except).into_iter().filter(|cut| half.contains(&cut.value)).collect();
        if inside.iter().all(|cut| cut.value != half) {
            let cidr = Spanned { value: half, span: cidr.span };
            peers.push(KubernetesPeer::IpBlock { cidr, except: inside, span: *span });
        }
    }
    peers
}
