//! Whether files changed, by what the file system says of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Two writes within this may get one time of change.
const GRAIN: Duration = Duration::from_secs(2);

/// What a file was when it was looked at: device, inode, length, time of change.
type Stamp = (u64, u64, u64, SystemTime);

/// Files and what they were at one moment; of those that cannot be looked at, `None`.
#[derive(Debug)]
pub struct Stamps {
    files: Vec<(PathBuf, Option<Stamp>)>,
    taken: SystemTime,
}

impl Stamps {
    /// Looks at files.
    pub fn take(files: impl IntoIterator<Item = PathBuf>) -> Self {
        let taken = SystemTime::now();
        let stamp = |path: &PathBuf| {
            let data = fs::metadata(path).ok()?;
            Some((data.dev(), data.ino(), data.len(), data.modified().ok()?))
        };
        Self { files: files.into_iter().map(|path| (path.clone(), stamp(&path))).collect(), taken }
    }

    /// Whether what was read after `self` was taken may be another thing than what is
    /// there now: a stamp is another one, or was too fresh to tell.
    pub fn differ(&self, now: &Self) -> bool {
        let fresh =
            |(_, _, _, changed): &Stamp| self.taken.duration_since(*changed).is_ok_and(|age| age < GRAIN);
        self.files != now.files || self.files.iter().filter_map(|(_, stamp)| stamp.as_ref()).any(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_differs_when_it_is_written_replaced_or_gone() {
        let folder = std::env::temp_dir().join(format!("polc-stamps-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.yaml");
        let write = |path: &PathBuf, text: &str, age: u64| {
            fs::write(path, text).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
        };
        let take = || Stamps::take([file.clone()]);
        write(&file, "a: 1", 60);
        let old = take();
        assert!(!old.differ(&take()));
        write(&file, "a: 2", 50);
        assert!(old.differ(&take()), "another time");
        write(&file, "a: 2", 1);
        assert!(take().differ(&take()), "another write may have the same time");
        write(&file, "a: 2", 60);
        let written = take();
        let other = folder.join("b.yaml");
        write(&other, "a: 2", 60);
        fs::rename(&other, &file).unwrap();
        assert!(written.differ(&take()), "replaced");
        let replaced = take();
        fs::remove_file(&file).unwrap();
        assert!(replaced.differ(&take()) && !take().differ(&take()), "gone");
        fs::remove_dir(&folder).unwrap();
    }
}
