//! Any text: reading it, building the cluster, linting it and compiling its policies never
//! panics, and every diagnostic renders.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_compiler::diag::{self, Sources};
use polc_compiler::ir::Direction;
use polc_compiler::{compile, lint, manifest, resolve};

fuzz_target!(|text: &str| {
    let mut sources = Sources::default();
    sources.add("fuzz.yaml", text);
    let (objects, mut found) = manifest::read(&sources);
    let (cluster, more) = resolve::Cluster::new(&sources, objects);
    found.extend(more);
    diag::render(&sources, &found, false);
    diag::render(&sources, &lint::check(&sources), false);
    if diag::has_errors(&found) {
        return;
    }
    for endpoint in cluster.endpoints().keys().take(4) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let ir = cluster.resolve(endpoint, direction);
            polc_compiler::ir::verify(&ir).expect("what was resolved is valid");
            let _ = compile::compile(ir, &compile::CompileOptions::default());
        }
    }
});
