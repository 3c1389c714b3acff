//! Runs one linked eBPF program with rbpf.
//!
//! rbpf borrows a program's bytes and calls helpers that are bare functions, so
//! two things need care here: [`Machine`] owns its bytes beside the rbpf object
//! that points to them, and a thread-local cell leads helpers back to the
//! caller's state. Helpers take pointers from the program without a check by
//! rbpf; [`Stack`] and [`LowArena`] check them here.
//!
//! The arena is the program's `mem`, so that rbpf's own bounds checks cover it and
//! pass at their first look; the program gets its context's address from its first
//! helper call (see [`HELPER_ENTER`]).

use std::cell::Cell;
use std::ptr::NonNull;

use super::LowArena;

/// Which part of rbpf runs programs.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum VmEngine {
    /// The interpreter: checks every memory access, reports faults.
    #[default]
    Interpreter,
    /// Native code made by cranelift: about ten times as fast; a memory access
    /// outside the region ends the process (SIGILL), as rbpf offers no other way.
    /// Feature `cranelift`, which is on by default.
    #[cfg(feature = "cranelift")]
    Cranelift,
}

/// Helper that every linked program calls first: takes the stack pointer (r1),
/// gives the context's address (r0). The number is no kernel helper's.
pub(crate) const HELPER_ENTER: u32 = 0x706f_6c63;

/// Bytes of stack that a program has, as in the kernel.
pub(crate) const STACK_BYTES: u64 = 512;

/// State that programs reach through helpers.
pub trait Helpers {
    /// Answers helper `number`. `args` are r1 to r5, unchecked; the result goes to r0.
    fn call(&mut self, number: u32, args: [u64; 5], stack: Stack) -> u64;
    /// The memory that programs see, beside their stack.
    fn arena(&self) -> &LowArena;
    /// Address of the context (`struct __sk_buff`), inside the arena.
    fn context(&self) -> u64;
}

/// The running program's stack.
#[derive(Copy, Clone, Debug)]
pub struct Stack {
    top: u64,
}

impl Stack {
    /// No stack, for a caller whose program keeps its own in the arena.
    pub(crate) const NONE: Self = Self { top: 0 };

    /// Calls `with` on `len` bytes that a program passed by address: in its stack
    /// or in the arena. `None` if they lie elsewhere.
    pub fn with_bytes<R>(
        self,
        arena: &LowArena,
        address: u64,
        len: usize,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        if !self.contains(address, len) && !arena.contains(address, len) {
            return None;
        }
        let at: *const u8 = std::ptr::with_exposed_provenance(address as usize);
        // SAFETY: the bytes lie in the stack that rbpf made for the program that
        // is waiting for this very helper call (initialised by the interpreter;
        // compiled programs were checked to write before they read by whoever
        // built them, as in the kernel), or in the arena, which outlives `&self`.
        // Both are exposed, and nothing writes to them until `with` returns: the
        // program waits, and `with` gets no way to write there.
        Some(with(unsafe { std::slice::from_raw_parts(at, len) }))
    }

    /// Copies `bytes` to a buffer that a program passed by address. `false`, and
    /// nothing copied, unless it lies in its stack or in the arena.
    pub fn write(self, arena: &LowArena, address: u64, bytes: &[u8]) -> bool {
        if !self.contains(address, bytes.len()) {
            return arena.write(address, bytes);
        }
        let at: *mut u8 = std::ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: the buffer lies in the stack of the program that waits for this
        // helper call; `bytes` is Rust memory, which a program's stack is not.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        true
    }

    fn contains(self, address: u64, len: usize) -> bool {
        address <= self.top && self.top - address <= STACK_BYTES && len as u64 <= self.top - address
    }
}

/// What [`CURRENT`] leads to during a run.
struct Run<'a> {
    helpers: &'a mut dyn Helpers,
    stack: Stack,
}

thread_local! {
    /// The run that this thread is in; null outside of [`Machine::run`].
    static CURRENT: Cell<*mut Run<'static>> = const { Cell::new(std::ptr::null_mut()) };
}

/// Enters helper `NUMBER` for the current run.
fn trampoline<const NUMBER: u32>(a: u64, b: u64, c: u64, d: u64, e: u64) -> u64 {
    let run = CURRENT.get();
    if run.is_null() {
        return 0;
    }
    // SAFETY: `Machine::run` set the cell to a `Run` on its own frame, which is
    // below this one, and touches it again only after the program ended; helpers
    // cannot start another program (they get no `Machine`), so this is the only
    // reference to it.
    let run = unsafe { &mut *run };
    if NUMBER == HELPER_ENTER {
        run.stack = Stack { top: a };
        return run.helpers.context();
    }
    run.helpers.call(NUMBER, [a, b, c, d, e], run.stack)
}

