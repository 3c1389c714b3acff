//! From what was loaded to compiled programs, each once however many share it.

use std::collections::HashMap;

use polc_compiler::compile::{CompileError, CompileOptions, compile};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{Direction, PolicyIr};
use polc_compiler::passes::Profile;
use polc_compiler::profile::{Applied, HitProfile, Unused};
use polc_compiler::resolve::{Cluster, Endpoint, EndpointData};

use crate::commands::EndpointArg;
use crate::exit::{Exit, Failure};

/// One distinct program and who shares it.
pub struct Program {
    /// The policy before any pass.
    pub ir: PolicyIr,
    /// Hits of its decisions, where a profile knows any.
    pub hits: Option<Profile>,
    /// What is loaded.
    pub image: PolicyImage,
    /// Display names of the endpoints that share it; empty for a policy on its own.
    pub endpoints: Vec<String>,
}

/// Distinct programs in the order they were asked for.
pub struct Programs<'a> {
    list: Vec<Program>,
    /// By direction and the IR's text without its name.
    known: HashMap<(Direction, String), usize>,
    options: &'a CompileOptions,
    profile: Option<Applied<'a>>,
}

impl<'a> Programs<'a> {
    /// No programs yet.
    pub fn new(options: &'a CompileOptions) -> Self {
        Self { list: Vec::new(), known: HashMap::new(), options, profile: None }
    }

    /// The same, with rules in the order that a profile suggests.
    pub fn with_profile(options: &'a CompileOptions, profile: Option<&'a HitProfile>) -> Self {
        Self { profile: profile.map(Applied::new), ..Self::new(options) }
    }

    /// Entries of the profile that no program so far has a use for.
    pub fn unused(&self) -> impl Iterator<Item = Unused<'a>> {
        self.profile.iter().flat_map(Applied::unused)
    }

    /// The programs, in the order they were first asked for.
    pub fn into_list(self) -> Vec<Program> {
        self.list
    }

    /// The number of an endpoint's program, compiled unless an equal one is there.
    pub fn endpoint(
        &mut self,
        cluster: &Cluster,
        endpoint: Endpoint,
        direction: Direction,
    ) -> Result<usize, Failure> {
        let mut ir = cluster.resolve(endpoint, direction);
        let name = std::mem::take(&mut ir.name);
        let key = (direction, ir.to_string());
        if let Some(number) = self.known.get(&key) {
            self.list[*number].endpoints.push(name);
            return Ok(*number);
        }
        ir.name.clone_from(&name);
        let number = self.add(ir, vec![name])?;
        self.known.insert(key, number);
        Ok(number)
    }

    /// Adds a program of its own.
    pub fn add(&mut self, ir: PolicyIr, endpoints: Vec<String>) -> Result<usize, Failure> {
        let hits = self.profile.as_mut().and_then(|profile| profile.hits(&ir));
        let options = CompileOptions { profile: hits.clone(), ..self.options.clone() };
        let image = compile(ir.clone(), &options).map_err(|e| failure(&ir, &e))?;
        self.list.push(Program { ir, hits, image, endpoints });
        Ok(self.list.len() - 1)
    }
}

fn failure(ir: &PolicyIr, error: &CompileError) -> Failure {
    let exit = if error.is_limit() { Exit::Limit } else { Exit::Bug };
    Failure::Message(exit, format!("{} {}: {error}", ir.name, ir.direction.as_str()))
}

/// The endpoints that the arguments name; all of them if none is named.
pub fn endpoints(cluster: &Cluster, named: &[EndpointArg]) -> Result<Vec<Endpoint>, Failure> {
    if named.is_empty() {
        return Ok(cluster.endpoints().keys().collect());
    }
    let mut found = Vec::new();
    for arg in named {
        let endpoint = cluster.endpoint_by_path(&arg.to_string()).ok_or_else(|| {
            Failure::usage(format!("no endpoint {arg} in the input{}", nearby(cluster, arg)))
        })?;
        if !found.contains(&endpoint) {
            found.push(endpoint);
        }
    }
    Ok(found)
}

/// What could have been meant: the first endpoints of the namespace (of no
/// namespace: host endpoints), else of all.
fn nearby(cluster: &Cluster, arg: &EndpointArg) -> String {
    let names = |within: bool| -> Vec<String> {
        let endpoints = cluster.endpoints().values().filter(|e| !within || e.namespace == arg.namespace);
        endpoints.take(5).map(EndpointData::display_name).collect()
    };
    let mut names_found = names(true);
    if names_found.is_empty() {
        names_found = names(false);
    }
    match names_found.as_slice() {
        [] => ", which has none (give the cluster's objects as a further INPUT)".into(),
        some => format!("; there is {}", some.join(", ")),
    }
}
