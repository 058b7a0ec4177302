//! Writing and verifying.
//!
//! The start of the medium, which has the partition table, is zeroed first and written last, when all
//! else was read back. So a medium on which anything went wrong, be it the power, is one without
//! partitions, and nobody takes it for a finished one.

use sha2::{Digest, Sha256};

use super::{FlashError, Image, Phase, Target, Watch, go_on, image::Reader, target::PastTheCache};

/// What is written last, and where a device may have the copy of an old GPT: so much at its start and
/// at its end, in bytes.
const HEAD: usize = 1 << 20;

/// How much is written and compared at once, in bytes.
const CHUNK: usize = 4 << 20;

/// How often the medium is waited for, in bytes: memory takes gigabytes and says that they are written.
const SYNC_EVERY: u64 = 32 << 20;

/// Writes an image of this size to a target, and verifies it.
///
/// # Errors
///
/// [`FlashError`]; [`FlashError::Unfinished`] if the target was changed.
pub fn write(
    image: &Image,
    image_bytes: u64,
    target: &Target,
    watch: &mut dyn Watch,
) -> Result<(), FlashError> {
    let begun = begin(image, image_bytes, watch).inspect_err(|_| {
        target.leave();
    })?;
    let (mut reader, head) = begun;
    let mut work = Work { target, watch, image_bytes, sums: Vec::new(), written: 0, synced: 0 };
    work.all(&mut reader, &head).map_err(|cause| FlashError::Unfinished {
        cause: Box::new(cause),
        path: target.path().to_owned(),
        left: target.abandon(HEAD),
    })
}

/// Reads the head, and changes nothing.
fn begin(
    image: &Image,
    image_bytes: u64,
    watch: &dyn Watch,
) -> Result<(Reader, Vec<u8>), FlashError> {
    let mut reader = image.reader()?;
    let mut head = vec![0; HEAD.min(usize::try_from(image_bytes).unwrap_or(HEAD))];
    let read = reader.fill(&mut head)?;
    head.truncate(read);
    go_on(watch)?;
    Ok((reader, head))
}

struct Work<'w> {
    target: &'w Target,
    watch: &'w mut dyn Watch,
    image_bytes: u64,
    /// Of every chunk after the head.
    sums: Vec<[u8; 32]>,
    /// What was handed to the kernel, and what is on the medium, in bytes.
    written: u64,
    synced: u64,
}

impl Work<'_> {
    fn all(&mut self, reader: &mut Reader, head: &[u8]) -> Result<(), FlashError> {
        self.watch.begin(Phase::Writing, self.image_bytes);
        self.target.clear()?;
        self.zero()?;
        self.body(reader, head.len() as u64)?;
        self.watch.begin(Phase::Verifying, self.image_bytes);
        self.verify(head.len() as u64)?;
        self.put(head, 0)?;
        self.sync()?;
        let mut back = self.target.past_the_cache();
        compare(&mut back, self.target, 0, head.len(), |bytes| bytes == head)?;
        self.watch.done(self.image_bytes);
        Ok(())
    }

    /// Zeroes the places of old partition tables.
    fn zero(&mut self) -> Result<(), FlashError> {
        if self.target.is_sparse() {
            return self.sync();
        }
        let size = self.target.size_bytes();
        let zeros = vec![0; HEAD];
        let tail = size.saturating_sub(HEAD as u64);
        for at in [0, tail] {
            let len = (size - at).min(HEAD as u64) as usize;
            self.put(&zeros[..len], at)?;
        }
        self.sync()
    }

    /// Writes everything after the head.
    fn body(&mut self, reader: &mut Reader, head_bytes: u64) -> Result<(), FlashError> {
        let mut chunk = vec![0; CHUNK];
        let mut at = head_bytes;
        loop {
            go_on(self.watch)?;
            let read = reader.fill(&mut chunk)?;
            if read == 0 {
                break;
            }
            let bytes = &chunk[..read];
            if at + read as u64 > self.image_bytes {
                return Err(FlashError::ImageChanged);
            }
            self.sums.push(Sha256::digest(bytes).into());
            if !self.target.is_sparse() || bytes.iter().any(|byte| *byte != 0) {
                self.put(bytes, at)?;
            }
            at += read as u64;
            self.written = at;
            if self.written - self.synced >= SYNC_EVERY {
                self.sync()?;
            }
            // All of it is written when the medium has it.
            if at < self.image_bytes {
                self.watch.done(at);
            }
        }
        if at != self.image_bytes {
            return Err(FlashError::ImageChanged);
        }
        self.sync()?;
        self.watch.done(at);
        Ok(())
    }

    fn verify(&mut self, head_bytes: u64) -> Result<(), FlashError> {
        let mut back = self.target.past_the_cache();
        let mut at = head_bytes;
        for sum in &self.sums {
            go_on(self.watch)?;
            let len = (self.image_bytes - at).min(CHUNK as u64) as usize;
            compare(&mut back, self.target, at, len, |bytes| {
                <[u8; 32]>::from(Sha256::digest(bytes)) == *sum
            })?;
            at += len as u64;
            self.watch.done(at - head_bytes);
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8], at: u64) -> Result<(), FlashError> {
        let to = at + bytes.len() as u64;
        self.target.write(bytes, at).map_err(|source| self.failed(to, source))
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        self.target.sync().map_err(|source| self.failed(self.written, source))?;
        self.synced = self.written;
        Ok(())
    }

    fn failed(&self, to: u64, source: std::io::Error) -> FlashError {
        FlashError::Write {
            path: self.target.path().to_owned(),
            from_mib: self.synced.min(to) >> 20,
            to_mib: to.div_ceil(1 << 20),
            source,
        }
    }
}

/// Compares what is on the medium.
fn compare(
    back: &mut PastTheCache<'_>,
    target: &Target,
    at: u64,
    len: usize,
    is_same: impl FnOnce(&[u8]) -> bool,
) -> Result<(), FlashError> {
    let path = target.path();
    let bytes = back.read(at, len).map_err(|source| FlashError::ReadBack {
        path: path.to_owned(),
        at_mib: at >> 20,
        source,
    })?;
    if bytes.len() == len && is_same(bytes) {
        return Ok(());
    }
    Err(FlashError::Differs { path: path.to_owned(), from: at, to: at + len as u64 })
}
