//! The back half of the compiler in one call: verify, optimise, plan, emit.
//!
//! Tables come first and the order of rules later: a policy that tables hold takes
//! [`prepare`] only, in time that is linear in its rules. All passes run for what
//! becomes a chain of rules, for what tables do not hold as it is, and for bits of
//! several blocks with a profile, where hot rules belong into the first block.
//!
//! [`crate::live`] compiles with what it takes to change the image's tables.
//!
//! ```
//! # use polc_compiler::{compile::{compile, CompileOptions}, ir};
//! # let policy = ir::generate::policy(1, &ir::generate::Shape::default());
//! let image = compile(policy, &CompileOptions::default())?;
//! assert!(image.programs[0].code.slots() > 0);
//! # Ok::<(), polc_compiler::compile::CompileError>(())
//! ```

use crate::emit::{EmitError, EmitOptions, FlatParts, Form, emit_tables, emit_with_parts, is_direct_cheaper};
use crate::image::PolicyImage;
use crate::ir::{PolicyIr, VerifyErrors};
use crate::passes::{OptOptions, Profile, Pruned, optimize, prepare};

/// How to compile.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// 0: no pass, and rules one after the other in the program ([`Form::Chain`])
    /// unless `limits` force another form; 1: what only makes the policy smaller;
    /// 2: reordering as well. Default 2. Verdicts are the same at every level.
    pub level: u8,
    /// Whether the verifier runs after each pass in release builds as well; it
    /// always does in debug builds. Default false. Linear in the policy.
    pub verify: bool,
    /// How often each decision was hit, for the order of rules. Default none: a
    /// model takes its place.
    pub profile: Option<Profile>,
    /// Limits of programs and tables.
    pub limits: EmitOptions,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { level: 2, verify: false, profile: None, limits: EmitOptions::default() }
    }
}

/// A policy cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The policy is too large.
    #[error("{0}")]
    Limit(#[source] EmitError),
    /// The IR is not valid, as it came in or after a pass: a bug of polc.
    #[error("bug in polc: {0}")]
    Invalid(#[from] VerifyErrors),
    /// Emitted pieces do not fit together: a bug of polc.
    #[error("bug in polc: {0}")]
    Emit(#[source] EmitError),
}

impl CompileError {
    /// Whether the policy is too large (exit code 4), as against a bug of polc (70).
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Limit(_))
    }
}

impl From<EmitError> for CompileError {
    fn from(error: EmitError) -> Self {
        if error.is_limit() { Self::Limit(error) } else { Self::Emit(error) }
    }
}

/// Compiles one policy.
///
/// # Errors
/// See [`CompileError`].
pub fn compile(ir: PolicyIr, options: &CompileOptions) -> Result<PolicyImage, CompileError> {
    compile_with_parts(ir, options).map(|compiled| compiled.image)
}

/// A compiled policy, and what its tables were made from.
pub(crate) struct Compiled {
    pub image: PolicyImage,
    /// The policy behind all passes; its decisions went to the image.
    pub ir: PolicyIr,
    /// `None` for a chain.
    pub parts: Option<FlatParts>,
}

impl Compiled {
    fn new(image: PolicyImage, mut ir: PolicyIr, parts: Option<FlatParts>) -> Self {
        let decisions = std::mem::take(&mut ir.decisions).into();
        Self { image: PolicyImage { decisions, ..image }, ir, parts }
    }
}

/// Compiles one policy, as [`compile`].
pub(crate) fn compile_with_parts(
    mut ir: PolicyIr,
    options: &CompileOptions,
) -> Result<Compiled, CompileError> {
    let passes =
        OptOptions { level: options.level, profile: options.profile.clone(), verify: options.verify };
    let mut limits = options.limits;
    if options.level == 0 && limits.form == Form::Auto {
        limits.form = Form::Chain;
    }
    if options.level == 0 || matches!(limits.form, Form::Chain | Form::Direct) {
        optimize(&mut ir, &passes)?;
        let (image, parts) = emit_with_parts(&ir, &limits)?;
        return Ok(Compiled::new(image, ir, parts));
    }
    let is_profiled = options.level >= 2 && options.profile.is_some();
    prepare(&mut ir, &passes)?;
    let unfit = match emit_tables(&ir, &limits) {
        Ok(tables) if tables.is_ordered() && is_profiled => None,
        // Compares go rule by rule.
        Ok(tables) if limits.form == Form::Auto && is_direct_cheaper(&ir, &tables.image) => None,
        Ok(tables) => return Ok(Compiled::new(tables.image, ir, Some(tables.parts))),
        Err(error) if error.is_limit() => Some(error),
        Err(error) => return Err(error.into()),
    };
    let done = optimize(&mut ir, &passes)?;
    let is_smaller = done.pruned != Pruned::default() || done.pruned_again != Pruned::default();
    match unfit {
        Some(error) if limits.form != Form::Auto && !is_smaller => return Err(error.into()),
        // What did not fit tables does not now.
        Some(_) if !is_smaller => limits.form = Form::Chain,
        _ => {}
    }
    let (image, parts) = emit_with_parts(&ir, &limits)?;
    Ok(Compiled::new(image, ir, parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Direction;
    use crate::ir::generate::{Shape, policy};

    #[test]
    fn limits_and_bugs_are_told_apart() {
        let limits = EmitOptions { form: Form::Chain, max_slots: 140, ..EmitOptions::default() };
        let options = CompileOptions { limits, ..CompileOptions::default() };
        let error = compile(policy(3, &Shape { rules: 30, ..Shape::default() }), &options).unwrap_err();
        assert!(error.is_limit(), "{error}");
        let error = compile(PolicyIr::new("empty", Direction::Ingress), &options).unwrap_err();
        assert!(!error.is_limit() && error.to_string().starts_with("bug in polc"), "{error}");
    }

    #[test]
    fn compiling_twice_gives_equal_images() {
        for seed in 0..50 {
            let ir = policy(seed, &Shape::default());
            let options = CompileOptions::default();
            assert_eq!(compile(ir.clone(), &options), compile(ir, &options), "seed {seed}");
        }
    }
}
