//! Steps of an update, for tests that stop or kill a process at each of them.

/// Says that a step is done. In builds with debug assertions, the process stops
/// here if `POLC_STOP_AT_STEP` is this step's number (from 0), until its standard
/// input has a line or ends: a test kills it, or changes the world meanwhile.
pub(super) fn step(name: &str) {
    #[cfg(debug_assertions)]
    stop::at(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod stop {
    use std::sync::atomic::{AtomicU32, Ordering};

    static STEPS: AtomicU32 = AtomicU32::new(0);

    pub fn at(name: &str) {
        let number = STEPS.fetch_add(1, Ordering::Relaxed);
        let wanted = std::env::var("POLC_STOP_AT_STEP").ok().and_then(|n| n.parse().ok());
        if wanted == Some(number) {
            eprintln!("stopped at step {number}: {name}");
            let _ = std::io::stdin().read_line(&mut String::new());
        }
    }
}
