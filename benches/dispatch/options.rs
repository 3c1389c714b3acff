//! The bench's own arguments; cargo adds `--bench`.

use polc_compiler::emit::Form;

use crate::kernel::Effort;
use crate::shapes::Shape;

const RULES: [usize; 7] = [1, 10, 100, 1_000, 5_000, 10_000, 100_000];

pub struct Options {
    pub shapes: Vec<Shape>,
    pub rules: Vec<usize>,
    pub form: Form,
    pub effort: Effort,
    /// Whether steps of programs are measured, and nothing else.
    pub primitives: bool,
    /// Whether the bytes of each table are printed.
    pub tables: bool,
    /// Whether the linear program and nftables are measured too.
    pub peers: bool,
}

impl Options {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            shapes: Shape::ALL.to_vec(),
            rules: RULES.to_vec(),
            form: Form::Auto,
            effort: Effort { runs: 30 },
            primitives: false,
            tables: false,
            peers: true,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--bench" => {}
                "--quick" => {
                    options.effort = Effort { runs: 15 };
                    options.rules.retain(|n| *n <= 10_000);
                }
                "--shape" => options.shapes = value()?.split(',').map(shape).collect::<Result<_, _>>()?,
                "--rules" => {
                    let number =
                        |n: &str| n.replace('_', "").parse().map_err(|e| format!("--rules {n}: {e}"));
                    options.rules = value()?.split(',').map(number).collect::<Result<_, _>>()?;
                }
                "--form" => options.form = form(&value()?)?,
                "--primitives" => options.primitives = true,
                "--tables" => options.tables = true,
                "--only" if value()? == "polc" => options.peers = false,
                _ => {
                    return Err(format!(
                        "unknown argument `{arg}`; the options stand at the head of main.rs"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// Whether the run is one that the plot can be made of: all shapes and peers, and
    /// several sizes.
    pub fn plots(&self) -> bool {
        self.peers && self.rules.len() >= 4 && self.shapes.len() == Shape::ALL.len()
    }
}

fn shape(name: &str) -> Result<Shape, String> {
    let names = || Shape::ALL.map(Shape::name).join(", ");
    Shape::ALL
        .into_iter()
        .find(|s| s.name() == name)
        .ok_or_else(|| format!("no shape `{name}`; there are {}", names()))
}

fn form(name: &str) -> Result<Form, String> {
    let forms = [
        ("auto", Form::Auto),
        ("chain", Form::Chain),
        ("direct", Form::Direct),
        ("cells", Form::Cells),
        ("dense", Form::Dense),
        ("sparse", Form::Sparse),
        ("cross", Form::Cross),
        ("bits", Form::Bits),
    ];
    forms
        .into_iter()
        .find(|(n, _)| *n == name)
        .map(|(_, form)| form)
        .ok_or_else(|| format!("no form `{name}`"))
}
