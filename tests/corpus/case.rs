//! One folder: what it expects, and what polc makes of its policy.

use std::fs;
use std::path::Path;

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::diag::{self, Diagnostic, Severity, Sources};
use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{Action, DecisionData, DecisionKind, Direction, PolicyIr};
use polc_compiler::manifest;
use polc_compiler::resolve::{Cluster, Endpoint};

use crate::expect::{self, Expectation, Finding, Packet};

/// One folder.
#[derive(Default)]
pub struct Case {
    /// The folder's name.
    pub folder: String,
    /// Whether connections are tracked from each packet to the next.
    pub tracked: bool,
    /// What is wrong before any packet is run.
    pub wrong: Vec<String>,
    /// The packets, each with the program (of `programs`) that it runs through.
    pub packets: Vec<(Packet, usize)>,
    /// One for each endpoint and direction that a packet asks.
    pub programs: Vec<Program>,
}

/// The policy of one endpoint and direction.
pub struct Program {
    /// Whose.
    pub endpoint: Endpoint,
    /// Which direction.
    pub direction: Direction,
    /// As resolved.
    pub ir: PolicyIr,
    /// As compiled.
    pub image: PolicyImage,
}

impl Case {
    /// Reads a folder and compiles what its packets ask.
    pub fn read(corpus: &Path, folder: &str) -> Self {
        let at = corpus.join(folder);
        let mut case = Self { folder: folder.into(), ..Self::default() };
        let mut sources = Sources::default();
        let own = at.join("cluster.yaml");
        let cluster = if own.exists() { own } else { corpus.join("cluster.yaml") };
        for file in [cluster, at.join("policy.yaml")] {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match fs::read_to_string(&file) {
                Ok(text) => _ = sources.add(name, text),
                Err(error) => case.fail(&format!("{}: {error}", file.display())),
            }
        }
        let (objects, mut diagnostics) = manifest::read(&sources);
        let (cluster, more) = Cluster::new(&sources, objects);
        diagnostics.extend(more);
        let text = fs::read_to_string(at.join("expect.txt")).unwrap_or_default();
        let mut findings = Vec::new();
        for line in text.lines() {
            match expect::parse(line, &cluster) {
                Ok(None) => {}
                Ok(Some(Expectation::Tracked)) => case.tracked = true,
                Ok(Some(Expectation::Finding(finding))) => findings.push(finding),
                Ok(Some(Expectation::Packet(packet))) => case.add(packet, &cluster),
                Err(error) => case.fail(&format!("`{line}`: {error}")),
            }
        }
        if findings.is_empty() && case.packets.is_empty() {
            case.fail("expect.txt expects nothing");
        }
        case.check_findings(&findings, &diagnostics, &sources);
        case
    }

    fn fail(&mut self, what: &str) {
        self.wrong.push(format!("{}: {what}", self.folder));
    }

    fn add(&mut self, packet: Packet, cluster: &Cluster) {
        let (endpoint, direction) = (packet.endpoint, packet.direction);
        let known = self.programs.iter().position(|p| p.endpoint == endpoint && p.direction == direction);
        if let Some(program) = known {
            self.packets.push((packet, program));
            return;
        }
        let ir = cluster.resolve(endpoint, direction);
        match compile(ir.clone(), &CompileOptions { verify: true, ..CompileOptions::default() }) {
            Ok(image) => {
                self.programs.push(Program { endpoint, direction, ir, image });
                self.packets.push((packet, self.programs.len() - 1));
            }
            Err(error) => self.fail(&format!("{}: {error}", ir.name)),
        }
    }

    /// Every expected finding is there, every forbidden one is not, and no error
    /// goes unmentioned.
    fn check_findings(&mut self, findings: &[Finding], found: &[Diagnostic], sources: &Sources) {
        let fits = |finding: &Finding, d: &Diagnostic| {
            let place = finding.at.as_ref().is_none_or(|at| Some(at) == place(d, sources).as_ref());
            finding.severity == d.severity && finding.code == d.code && place
        };
        for finding in findings {
            if found.iter().any(|d| fits(finding, d)) != finding.present {
                let all = diag::render(sources, found, false);
                self.fail(&format!("`{}` is not so; found:\n{all}", finding.text));
            }
        }
        let errors = found.iter().filter(|d| d.severity == Severity::Error);
        for error in errors.filter(|d| !findings.iter().any(|f| f.present && fits(f, d))) {
            let text = diag::render(sources, std::slice::from_ref(error), false);
            self.fail(&format!("an error that is not expected:\n{text}"));
        }
    }
}

fn place(diagnostic: &Diagnostic, sources: &Sources) -> Option<String> {
    let span = diagnostic.span?;
    Some(format!("{}:{}", sources.file(span.file).name, sources.position(span).line))
}

/// Who decided, as `expect.txt` writes it.
pub fn decided(decision: &DecisionData, direction: Direction) -> String {
    let name = match &decision.namespace {
        Some(namespace) => format!("{namespace}/{}", decision.name),
        None => decision.name.clone(),
    };
    let rule = decision.rule.map(|index| format!(" {}[{index}]", direction.as_str())).unwrap_or_default();
    match decision.kind {
        DecisionKind::Rule => format!("{} {name}{rule}", decision.object),
        DecisionKind::TierDefault => format!("tier {name}"),
        DecisionKind::Profile => format!("profile {name}{rule}"),
        DecisionKind::NoProfileMatch => "no profile".into(),
        DecisionKind::Failsafe => "failsafe".into(),
    }
}

/// Whether the decision's own action is what came of it.
pub fn action_fits(decision: &DecisionData, verdict: &str) -> bool {
    match decision.action {
        Action::Allow | Action::Deny => decision.action.as_str() == verdict,
        // In a profile, Pass acts as Deny.
        Action::Pass => verdict == "deny",
        Action::Log => false,
    }
}
