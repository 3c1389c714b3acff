//! Being asked to end, waited for instead of dying of it.

use std::time::Duration;

use super::SyscallError;

/// SIGTERM and SIGINT, held back from the calling thread and the threads that it makes
/// from then on, so that neither ends the process in the middle of anything.
#[derive(Debug)]
pub struct Termination {
    signals: libc::sigset_t,
}

impl Termination {
    /// Holds the signals back, for good.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hold() -> Result<Self, SyscallError> {
        // SAFETY: a set of bits, for which zero is a value; it is filled next.
        let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: a writable set, and numbers of signals that exist.
        unsafe {
            libc::sigemptyset(&mut signals);
            libc::sigaddset(&mut signals, libc::SIGTERM);
            libc::sigaddset(&mut signals, libc::SIGINT);
        }
        // SAFETY: the set is read; the former one is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut()) } {
            0 => Ok(Self { signals }),
            code => Err(SyscallError {
                call: "pthread_sigmask",
                io_error: std::io::Error::from_raw_os_error(code),
            }),
        }
    }

    /// Waits for one of them, at most so long: whether one came.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, at_most: Duration) -> Result<bool, SyscallError> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        // SAFETY: the set and the time are read; what is known of the signal is not asked for.
        if unsafe { libc::sigtimedwait(&self.signals, std::ptr::null_mut(), &timeout) } >= 0 {
            return Ok(true);
        }
        let error = SyscallError::last("sigtimedwait");
        match error.io_error.raw_os_error() {
            // The time is over, or another signal came.
            Some(libc::EAGAIN | libc::EINTR) => Ok(false),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_held_back_is_waited_for() {
        let held = Termination::hold().unwrap();
        assert!(!held.wait(Duration::from_millis(1)).unwrap());
        // SAFETY: a signal to this thread, which holds it back.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) }, 0);
        assert!(held.wait(Duration::from_secs(5)).unwrap());
        assert!(!held.wait(Duration::ZERO).unwrap(), "once");
    }
}
