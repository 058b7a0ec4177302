//! Tells when a file changes, without looking at it again and again (inotify(7)).

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::{Errno, read},
};
use tokio::io::unix::AsyncFd;

/// What can make a file in a folder another one: it was written, moved there, or removed.
const CHANGES: WatchFlags =
    WatchFlags::CLOSE_WRITE.union(WatchFlags::MOVED_TO).union(WatchFlags::DELETE);

/// A watch on the folder of a file: editors replace files, so the folder is what stays.
#[derive(Debug)]
pub struct FileWatch(AsyncFd<OwnedFd>);

impl FileWatch {
    /// Starts to watch.
    ///
    /// # Errors
    /// The system's, if the folder is not there or the user has too many watches.
    pub fn new(file: &Path) -> io::Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, folder, CHANGES)?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd does own what it names")]
        Ok(Self(AsyncFd::new(events)?))
    }

    /// Returns when something in the folder has changed since the last time. Cancel safe.
    ///
    /// # Errors
    /// The system's.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            // What happened does not matter, only that something did: all of it is read away.
            let mut events = [MaybeUninit::<u8>::uninit(); 4096];
            match read(ready.get_inner(), &mut events[..]) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
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
