//! Temporary roots and derivations as files.

use std::{fs, io::Write as _, path::Path};

use super::{
    super::{
        Key, Places, TempRoots, Worker,
        reader::{News, Reader},
        temproots::Enough,
    },
    rig::{drv, drv_path, key, output_path},
};

/// The beginning of what Nix 2.34 wrote: a source and two derivations, each twice.
const RECORDED: &[u8] = b"/nix/store/hzdl0pkpn8r012l0238flv167b0ygzwl-lab\0\
    /nix/store/c6fgygisd95xr7ip3xj71v03y1yqpd7f-first.drv\0\
    /nix/store/c6fgygisd95xr7ip3xj71v03y1yqpd7f-first.drv\0\
    /nix/store/c9l460yfnrpwb85jjg28f92wrc23xzng-second.drv\0\
    /nix/store/c9l460yfnrpwb85jjg28f92wrc23xzng-second.drv\0";

fn names(roots: &mut TempRoots) -> Vec<String> {
    let mut names = Vec::new();
    let more = roots.read(|path| {
        names.push(path.name().to_owned());
        Enough::NotYet
    });
    assert!(!more.unwrap());
    names
}

fn append(file: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn what_is_appended_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("7");
    let mut roots = TempRoots::of(folder.path(), 7);
    assert!(names(&mut roots).is_empty(), "there is no file yet");
    // Half a path, as if it was being written.
    let (some, rest) = RECORDED.split_at(70);
    append(&file, some);
    assert!(names(&mut roots).is_empty());
    append(&file, rest);
    assert_eq!(names(&mut roots), ["first.drv", "first.drv", "second.drv", "second.drv"]);
    assert!(names(&mut roots).is_empty());
    append(&file, b"not a path\0/nix/store/short.drv\0\xff.drv\0\0");
    append(&file, &[b'x'; 200_000]);
    append(&file, b"\0/nix/store/c6fgygisd95xr7ip3xj71v03y1yqpd7f-three.drv\0");
    assert_eq!(names(&mut roots), ["three.drv"]);
}

#[test]
fn a_file_that_was_replaced_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("7");
    let mut roots = TempRoots::of(folder.path(), 7);
    append(&file, RECORDED);
    assert_eq!(names(&mut roots).len(), 4);
    let new = folder.path().join("new");
    append(&new, RECORDED);
    fs::rename(new, &file).unwrap();
    assert_eq!(names(&mut roots).len(), 4);
}

#[test]
fn reading_goes_on_where_it_was_enough() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("7"), RECORDED);
    let mut roots = TempRoots::of(folder.path(), 7);
    assert!(roots.read(|_| Enough::Yes).unwrap());
    assert_eq!(names(&mut roots), ["first.drv", "second.drv", "second.drv"]);
}

struct Store {
    folder: tempfile::TempDir,
    worker: Worker,
}

impl Store {
    /// One whose worker is this process.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["temproots", "store"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let worker = Worker::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        Self { folder, worker }
    }

    fn places(&self) -> Places {
        let at = |name| self.folder.path().join(name);
        Places { temproots: at("temproots"), store: at("store") }
    }

    /// Registers derivation number `n`, and writes it.
    fn drv(&self, n: u32, inputs: &[u32]) {
        let out: &[&str] = &["out"];
        self.register(n);
        let text = drv(n, inputs.iter().map(|input| (*input, out))).to_aterm();
        fs::write(self.places().store.join(drv_path(n).base_name()), text).unwrap();
    }

    fn register(&self, n: u32) {
        let file = self.places().temproots.join(self.worker.pid.to_string());
        append(&file, format!("{}\0", drv_path(n)).as_bytes());
    }

    fn make(&self, n: u32) {
        let path = output_path(n, "out");
        // A link that leads nowhere is there, too.
        std::os::unix::fs::symlink("nowhere", self.places().store.join(path.base_name())).unwrap();
    }

    fn asks(&self, n: u32) -> Vec<News> {
        vec![News::Asked(self.worker, Some(key(n)))]
    }
}

fn steps(reader: &Reader, n: u32) -> Option<u32> {
    reader.graph.remaining(|_| 1.0).of(key(n)).map(|ahead| ahead.steps)
}

#[test]
fn a_chain_is_read_from_the_store_and_gets_shorter() {
    let store = Store::new();
    let mut reader = Reader::new(store.places());
    store.drv(2, &[1]);
    store.drv(1, &[0]);
    store.drv(0, &[]);
    assert!(!reader.pass(store.asks(0)));
    assert_eq!([0, 1, 2].map(|n| steps(&reader, n)), [Some(3), Some(2), Some(1)]);
    store.make(0);
    reader.pass(vec![News::Ended(key(0), true)]);
    assert_eq!([0, 1, 2].map(|n| steps(&reader, n)), [None, Some(2), Some(1)]);
    // Another one builds the next step, and nobody says so.
    store.make(1);
    store.drv(3, &[2]);
    reader.pass(Vec::new());
    assert_eq!([0, 1, 2, 3].map(|n| steps(&reader, n)), [None, None, Some(2), Some(1)]);
}

#[test]
fn a_derivation_that_cannot_be_read_is_read_when_it_is_registered_again() {
    let store = Store::new();
    let mut reader = Reader::new(store.places());
    store.drv(1, &[0]);
    store.register(0);
    let file = store.places().store.join(drv_path(0).base_name());
    for wrong in [None, Some("Derive([(\"out"), Some("")] {
        if let Some(text) = wrong {
            fs::write(&file, text).unwrap();
        }
        reader.pass(store.asks(0));
        assert_eq!([0, 1].map(|n| steps(&reader, n)), [None, Some(1)]);
        store.register(0);
    }
    store.drv(0, &[]);
    reader.pass(store.asks(0));
    assert_eq!([0, 1].map(|n| steps(&reader, n)), [Some(2), Some(1)]);
}

#[test]
fn a_client_is_forgotten_when_its_worker_has_gone_and_its_jobs_have_ended() {
    let mut store = Store::new();
    let mut reader = Reader::new(store.places());
    store.drv(0, &[]);
    reader.pass(store.asks(0));
    // Another process has the id of the worker: so does the file, as far as anyone can tell.
    let gone = Worker { started: store.worker.started + 1, ..store.worker };
    reader.pass(vec![News::Asked(gone, Some(key(0)))]);
    assert_eq!(reader.workers().count(), 2);
    reader.pass(vec![News::Ended(key(0), false)]);
    assert_eq!(reader.workers().collect::<Vec<_>>(), [store.worker]);
    assert_eq!(reader.graph.len(), 1);
    // Nothing is read of what another process with this id registers.
    store.worker = gone;
    store.drv(1, &[]);
    let mut reader = Reader::new(store.places());
    reader.pass(store.asks(1));
    assert!(reader.graph.is_empty());
}

#[test]
fn a_large_graph_is_read_in_several_passes() {
    let store = Store::new();
    for n in 0..2500 {
        store.drv(n, &[]);
    }
    let mut reader = Reader::new(store.places());
    assert!(reader.pass(store.asks(0)));
    assert_eq!(reader.graph.len(), 1000);
    assert!(reader.pass(Vec::new()));
    assert!(!reader.pass(Vec::new()));
    assert_eq!(reader.graph.len(), 2500);
    assert_eq!(Key::of(&drv_path(7)), key(7));
}
