//! What is learned, as who places jobs sees it.

use std::sync::Arc;

use super::*;
use crate::model::Size;

fn package(name: &str) -> Package<'_> {
    Package::of(name, "riscv64-linux", How::Native)
}

fn emulated(name: &str) -> Package<'_> {
    Package::of(name, "riscv64-linux", How::Emulated)
}

fn built(seconds: f64) -> Ending {
    Ending::Built { ms: (seconds * 1000.0) as u64, peak_mib: None, output_bytes: None }
}

fn table(builds: &[(Package<'_>, f64)]) -> Table {
    let mut table = Table::default();
    for (package, seconds) in builds {
        table.learn(&Outcome { package: *package, ending: built(*seconds), at_s: 1000 });
    }
    table
}

fn source(node: &str, hint: f64, table: Table) -> Source {
    Source { nodes: vec![node.to_owned()], hint, table: Arc::new(table) }
}

/// About as long, or as fast: to a percent.
fn alike(one: f64, other: f64) -> bool {
    (one / other).ln().abs() < 0.01
}

fn secs(duration: Option<Duration>) -> f64 {
    duration.unwrap().as_secs_f64()
}

#[test]
fn a_package_is_known_by_its_name_without_version() {
    for (name, expected) in [
        ("hello-2.12.1", "hello"),
        ("gcc-wrapper-14.3.0", "gcc-wrapper"),
        ("python3.13-setuptools-80.9.0", "python3.13-setuptools"),
        ("source", "source"),
        ("x-", "x-"),
        ("", ""),
    ] {
        assert_eq!(package(name).name, expected, "{name}");
    }
}

#[test]
fn the_median_of_the_last_times_counts_and_one_that_is_far_off_does_not() {
    let mut table = Table::default();
    let mut learn = |seconds: u64, peak_mib| {
        let ending =
            Ending::Built { ms: seconds * 1000, peak_mib, output_bytes: Some(seconds << 20) };
        table.learn(&Outcome { package: package("x-1"), ending, at_s: 1000 + seconds });
    };
    (0..20).for_each(|_| learn(500, Some(9000)));
    for seconds in [100, 110, 90, 100, 7000, 105, 95] {
        learn(seconds, None);
    }
    learn(100, Some(300));
    let failure = Outcome { package: package("x-2"), ending: Ending::Failed, at_s: 3000 };
    table.learn(&failure);
    let record = table.get(&package("x-3")).unwrap();
    assert!(alike(record.median_ms().unwrap() as f64, 100_000.0), "{record:?}");
    assert_eq!((record.builds(), record.failures(), record.last_s()), (28, 1, 3000));
    assert_eq!(record.peak_mib(), Some(9000), "the most of the last that are known");
    assert_eq!(record.output_bytes(), Some(100 << 20));
    assert!(record.logs().unwrap().spread < 0.1, "{:?}", record.logs());
    assert!(table.get(&emulated("x-3")).is_none());
}

#[test]
fn what_is_sent_is_short_and_is_the_same_when_it_arrives() {
    let mut table = table(&[(package("hello-2.12"), 12.5), (emulated("gcc-wrapper-14"), 88.0)]);
    table.learn(&Outcome { package: package("hello"), ending: Ending::Failed, at_s: 2000 });
    let sent = serde_json::to_string(&table.since(0)).unwrap();
    assert!(sent.len() < 200, "{sent}");
    let mut other = Table::default();
    assert!(other.merge(serde_json::from_str::<Vec<Entry>>(&sent).unwrap()).is_empty());
    assert_eq!(other.since(0), table.since(0));
    assert_eq!(other.revision(), table.revision());
    assert_eq!(other.since(other.revision()), []);
}

#[test]
fn what_is_new_since_a_revision_is_told_oldest_first() {
    let mut table = table(&[(package("a"), 1.0), (package("b"), 1.0), (package("c"), 1.0)]);
    let known = table.revision();
    table.learn(&Outcome { package: package("b"), ending: built(2.0), at_s: 5000 });
    table.learn(&Outcome { package: package("a"), ending: built(2.0), at_s: 100 });
    let new = table.since(known);
    let names: Vec<_> = new.iter().map(|entry| entry.key.package().name).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(new[0].record.revision(), 5000, "numbers are times");
    assert_eq!(new[1].record.revision(), 5001, "but only grow");
}

#[test]
fn of_too_many_packages_those_built_last_are_kept() {
    let mut table = Table::default();
    let names: Vec<_> = (0..2000).map(|n| format!("p{n}")).collect();
    for name in &names {
        table.learn(&Outcome { package: package(name), ending: built(1.0), at_s: 1 });
    }
    table.learn(&Outcome { package: package("p0"), ending: built(1.0), at_s: 1 });
    let changes = table.learn(&Outcome { package: package("new"), ending: built(1.0), at_s: 1 });
    assert_eq!(changes.gone, [PackageKey::from(package("p1"))]);
    assert_eq!(table.len(), 2000);
    assert!(table.get(&package("p0")).is_some() && table.get(&package("p1")).is_none());
    let more = (0..5000).map(|n| format!("q{n}")).collect::<Vec<_>>();
    let mut other = Table::default();
    for name in &more {
        let entries = self::table(&[(package(name), 1.0)]).since(0);
        other.merge(entries);
    }
    assert_eq!(other.len(), 2000);
}

#[test]
fn what_no_nix_has_sent_is_not_taken() {
    let mut table = Table::default();
    let entry = |name: &str, system: &str, record: &str| {
        let text = format!(r#"{{"p":["{name}","{system}","native"],"r":{record}}}"#);
        serde_json::from_str::<Entry>(&text)
    };
    let long = "x".repeat(212);
    for (name, system) in
        [("", "a"), (&*long, "a"), ("a b", "a"), ("a", ""), ("a", &*"x".repeat(65)), ("a", "ä")]
    {
        table.merge(entry(name, system, r#"{"t":[1]}"#));
    }
    assert!(table.is_empty());
    assert!(entry("a", "b", r#"{"t":[1,2,3,4,5,6,7,8,9]}"#).is_err(), "too many times");
    table.merge(entry("a", "b", r#"{"t":[0,4294967295],"v":18446744073709551615,"later":1}"#));
    assert_eq!(table.revision(), u64::MAX);
    table.learn(&Outcome { package: package("c"), ending: built(1.0), at_s: 1 });
    let estimates = Estimates::of(&[source("evil", 1e-300, table)]);
    assert_eq!(estimates.work(&Package::of("a", "b", How::Native)).unwrap().typical.as_secs(), 0);
}

#[test]
fn speeds_follow_from_what_several_nodes_have_built() {
    let names = ["a", "b", "c", "d", "e"];
    let work = [10.0, 20.0, 400.0, 3.0, 60.0];
    let at = |speed: f64, off: f64| {
        let builds = names.iter().zip(work).map(|(name, work)| (package(name), work / speed));
        let mut table = table(&builds.collect::<Vec<_>>());
        // One package that is another one there.
        let odd = Outcome { package: package("a"), ending: built(10.0 * off), at_s: 5000 };
        table.learn(&odd);
        table
    };
    let alien = table(&[(Package::of("a", "aarch64-linux", How::Native), 5.0)]);
    let estimates = Estimates::of(&[
        source("slow", 0.2, at(0.1, 10.0)),
        source("fast", 0.2, at(0.4, 2.5)),
        source("unknown", 0.0, Table::default()),
        source("alien", 2.0, alien),
    ]);
    assert!(alike(estimates.speed("fast") / estimates.speed("slow"), 4.0));
    assert!(alike(estimates.speed("fast") * estimates.speed("slow"), 0.04), "as the hints");
    assert!(alike(estimates.speed("alien"), 2.0));
    assert!(alike(estimates.speed("unknown"), 0.2), "like most");
    assert!(alike(estimates.speed("never heard of"), 1.0));
    assert!(alike(secs(estimates.work(&package("c")).map(|work| work.typical)), 400.0));
    assert!(alike(secs(estimates.seconds(&package("c"), "fast")), 1000.0));
    assert!(alike(secs(estimates.seconds(&package("c"), "unknown")), 2000.0));
    assert!(estimates.is_long(&package("c"), "fast") && !estimates.is_long(&package("b"), "fast"));
    assert!(estimates.work(&package("z")).is_none());
    assert!(estimates.seconds(&emulated("c"), "fast").is_none());
}

#[test]
fn two_packages_in_common_are_too_few_to_compare_nodes() {
    let one = table(&[(package("a"), 10.0), (package("b"), 10.0)]);
    let other = table(&[(package("a"), 90.0), (package("b"), 90.0)]);
    let estimates = Estimates::of(&[source("one", 2.0, one), source("other", 0.5, other)]);
    assert!(alike(estimates.speed("one"), 2.0) && alike(estimates.speed("other"), 0.5));
    // 20 s by the one, 45 s by the other.
    assert!(alike(secs(estimates.work(&package("a")).map(|it| it.typical)), 30.0));
}

#[test]
fn a_nodes_own_times_count_more_there_and_the_more_the_more_there_are() {
    let mut one = table(&[(package("a"), 10.0)]);
    let other = |seconds| table(&[(package("a"), seconds), (package("a"), seconds)]);
    let time = |one: &Table| {
        let sources = [source("one", 1.0, one.clone()), source("other", 1.0, other(100.0))];
        secs(Estimates::of(&sources).seconds(&package("a"), "one"))
    };
    let once = time(&one);
    assert!((10.0..40.0).contains(&once), "{once}");
    for _ in 0..7 {
        one.learn(&Outcome { package: package("a"), ending: built(10.0), at_s: 1 });
    }
    let often = time(&one);
    assert!((10.0..12.0).contains(&often), "{often}");
}

#[test]
fn the_spread_shrinks_with_times_that_agree_and_grows_with_those_that_do_not() {
    let spread = |times: &[f64]| {
        let builds: Vec<_> = times.iter().map(|seconds| (package("a"), *seconds)).collect();
        Estimates::of(&[source("one", 1.0, table(&builds))]).work(&package("a")).unwrap().spread
    };
    let (once, agreed) = (spread(&[10.0]), spread(&[10.0; 8]));
    let apart = spread(&[10.0, 100.0, 1.0, 30.0, 3.0, 200.0, 8.0, 12.0]);
    assert!(agreed < once && once < apart, "{agreed} {once} {apart}");
}

#[test]
fn what_nobody_has_built_is_reckoned_by_the_average_of_what_was_compiled() {
    let unseen = package("unseen");
    let few = Estimates::of(&[source("one", 1.0, table(&[(package("a"), 60.0)]))]);
    assert_eq!(few.likely(&unseen, Size::Ordinary), None, "one tells nothing of others");
    assert!(few.weight(&unseen, Size::Big) > few.weight(&unseen, Size::Ordinary));
    // Downloads and what is emulated do not count.
    let mut builds: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|name| (package(name), 100.0)).into_iter().collect();
    builds.extend(["s", "t", "u", "v"].map(|name| (package(name), 0.5)));
    builds.push((emulated("f"), 9000.0));
    let many = Estimates::of(&[source("one", 1.0, table(&builds))]);
    let likely = |size| many.likely(&unseen, size).unwrap().as_secs_f64();
    assert!((100.0..200.0).contains(&likely(Size::Ordinary)), "{}", likely(Size::Ordinary));
    assert!(likely(Size::Small) < 20.0 && likely(Size::Big) > 1000.0);
    assert!(alike(secs(many.likely(&package("s"), Size::Ordinary)), 0.5), "it is known");
}

#[test]
fn estimates_are_made_anew_only_when_a_node_has_learned() {
    let mut table = table(&[(package("a"), 1.0)]);
    let before = [source("one", 1.0, table.clone())];
    let estimates = Estimates::of(&before);
    assert!(estimates.is_of(&before));
    table.learn(&Outcome { package: package("a"), ending: built(1.0), at_s: 1 });
    assert!(!estimates.is_of(&[source("one", 1.0, table)]));
    assert!(!estimates.is_of(&[]));
}

#[test]
fn a_node_with_two_stores_is_one() {
    let table = table(&[(emulated("a"), 100.0)]);
    let nodes = vec!["ws".to_owned(), "ws-emulation".to_owned()];
    let estimates = Estimates::of(&[Source { nodes, hint: 3.0, table: Arc::new(table) }]);
    assert!(alike(estimates.speed("ws-emulation"), 3.0));
    assert!(alike(secs(estimates.seconds(&emulated("a"), "ws-emulation")), 100.0));
}
