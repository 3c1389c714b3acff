//! An endpoint's policy, and the request to enforce it at an interface: compiled, or as
//! it was resolved, for an agent that compiles only what it has to.

use std::collections::HashMap;
use std::rc::Rc;

use polc_compiler::abi::failsafe::Port;
use polc_compiler::compile::CompileOptions;
use polc_compiler::emit::EmitOptions;
use polc_compiler::image::{OpenExit, PolicyImage, SourceLines, for_xdp};
use polc_compiler::ir::{Direction, PolicyIr};
use polc_compiler::live::ResolvedPolicy;
use polc_compiler::resolve::{Cluster, Endpoint, EndpointKind};
use polc_runtime::agent::{EndpointPolicy, UntrackedPolicy};
use polc_runtime::kernel::{AttachRequest, Failsafe, Policy, SetRecord, Untracked, support};

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
        let options = options();
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
            host: self.host,
            failsafes: &self.failsafes,
            untracked_ingress: self.untracked(Direction::Ingress, lines),
            untracked_egress: self.untracked(Direction::Egress, lines),
            ..AttachRequest::new(interface, &self.endpoint, [0, 1].map(|index| self.policy(index, lines)))
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
        Some(Untracked { policy: Some(policy), pass_decision })
    }
}

/// What programs at interfaces are compiled with: they count hits, and have tables as
/// large as this kernel lets them address.
pub fn options() -> CompileOptions {
    let max_direct_bytes = support::max_direct_bytes();
    let limits = EmitOptions { count: true, max_direct_bytes, ..EmitOptions::default() };
    CompileOptions { limits, ..CompileOptions::default() }
}

/// Resolved policies, equal ones once.
pub struct Resolved {
    options: CompileOptions,
    known: HashMap<(Direction, String), Rc<ResolvedPolicy>>,
}

/// What an agent is to enforce for an endpoint.
pub struct Followed {
    endpoint: String,
    host: bool,
    failsafes: Vec<Failsafe>,
    /// Ingress, egress.
    policies: [Rc<ResolvedPolicy>; 2],
    /// Untracked policy of both directions, with the decision with which it says that it
    /// has nothing to say.
    untracked: [Option<(Rc<ResolvedPolicy>, u32)>; 2],
}

impl Resolved {
    /// None yet; all will be compiled with [`options`].
    pub fn new(options: CompileOptions) -> Self {
        Self { options, known: HashMap::new() }
    }

    /// Resolves the policies of both directions of an endpoint.
    pub fn endpoint(&mut self, cluster: &Cluster, named: &EndpointArg) -> Result<Followed, Failure> {
        let endpoint = programs::endpoints(cluster, std::slice::from_ref(named))?[0];
        let both = [Direction::Ingress, Direction::Egress];
        let policies = both.map(|direction| self.policy(cluster.resolve(endpoint, direction)));
        let untracked = both.map(|direction| {
            let (ir, pass) = cluster.resolve_untracked(endpoint, direction)?;
            Some((self.policy(ir), pass.as_u32()))
        });
        Ok(Followed {
            endpoint: named.to_string(),
            host: cluster.endpoints()[endpoint].kind == EndpointKind::Host,
            failsafes: failsafes(cluster, endpoint),
            policies,
            untracked,
        })
    }

    /// The policy; its text without its name is what it says.
    fn policy(&mut self, mut ir: PolicyIr) -> Rc<ResolvedPolicy> {
        let name = std::mem::take(&mut ir.name);
        let key = (ir.direction, ir.to_string());
        ir.name = name;
        let options = &self.options;
        let new = || Rc::new(ResolvedPolicy::new(ir, options.clone()));
        Rc::clone(self.known.entry(key).or_insert_with(new))
    }
}

impl Followed {
    /// The request to enforce it, at whatever hook, keeping connections.
    pub fn request<'a>(&'a self, interface: &'a str, lines: &'a SourceLines<'a>) -> EndpointPolicy<'a> {
        let [untracked_ingress, untracked_egress] = self.untracked.each_ref().map(|untracked| {
            let (policy, pass_decision) = untracked.as_ref()?;
            Some(UntrackedPolicy { policy, pass_decision: *pass_decision })
        });
        let policies = self.policies.each_ref().map(Rc::as_ref);
        EndpointPolicy {
            host: self.host,
            failsafes: &self.failsafes,
            untracked_ingress,
            untracked_egress,
            ..EndpointPolicy::new(interface, &self.endpoint, policies, lines)
        }
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