/// Helper numbers (of the kernel) that programs may call.
pub(crate) const HELPERS: &[(u32, &str, rbpf::ebpf::Helper)] = &[
    (1, "map_lookup_elem", trampoline::<1>),
    (2, "map_update_elem", trampoline::<2>),
    (3, "map_delete_elem", trampoline::<3>),
    (5, "ktime_get_ns", trampoline::<5>),
    (8, "get_smp_processor_id", trampoline::<8>),
    (12, "tail_call", trampoline::<12>),
    (26, "skb_load_bytes", trampoline::<26>),
    (39, "skb_pull_data", trampoline::<39>),
    (54, "xdp_adjust_meta", trampoline::<54>),
    (125, "ktime_get_boot_ns", trampoline::<125>),
    (130, "ringbuf_output", trampoline::<130>),
];

/// rbpf refused a program.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Its verifier did.
    #[error("rbpf: {0}")]
    Verifier(String),
    /// Its compiler did.
    #[cfg(feature = "cranelift")]
    #[error("cranelift: {0}")]
    Compiler(String),
}

/// One linked program, ready to run on one arena.
pub struct Machine {
    /// `None` only while dropping: the object must go before the bytes it borrows.
    vm: Option<rbpf::EbpfVmMbuff<'static>>,
    code: NonNull<[u8]>,
    engine: VmEngine,
    /// First byte of the arena that the program was made for.
    arena: u32,
}

impl Machine {
    /// Makes `code` ready to run: instructions of 8 bytes that begin with
    /// the linker's prologue.
    ///
    /// # Errors
    /// What rbpf says about the program.
    pub fn new(engine: VmEngine, code: Vec<u8>, arena: &LowArena) -> Result<Self, MachineError> {
        let code = NonNull::from(Box::leak(code.into_boxed_slice()));
        // From here on `machine` frees `code`, also if the rest fails.
        let mut machine = Self { vm: None, code, engine, arena: arena.base() };
        // SAFETY: the bytes live until `drop`, which first drops the only object
        // that holds this reference; nobody writes to them.
        let bytes: &'static [u8] = unsafe { code.as_ref() };
        let refused = |e: std::io::Error| MachineError::Verifier(e.to_string());
        let mut vm = rbpf::EbpfVmMbuff::new(Some(bytes)).map_err(refused)?;
        for (number, _, function) in HELPERS {
            vm.register_helper(*number, *function).map_err(refused)?;
        }
        vm.register_helper(HELPER_ENTER, trampoline::<HELPER_ENTER>).map_err(refused)?;
        #[cfg(feature = "cranelift")]
        if engine == VmEngine::Cranelift {
            compile(&mut vm)?;
        }
        machine.vm = Some(vm);
        Ok(machine)
    }

    /// Runs the program to its exit and gives r0.
    ///
    /// # Errors
    /// rbpf's text for a fault (interpreter only), or that the program was made
    /// for another arena.
    pub fn run(&self, helpers: &mut dyn Helpers) -> Result<u64, String> {
        let Some(vm) = &self.vm else { return Err("no program".into()) };
        let arena = NonNull::from(helpers.arena());
        // SAFETY: `arena` was a reference a moment ago, and nothing happened since.
        let (base, start, size) =
            unsafe { (arena.as_ref().base(), arena.as_ref().as_ptr(), arena.as_ref().size()) };
        if base != self.arena {
            return Err("the program was linked for another memory region".into());
        }
        let mut run = Run { helpers, stack: Stack { top: 0 } };
        let _reset = Current::enter(&raw mut run);
        let result = match self.engine {
            VmEngine::Interpreter => {
                // SAFETY: the region is mapped and initialised. rbpf takes a shared
                // slice even of memory that its program stores to, and uses it for
                // its address and length only: loads and stores go through exposed
                // addresses, never through this reference, and no Rust code looks
                // at it while the program runs.
                let memory = unsafe { std::slice::from_raw_parts(start.as_ptr(), size) };
                vm.execute_program(memory, &[])
            }
            #[cfg(feature = "cranelift")]
            VmEngine::Cranelift => {
                // SAFETY: as above; rbpf hands address and length to compiled code.
                let memory = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), size) };
                vm.execute_program_cranelift(memory, &mut [])
            }
        };
        result.map_err(|e| first_line(&e.to_string()))
    }
}

/// Points [`CURRENT`] at a run and back on drop, also when a panic passes.
struct Current(*mut Run<'static>);

impl Current {
    fn enter(run: *mut Run<'_>) -> Self {
        // The cell needs a type without a lifetime; `trampoline` uses the pointer
        // only during `Machine::run`, which the lifetime covers.
        Self(CURRENT.replace(run.cast()))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.vm = None;
        // SAFETY: made by `Box::leak` in `new`; the object that borrowed it is
        // gone, and it is freed once.
        drop(unsafe { Box::from_raw(self.code.as_ptr()) });
    }
}

/// rbpf unwraps cranelift's errors, so a program that cranelift refuses (too
/// large a function) arrives as a panic.
#[cfg(feature = "cranelift")]
fn compile(vm: &mut rbpf::EbpfVmMbuff<'static>) -> Result<(), MachineError> {
    let attempt = std::panic::AssertUnwindSafe(|| vm.cranelift_compile());
    match std::panic::catch_unwind(attempt) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(MachineError::Compiler(e.to_string())),
        Err(_) => Err(MachineError::Compiler("refused the function (see the message above)".into())),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("Error: ").to_owned()
}
