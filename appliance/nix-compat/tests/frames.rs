//! Framed streams and the primitives, whatever the pieces they come in.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod generate;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use generate::now;
use nix_compat::wire::{
    Bounded, FrameScanner, FramedReader, FramedWriter, MAX_MESSAGE, Scan, WireError, copy_framed,
    read_bool, read_bytes, read_count, read_store_path_set, read_string, read_string_list,
    read_u32, write_bytes,
};
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// Frames of these contents (none of them empty), and the end.
fn frames(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for content in contents {
        out.extend((content.len() as u64).to_le_bytes());
        out.extend(content);
    }
    out.extend(0u64.to_le_bytes());
    out
}

/// So many bytes, none like its neighbours.
fn counting(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn contents() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 1..50), 0..6)
}

proptest! {
    #[test]
    fn the_end_is_found_whatever_the_pieces(
        contents in contents(),
        after in vec(any::<u8>(), 0..20),
        capacity in 1..40usize,
    ) {
        let framed = frames(&contents);
        let bytes = [framed.clone(), after.clone()].concat();

        let mut r = BufReader::with_capacity(capacity, bytes.as_slice());
        let mut copy = Vec::new();
        prop_assert_eq!(now(copy_framed(&mut r, &mut copy)).unwrap(), framed.len() as u64);
        prop_assert_eq!(&copy, &framed);
        let mut rest = Vec::new();
        now(r.read_to_end(&mut rest)).unwrap();
        prop_assert_eq!(&rest, &after);

        let mut r = BufReader::with_capacity(capacity, bytes.as_slice());
        let mut reader = FramedReader::new(&mut r);
        let mut content = Vec::new();
        now(reader.read_to_end(&mut content)).unwrap();
        prop_assert!(reader.is_at_end());
        prop_assert_eq!(content, contents.concat());
        let mut rest = Vec::new();
        now(r.read_to_end(&mut rest)).unwrap();
        prop_assert_eq!(&rest, &after);
    }

    #[test]
    fn a_framed_stream_cut_short_is_a_disconnect(contents in contents(), cut in any::<prop::sample::Index>()) {
        let framed = frames(&contents);
        let cut = &framed[..cut.index(framed.len())];
        prop_assert!(now(copy_framed(&mut &*cut, &mut Vec::new())).unwrap_err().is_disconnect());
        prop_assert!(now(FramedReader::new(cut).drain()).unwrap_err().is_disconnect());
    }

    #[test]
    fn what_is_written_in_frames_reads_back(
        lens in vec(0..40_000usize, 0..8),
        flushes in vec(any::<bool>(), 8),
    ) {
        let pieces: Vec<_> = lens.into_iter().map(counting).collect();
        let mut framed = Vec::new();
        let mut writer = FramedWriter::new(&mut framed);
        for (piece, flush) in pieces.iter().zip(flushes) {
            now(writer.write_all(piece)).unwrap();
            if flush {
                now(writer.flush()).unwrap();
            }
        }
        now(writer.finish()).unwrap();
        now(writer.finish()).unwrap();
        prop_assert!(now(writer.write_all(b"more")).is_err());
        let mut content = Vec::new();
        let mut rest = framed.as_slice();
        now(FramedReader::new(&mut rest).read_to_end(&mut content)).unwrap();
        prop_assert!(content == pieces.concat());
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn strings_read_back(len in 0..200_000usize) {
        let string = counting(len);
        let mut out = Vec::new();
        write_bytes(&mut out, &string);
        prop_assert_eq!(out.len() % 8, 0);
        prop_assert!(now(read_bytes(&mut out.as_slice(), "string", 200_000)).unwrap() == string);
    }
}

/// A writer that takes a few bytes at a time, and nothing every other time.
struct Reluctant {
    taken: Vec<u8>,
    willing: bool,
}

impl AsyncWrite for Reluctant {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.willing = !self.willing;
        if !self.willing {
            return Poll::Pending;
        }
        let n = bytes.len().min(5000);
        self.taken.extend(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn frames_survive_writes_that_are_given_up() {
    let content = counting(300_000);
    let mut out = Reluctant { taken: Vec::new(), willing: false };
    let mut writer = FramedWriter::new(&mut out);
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut sent = 0;
    while sent < content.len() {
        // A single poll, whose future is gone afterwards.
        if let Poll::Ready(n) = Pin::new(&mut writer).poll_write(&mut context, &content[sent..]) {
            sent += n.unwrap();
        }
    }
    while Pin::new(&mut writer).poll_shutdown(&mut context).is_pending() {}
    let mut read = Vec::new();
    now(FramedReader::new(out.taken.as_slice()).read_to_end(&mut read)).unwrap();
    assert!(read == content);
}

#[test]
fn a_huge_frame_passes_without_being_held() {
    let huge = (1u64 << 40).to_le_bytes();
    let mut scanner = FrameScanner::new();
    scanner.feed(&huge).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        assert_eq!(scanner.feed(&piece).unwrap(), piece.len());
    }
    assert!(!scanner.is_done());
    let start = [&huge, b"abc".as_slice()].concat();
    let mut endless = FramedReader::new(start.as_slice());
    let mut piece = [0; 10];
    assert_eq!(now(endless.read(&mut piece)).unwrap(), 3);
    assert!(now(endless.read(&mut piece)).is_err());
}

#[test]
fn a_frame_longer_than_any_memory_is_refused_at_once() {
    let absurd = (1u64 << 60).to_le_bytes();
    let fed = FrameScanner::new().feed(&absurd);
    assert!(matches!(fed, Err(WireError::TooLong { what: "a frame", .. })), "{fed:?}");
    let mut piece = [0; 10];
    let error = now(FramedReader::new(absurd.as_slice()).read(&mut piece)).unwrap_err();
    assert!(error.to_string().contains("a frame is too long"), "{error}");
}

#[test]
fn a_length_alone_allocates_nothing() {
    let huge = (1u64 << 60).to_le_bytes();
    // Even where a limit would allow it, only what has arrived is held.
    let cut = now(read_bytes(&mut huge.as_slice(), "string", u64::MAX));
    assert!(matches!(cut, Err(WireError::Truncated { what: "string" })));
    let long = now(read_bytes(&mut huge.as_slice(), "string", 100));
    assert!(matches!(long, Err(WireError::TooLong { len, max: 100, .. }) if len == 1 << 60));
    assert!(matches!(
        now(read_store_path_set(&mut huge.as_slice(), "paths")),
        Err(WireError::TooLong { .. })
    ));
    assert!(matches!(
        now(read_count(&mut huge.as_slice(), "items")),
        Err(WireError::TooLong { .. })
    ));
    assert!(matches!(
        now(read_u32(&mut huge.as_slice(), "number")),
        Err(WireError::TooLong { .. })
    ));
}

#[test]
fn a_message_of_too_many_items_is_refused() {
    let item = [60_000u64.to_le_bytes().to_vec(), vec![b'x'; 60_000]].concat();
    let items = 1200u64;
    let list = [&items.to_le_bytes(), item.repeat(1200).as_slice()].concat();
    assert!(now(read_string_list(&mut list.as_slice(), "list")).is_ok());
    let bounded = now(read_string_list(&mut Bounded::new(&mut list.as_slice()), "list"));
    assert!(matches!(bounded, Err(WireError::TooLong { max: MAX_MESSAGE, .. })), "{bounded:?}");
}

#[test]
fn what_is_not_canonical_is_refused() {
    let mut bad_padding = Vec::new();
    write_bytes(&mut bad_padding, "abc");
    bad_padding[15] = 1;
    let read = now(read_bytes(&mut bad_padding.as_slice(), "string", 100));
    assert!(matches!(read, Err(WireError::BadPadding { .. })));
    let mut latin1 = Vec::new();
    write_bytes(&mut latin1, b"\xe4");
    let read = now(read_string(&mut latin1.as_slice(), "string", 100));
    assert!(matches!(read, Err(WireError::NotUtf8 { .. })));
    let read = now(read_bool(&mut 2u64.to_le_bytes().as_slice(), "flag"));
    assert!(matches!(read, Err(WireError::UnknownTag { tag: 2, .. })));
}
