//! zstd (RFC 8878): frames one after another, as much of them at a time as is asked for.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{FlashError, error::failed};
use crate::media::guarded;

/// How far back a packed image may refer, in bytes: so much of it is in memory. `zstd -19` takes 8 MiB.
const MAX_WINDOW: u64 = 64 << 20;

/// How much is unpacked before it is handed on, in bytes.
const STEP: usize = 1 << 20;

const FRAME: u32 = 0xfd2f_b528;
/// The last four bits are anything.
const SKIPPABLE: u32 = 0x184d_2a50;

/// A packed image, read from its start to its end.
pub(super) struct Unpacker {
    source: Source,
    decoder: FrameDecoder,
    frame: Option<Frame>,
}

/// What the header of a frame says (section 3.1.1.1).
struct Frame {
    header: Vec<u8>,
    content: Option<u64>,
    has_checksum: bool,
    /// How much of it was unpacked.
    unpacked: u64,
}

impl Unpacker {
    pub(super) fn open(path: &Path) -> Result<Self, FlashError> {
        Ok(Self { source: Source::open(path)?, decoder: FrameDecoder::new(), frame: None })
    }

    /// How much of the packed file was read, in bytes.
    pub(super) fn packed_at(&self) -> u64 {
        self.source.at
    }

    /// Unpacks something into the buffer, which is not empty; nothing is the end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Result<usize, FlashError> {
        loop {
            let Some(frame) = &mut self.frame else {
                let Some(frame) = self.source.next_frame()? else { return Ok(0) };
                let reset = self.decoder.reset(&frame.header[..]);
                reset.map_err(|error| self.source.damaged(&error))?;
                self.frame = Some(frame);
                continue;
            };
            let (source, decoder) = (&mut self.source, &mut self.decoder);
            let read = guarded(|| decoder.read(buf)).map_err(|error| source.damaged(&error))?;
            if read > 0 {
                frame.unpacked += read as u64;
                return Ok(read);
            }
            if decoder.is_finished() {
                let is_whole = frame.content.is_none_or(|content| content == frame.unpacked);
                let sums = (decoder.get_checksum_from_data(), decoder.get_calculated_checksum());
                if !is_whole || (frame.has_checksum && sums.0 != sums.1) {
                    return Err(source.damaged(&"its check sum or its size is not what it was"));
                }
                self.frame = None;
                continue;
            }
            let strategy = BlockDecodingStrategy::UptoBytes(STEP);
            let decoded =
                guarded(|| decoder.decode_blocks(&mut *source, strategy).map_err(io::Error::other));
            decoded.map_err(|error| source.damaged(&error))?;
        }
    }
}

/// Looks at the structure of a packed file, up to its end, without unpacking it. Gives how large it is
/// unpacked, if it says so.
pub(super) fn check(path: &Path) -> Result<Option<u64>, FlashError> {
    let mut source = Source::open(path)?;
    let mut total = Some(0_u64);
    while let Some(frame) = source.next_frame()? {
        source.skip_blocks()?;
        if frame.has_checksum {
            source.skip(4)?;
        }
        total = match (total, frame.content) {
            (Some(total), Some(content)) => {
                let sum = total.checked_add(content);
                Some(sum.ok_or_else(|| source.damaged(&"it is larger than anything"))?)
            }
            _ => None,
        };
    }
    Ok(total)
}

/// The packed file, which knows where it is.
struct Source {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    len: u64,
    /// What the file itself failed with, if it did.
    failed: Option<io::Error>,
    /// Whether more was wanted than there is.
    has_ended: bool,
}

impl Source {
    fn open(path: &Path) -> Result<Self, FlashError> {
        let file = File::open(path).map_err(failed("open", path))?;
        let len = file.metadata().map_err(failed("look at", path))?.len();
        let file = BufReader::with_capacity(64 << 10, file);
        Ok(Self { path: path.to_owned(), file, at: 0, len, failed: None, has_ended: false })
    }

    /// What is wrong with the packed data here, unless the file itself could not be read.
    fn damaged(&mut self, why: &impl ToString) -> FlashError {
        let path = self.path.clone();
        if let Some(source) = self.failed.take() {
            return FlashError::File { doing: "read", path, source };
        }
        let why = if self.has_ended { "it ends too early".to_owned() } else { why.to_string() };
        FlashError::Damaged { path, offset: self.at, why }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FlashError> {
        let mut bytes = [0; N];
        match self.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) => Err(self.damaged(&error)),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), FlashError> {
        if bytes > self.len.saturating_sub(self.at) {
            (self.at, self.has_ended) = (self.len, true);
            return Err(self.damaged(&""));
        }
        let moved = self.file.seek_relative(bytes.try_into().unwrap_or(i64::MAX));
        moved.map_err(failed("read", &self.path))?;
        self.at += bytes;
        Ok(())
    }

    /// The header of the next frame with content; none at the end.
    fn next_frame(&mut self) -> Result<Option<Frame>, FlashError> {
        while self.at < self.len {
            let start = self.at;
            let magic = self.take::<4>()?;
            match u32::from_le_bytes(magic) {
                FRAME => return self.frame(magic).map(Some),
                word if word & !0xf == SKIPPABLE => {
                    let len = u32::from_le_bytes(self.take()?);
                    self.skip(len.into())?;
                }
                _ => {
                    self.at = start;
                    return Err(self.damaged(&"what follows is not packed with zstd"));
                }
            }
        }
        Ok(None)
    }

    fn frame(&mut self, magic: [u8; 4]) -> Result<Frame, FlashError> {
        let [descriptor] = self.take()?;
        let mut header = magic.to_vec();
        header.push(descriptor);
        let is_single = descriptor & 0x20 != 0;
        let mut window = 0;
        if !is_single {
            let [byte] = self.take()?;
            header.push(byte);
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * u64::from(byte & 7);
        }
        let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content_len = match descriptor >> 6 {
            0 => usize::from(is_single),
            flag => 1 << flag,
        };
        for _ in 0..dictionary_len {
            header.extend(self.take::<1>()?);
        }
        let mut content = [0; 8];
        for byte in content.iter_mut().take(content_len) {
            [*byte] = self.take()?;
            header.push(*byte);
        }
        // Two bytes count from where one byte ends.
        let from = if content_len == 2 { 256 } else { 0 };
        let content = (content_len > 0).then(|| u64::from_le_bytes(content).saturating_add(from));
        if is_single {
            window = content.unwrap_or(0);
        }
        if window > MAX_WINDOW {
            let (mib, max_mib) = (window.div_ceil(1 << 20), MAX_WINDOW >> 20);
            return Err(FlashError::Window { path: self.path.clone(), mib, max_mib });
        }
        let has_checksum = descriptor & 4 != 0;
        Ok(Frame { header, content, has_checksum, unpacked: 0 })
    }

    /// Passes over the blocks of a frame (section 3.1.1.2).
    fn skip_blocks(&mut self) -> Result<(), FlashError> {
        loop {
            let [a, b, c] = self.take()?;
            let header = u32::from_le_bytes([a, b, c, 0]);
            match (header >> 1) & 3 {
                // One byte, repeated.
                1 => self.skip(1)?,
                3 => return Err(self.damaged(&"there is no such block")),
                _ => self.skip((header >> 3).into())?,
            }
            if header & 1 != 0 {
                return Ok(());
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buf) {
            Ok(read) => {
                self.has_ended |= read == 0 && !buf.is_empty();
                self.at += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy =
                    error.raw_os_error().map_or(error.kind().into(), io::Error::from_raw_os_error);
                self.failed = Some(error);
                Err(copy)
            }
        }
    }
}
