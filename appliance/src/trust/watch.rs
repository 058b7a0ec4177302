//! Tells when a file changes, without looking at it again and again (inotify(7)).

use std::{io, path::Path};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::sys::Events;

/// What can make a file in a folder another one: it was written, moved there, or removed.
const CHANGES: WatchFlags =
    WatchFlags::CLOSE_WRITE.union(WatchFlags::MOVED_TO).union(WatchFlags::DELETE);

/// A watch on the folder of a file: editors replace files, so the folder is what stays.
#[derive(Debug)]
pub struct FileWatch(Events);

impl FileWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// The system's, if the folder is not there or the user has too many watches.
    pub fn new(file: &Path) -> io::Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, folder, CHANGES)?;
        Ok(Self(Events::new(events)?))
    }

    /// Returns when something in the folder has changed since the last time. Cancel safe.
    ///
    /// # Errors
    /// The system's.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.0.next().await
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn writing_replacing_and_removing_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let mut watch = FileWatch::new(&file).unwrap();
        let noticed = Duration::from_secs(10);
        fs::write(&file, "a").unwrap();
        timeout(noticed, watch.changed()).await.unwrap().unwrap();
        let other = folder.path().join("new");
        fs::write(&other, "b").unwrap();
        fs::rename(&other, &file).unwrap();
        timeout(noticed, watch.changed()).await.unwrap().unwrap();
        fs::remove_file(&file).unwrap();
        timeout(noticed, watch.changed()).await.unwrap().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        assert!(FileWatch::new(Path::new("/nonexistent/known_hosts")).is_err());
    }
}
