//! One process changes attachments at a time: a lock on the folder of pins itself,
//! so that processes with the same bpffs exclude each other wherever they run. The
//! kernel lets go of it when its holder dies.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{LoaderError, file};

/// How often a taken lock is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// The lock, held until drop.
#[derive(Debug)]
pub(super) struct Lock {
    _folder: File,
}

impl Lock {
    /// Makes the folder and waits for its lock, up to `wait`.
    pub fn take(folder: &Path, wait: Duration) -> Result<Self, LoaderError> {
        let start = Instant::now();
        loop {
            std::fs::create_dir_all(folder).map_err(file(folder))?;
            let held = File::open(folder).map_err(file(folder))?;
            match held.try_lock() {
                // Who had it may have removed the folder with the last attachment.
                Ok(()) if is_at(&held, folder) => return Ok(Self { _folder: held }),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if start.elapsed() < wait => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(LoaderError::Busy { folder: folder.to_owned(), seconds: wait.as_secs() });
                }
                Err(TryLockError::Error(e)) => return Err(file(folder)(e)),
            }
        }
    }
}

/// Whether the open folder is the one that stands at the path.
fn is_at(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(path)) => (open.dev(), open.ino()) == (path.dev(), path.ino()),
        _ => false,
    }
}
