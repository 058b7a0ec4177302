//! What an image says of itself: which board it is for.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{FlashError, Image, Watch, error::failed, go_on, image::Reader};
use crate::{
    media::{MediaError, OpenedDisk},
    names::IMAGE_FILE,
};

/// How much of a packed image is unpacked to look for its label, in bytes. Before the volume for seeds
/// an image has boot loaders and firmware at most.
const LOOK: u64 = 160 << 20;

/// How much is unpacked at a time, in bytes.
const STEP: usize = 1 << 20;

/// The content of [`IMAGE_FILE`] on an image's volume for seeds. It may say more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Label {
    /// The id of the board it is for.
    pub board: String,
    /// The version of roost in it.
    pub version: String,
}

/// What an image says.
#[derive(Debug)]
pub enum Says {
    /// Which board it is for.
    Label(Label),
    /// Nothing, but it has a volume for seeds.
    Nothing,
    /// It has no volume for seeds, or none that can be read: why.
    NoSeedVolume(MediaError),
}

/// What an image says. Of a packed one, only the beginning is unpacked, into a file without a name.
///
/// # Errors
///
/// [`FlashError`]: it cannot be read, or its label makes no sense.
pub fn label_of(image: &Image, watch: &dyn Watch) -> Result<Says, FlashError> {
    let path = image.path();
    let found = if image.is_packed() {
        Beginning::of(image)?.label(watch)?
    } else {
        let mut file = File::open(path).map_err(failed("open", path))?;
        OpenedDisk::new(&mut file, path).read_file(IMAGE_FILE)
    };
    match found {
        Ok(None) => Ok(Says::Nothing),
        Ok(Some(text)) => serde_json::from_slice(&text)
            .map(Says::Label)
            .map_err(|source| FlashError::Label { path: path.to_owned(), source }),
        Err(MediaError::File { doing, path, source }) => {
            Err(FlashError::File { doing, path, source })
        }
        Err(error) => Ok(Says::NoSeedVolume(error)),
    }
}

type Found = Result<Option<zeroize::Zeroizing<Vec<u8>>>, MediaError>;

/// The beginning of a packed image.
struct Beginning {
    reader: Reader,
    path: PathBuf,
    file: File,
    at: u64,
}

impl Beginning {
    fn of(image: &Image) -> Result<Self, FlashError> {
        let (reader, path) = (image.reader()?, image.path().to_owned());
        let folder = std::env::temp_dir();
        let file = tempfile::tempfile().map_err(failed("make a file in", &folder))?;
        // As if all of it were there.
        let size = image.size_bytes().unwrap_or(LOOK);
        file.set_len(size).map_err(failed("make a file in", &folder))?;
        Ok(Self { reader, path, file, at: 0 })
    }

    /// Unpacks one partition after another until the label's is complete.
    fn label(mut self, watch: &dyn Watch) -> Result<Found, FlashError> {
        self.unpack(STEP as u64, watch)?;
        let ends = self.disk().partition_ends().unwrap_or_default();
        for end in ends.into_iter().filter(|end| *end <= LOOK).chain([LOOK]) {
            self.unpack(end, watch)?;
            if let Ok(found) = self.disk().read_file(IMAGE_FILE) {
                return Ok(Ok(found));
            }
        }
        Ok(self.disk().read_file(IMAGE_FILE))
    }

    fn disk(&mut self) -> OpenedDisk<'_> {
        OpenedDisk::new(&mut self.file, Path::new(&self.path))
    }

    fn unpack(&mut self, end: u64, watch: &dyn Watch) -> Result<(), FlashError> {
        let mut buf = vec![0; STEP];
        while self.at < end {
            go_on(watch)?;
            // No further: what is there in part would look as if the rest were empty.
            let len = (end - self.at).min(STEP as u64) as usize;
            let read = self.reader.fill(&mut buf[..len])?;
            if read == 0 {
                break;
            }
            let got = &buf[..read];
            if got.iter().any(|byte| *byte != 0) {
                let folder = std::env::temp_dir();
                self.file.write_all_at(got, self.at).map_err(failed("write a file in", &folder))?;
            }
            self.at += read as u64;
        }
        Ok(())
    }
}
