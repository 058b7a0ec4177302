//! Images, disks and files.

mod judging;
mod packed;
mod writing;

use super::*;

/// Watches nothing, and stops when it has seen so many bytes of a phase.
#[derive(Default)]
struct Watcher {
    stop: Option<(Phase, u64)>,
    at: Option<(Phase, u64)>,
    seen: Vec<(Phase, u64)>,
}

impl Watch for Watcher {
    fn begin(&mut self, phase: Phase, total_bytes: u64) {
        self.at = Some((phase, 0));
        self.seen.push((phase, total_bytes));
    }

    fn done(&mut self, bytes: u64) {
        if let Some((_, at)) = &mut self.at {
            *at = bytes;
        }
    }

    fn is_stopped(&self) -> bool {
        match (self.stop, self.at) {
            (Some((phase, bytes)), Some((at, done))) => phase == at && done >= bytes,
            _ => false,
        }
    }
}

/// A frame (RFC 8878) of blocks that are not compressed, or of one byte repeated. 131072 bytes are the
/// most that a block holds.
fn frame(content: &[u8], says_size: bool) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    // A window of 1 MiB.
    frame.extend(if says_size { &[0xc0, 0x50][..] } else { &[0x00, 0x50] });
    if says_size {
        frame.extend((content.len() as u64).to_le_bytes());
    }
    let blocks = content.chunks(1 << 17).collect::<Vec<_>>();
    for (number, block) in blocks.iter().enumerate() {
        let is_last = u32::from(number + 1 == blocks.len());
        let is_one = block.iter().all(|byte| *byte == block[0]);
        let kind = u32::from(is_one) << 1;
        let header = (block.len() as u32) << 3 | kind | is_last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(if is_one { &block[..1] } else { block });
    }
    frame
}

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}
