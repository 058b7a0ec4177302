//! A part of a medium as the libraries see it: nothing outside of it can be reached, and nothing they
//! write reaches the medium before all of it is known.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use zeroize::Zeroizing;

/// What is written as a whole or not at all, in bytes.
pub(super) const SECTOR: usize = 512;

/// How much is read at once, in bytes.
const BLOCK: u64 = 4096;

/// How many sectors may change: a seed, its predecessor and what FAT keeps about them are far fewer.
const MAX_CHANGED: usize = 4096;

/// How often a library may read or write in one go. A directory that runs in a circle never ends.
const MAX_CALLS: u32 = 1_000_000;

type Sector = Zeroizing<[u8; SECTOR]>;

/// Something that can be read and written anywhere, and told to keep what was written.
pub(super) trait Medium: Read + Write + Seek {
    /// Returns when everything that was written is on the medium.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// In which order the changed sectors of a step reach the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As they were last written: first what is referred to, then what refers to it.
    Forward,
    /// The other way round, for a step that takes something away.
    Reverse,
}

/// A sector that a step has written to.
struct Touched {
    before: Sector,
    last: u64,
}

/// A part of a medium. Reads see what was written, which stays in memory until [`Window::commit`].
pub(super) struct Window<'m> {
    medium: &'m mut dyn Medium,
    start: u64,
    len: u64,
    at: u64,
    calls: u32,
    max_calls: u32,
    block: Option<(u64, Zeroizing<Vec<u8>>)>,
    /// Every sector that was written to, as it is to be.
    sectors: BTreeMap<u64, Sector>,
    /// Those that the step was, by their number.
    touched: BTreeMap<u64, Touched>,
    writes: u64,
    /// Runs of neighbouring sectors, in the order in which they are to be written.
    plan: Vec<Vec<(u64, Sector)>>,
}

impl fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("start", &self.start).field("len", &self.len).finish()
    }
}

impl<'m> Window<'m> {
    /// The `len` bytes from `start`; what is left of a last sector is not reached.
    pub(super) fn new(medium: &'m mut dyn Medium, start: u64, len: u64) -> Self {
        Self {
            medium,
            start,
            len: len - len % SECTOR as u64,
            at: 0,
            calls: 0,
            max_calls: MAX_CALLS,
            block: None,
            sectors: BTreeMap::new(),
            touched: BTreeMap::new(),
            writes: 0,
            plan: Vec::new(),
        }
    }

    /// Allows fewer calls, which also bounds what a library keeps of what it reads.
    pub(super) fn allowing(self, max_calls: u32) -> Self {
        Self { max_calls, ..self }
    }

    /// Back to the start, as the FAT library wants it, with a full allowance of calls.
    pub(super) fn rewind(&mut self) {
        (self.at, self.calls) = (0, 0);
    }

    /// Plans what was written since the last step.
    pub(super) fn end_step(&mut self, order: Order) {
        let mut touched: Vec<_> = std::mem::take(&mut self.touched).into_iter().collect();
        touched.sort_by_key(|(_, touched)| touched.last);
        if order == Order::Reverse {
            touched.reverse();
        }
        let mut run: Vec<(u64, Sector)> = Vec::new();
        for (number, touched) in touched {
            let Some(now) = self.sectors.get(&number).filter(|now| **now != touched.before) else {
                continue;
            };
            if run.last().is_some_and(|(last, _)| last.abs_diff(number) != 1) {
                self.plan.push(std::mem::take(&mut run));
            }
            run.push((number, now.clone()));
        }
        self.plan.extend((!run.is_empty()).then_some(run));
    }

    /// Writes what was planned, step by step. Each run of sectors is on the medium before the next is
    /// begun, so that the medium cannot choose another order.
    pub(super) fn commit(self) -> io::Result<()> {
        for run in &self.plan {
            for (number, bytes) in run {
                self.medium.seek(SeekFrom::Start(self.start + number * SECTOR as u64))?;
                self.medium.write_all(&bytes[..])?;
            }
            self.medium.sync()?;
        }
        Ok(())
    }

    fn count_call(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.calls > self.max_calls {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it never ends"));
        }
        Ok(())
    }

    /// The sector that the position is in, the place in it, and how much of `wanted` is there.
    fn reach(&self, wanted: usize) -> (u64, usize, usize) {
        let within = (self.at % SECTOR as u64) as usize;
        let there = if self.at < self.len { SECTOR - within } else { 0 };
        (self.at / SECTOR as u64, within, wanted.min(there))
    }

    /// A sector as it is on the medium.
    fn load(&mut self, number: u64) -> io::Result<&[u8]> {
        let at = number * SECTOR as u64;
        let base = at - at % BLOCK;
        let block = match self.block.take() {
            Some((cached, block)) if cached == base => block,
            _ => {
                let mut block = Zeroizing::new(vec![0; BLOCK.min(self.len - base) as usize]);
                self.medium.seek(SeekFrom::Start(self.start + base))?;
                self.medium.read_exact(&mut block)?;
                block
            }
        };
        let (_, block) = self.block.insert((base, block));
        let within = (at - base) as usize;
        Ok(&block[within..within + SECTOR])
    }

    /// A sector that is about to be written to.
    fn touch(&mut self, number: u64) -> io::Result<&mut Sector> {
        self.writes += 1;
        let last = self.writes;
        if !self.sectors.contains_key(&number) {
            if self.sectors.len() == MAX_CHANGED {
                return Err(io::Error::other("too much of it would change"));
            }
            let mut bytes = Zeroizing::new([0; SECTOR]);
            bytes.copy_from_slice(self.load(number)?);
            self.sectors.insert(number, bytes);
        }
        let sector = self.sectors.entry(number).or_insert_with(|| Zeroizing::new([0; SECTOR]));
        let before = || Touched { before: sector.clone(), last };
        self.touched.entry(number).or_insert_with(before).last = last;
        Ok(sector)
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.count_call()?;
        let (number, within, len) = self.reach(buf.len());
        if len == 0 {
            return Ok(0);
        }
        let from = match self.sectors.get(&number) {
            Some(sector) => &sector[..],
            None => self.load(number)?,
        };
        buf[..len].copy_from_slice(&from[within..within + len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.count_call()?;
        let (number, within, len) = self.reach(buf.len());
        if len == 0 {
            return Ok(0);
        }
        self.touch(number)?[within..within + len].copy_from_slice(&buf[..len]);
        self.at += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
