//! An endpoint's policy, compiled, and the request to enforce it at an interface.

use polc_compiler::abi::failsafe::Port;
use polc_compiler::compile::CompileOptions;
use polc_compiler::emit::EmitOptions;
use polc_compiler::image::{OpenExit, PolicyImage, SourceLines, for_xdp};
use polc_compiler::ir::{Direction, PolicyIr};
use polc_compiler::resolve::{Cluster, Endpoint, EndpointKind};
use polc_runtime::kernel::{AttachRequest, Failsafe, Policy, SetRecord, Untracked};

use crate::commands::{DirectionArg, EndpointArg};
use crate::exit::{Exit, Failure};
use crate::programs::{self, Program, Programs};

/// What is to be enforced for an endpoint.
pub struct Enforced {
    endpoint: String,
    host: bool,
    failsafes: Vec<Failsafe>,
    programs: Vec<Program>,
    /// The sets of each program, for `polc ipsets dump`.
    sets: Vec<Vec<SetRecord>>,
    /// Untracked policy of both directions: index of the program, and the decision
    /// with which it says that it has nothing to say.
    untracked: [Option<(usize, u32)>; 2],
    /// That of ingress, made for XDP.
    at_xdp: Option<PolicyImage>,
}

impl Enforced {
    /// Compiles the policies of both directions, counting hits.
    pub fn compile(cluster: &Cluster, named: &EndpointArg) -> Result<Self, Failure> {
        let endpoint = programs::endpoints(cluster, std::slice::from_ref(named))?[0];
        let limits = EmitOptions { count: true, ..EmitOptions::default() };
        let options = CompileOptions { limits, ..CompileOptions::default() };
        let mut programs = Programs::new(&options);
        for direction in DirectionArg::directions(None) {
            programs.endpoint(cluster, endpoint, *direction)?;
        }
        let mut untracked = [None, None];
        for (direction, found) in DirectionArg::directions(None).iter().zip(&mut untracked) {
            if let Some((ir, pass)) = cluster.resolve_untracked(endpoint, *direction) {
                *found = Some((programs.add(ir, Vec::new())?, pass.as_u32()));
            }
        }
        let programs = programs.into_list();
        let at_xdp = match untracked[0] {
            Some((index, _)) => Some(for_xdp(&programs[index].image).map_err(|e| bug(&e))?),
            None => None,
        };
        Ok(Self {
            endpoint: named.to_string(),
            host: cluster.endpoints()[endpoint].kind == EndpointKind::Host,
            failsafes: failsafes(cluster, endpoint),
            sets: programs.iter().map(|p| sets(&p.ir)).collect(),
            programs,
            untracked,
            at_xdp,
        })
    }

    /// The request to enforce it, at whatever hook, keeping connections.
    pub fn request<'a>(&'a self, interface: &'a str, lines: &'a SourceLines<'a>) -> AttachRequest<'a> {
        AttachRequest {
            interface,
            endpoint: &self.endpoint,
            host: self.host,
            hook: None,
            flags: 0,
            recheck: false,
            failsafes: &self.failsafes,
            ingress: self.policy(0, lines),
            egress: self.policy(1, lines),
            untracked_ingress: self.untracked(Direction::Ingress, lines),
            untracked_egress: self.untracked(Direction::Egress, lines),
        }
    }

    fn policy<'a>(&'a self, index: usize, lines: &'a SourceLines<'a>) -> Policy<'a> {
        Policy { image: &self.programs[index].image, xdp: false, sets: &self.sets[index], lines }
    }

    fn untracked<'a>(&'a self, direction: Direction, lines: &'a SourceLines<'a>) -> Option<Untracked<'a>> {
        let egress = direction == Direction::Egress;
        let (index, pass_decision) = self.untracked[usize::from(egress)]?;
        let policy = self.policy(index, lines);
        let policy = match &self.at_xdp {
            Some(image) if !egress => Policy { image, xdp: true, ..policy },
            _ => policy,
        };
        Some(Untracked { policy, pass_decision })
    }
}

fn bug(error: &OpenExit) -> Failure {
    Failure::Message(Exit::Bug, format!("untracked policy at XDP: {error}"))
}

/// The failsafe ports of a host endpoint.
fn failsafes(cluster: &Cluster, endpoint: Endpoint) -> Vec<Failsafe> {
    let of = |direction: &Direction| {
        let egress = *direction == Direction::Egress;
        let ports = cluster.failsafe_ports(endpoint, *direction);
        ports
            .into_iter()
            .map(move |(protocol, port, net)| Failsafe { port: Port { egress, protocol, port }, net })
    };
    DirectionArg::directions(None).iter().flat_map(of).collect()
}

fn sets(ir: &PolicyIr) -> Vec<SetRecord> {
    let set = |set: &polc_compiler::ir::AddrSetData| SetRecord {
        name: set.name.clone(),
        members: set.nets.iter().map(ToString::to_string).collect(),
    };
    ir.sets.values().map(set).collect()
}
