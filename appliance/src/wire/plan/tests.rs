use nix_compat::{
    derivation::DerivationOutput,
    nix_daemon::{BuildStatus, Realisation, Request},
};

use super::*;
use crate::{
    model::Payload,
    wire::testing::{FakeNix, drv, path, result, soon},
};

const HERE: &str = "aarch64-linux";
const ELSEWHERE: &str = "riscv64-linux";

fn drv_path(name: &str) -> StorePath {
    path(&format!("{name}.drv"))
}

fn node(foreign: bool, needs: &[&str]) -> Node {
    let needs = needs.iter().map(|name| (drv_path(name), ["out".to_owned()].into())).collect();
    Node { needs, foreign: foreign.then(|| Box::new(drv("x"))) }
}

fn needed(graph: &[(&str, bool, &[&str])]) -> Needed {
    let graph = graph.iter().map(|(name, foreign, needs)| (drv_path(name), node(*foreign, needs)));
    Needed { graph: graph.collect(), substitutes: BTreeSet::new() }
}

fn names<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> Vec<&'a str> {
    paths.into_iter().map(|path| path.name().trim_end_matches(".drv")).collect()
}

#[test]
fn what_is_foreign_and_what_it_needs_are_jobs_of_their_own() {
    let needed = needed(&[
        ("top", false, &["lib", "far"]),
        ("lib", false, &["part"]),
        ("part", false, &[]),
        ("far", true, &["tool", "farther", "there-already"]),
        ("farther", true, &[]),
        ("tool", false, &["part", "farther"]),
    ]);
    let stops = needed.stops();
    assert_eq!(names(stops.keys()), ["far", "farther", "tool"]);
    assert_eq!(stops[&drv_path("tool")], ["out".to_owned()].into());
    let reach = |name| names(needed.reach(&drv_path(name), &stops));
    assert_eq!(reach("top"), ["far"], "what far needs, far waits for");
    assert_eq!(reach("far"), ["farther", "tool"]);
    assert_eq!(reach("tool"), ["farther"]);
    assert_eq!(reach("lib"), [""; 0]);
}

#[test]
fn what_lies_behind_native_derivations_is_reached_and_circles_end() {
    let needed = needed(&[
        ("top", false, &["a"]),
        ("a", false, &["b"]),
        ("b", false, &["a", "far"]),
        ("far", true, &[]),
    ]);
    let stops = needed.stops();
    assert_eq!(names(needed.reach(&drv_path("top"), &stops)), ["far"]);
}

/// A store with `top`, which is native, its input `far`, which is not, and `source`, which `far`
/// needs.
fn store(nix: &FakeNix) {
    let add = |name: &str, platform: &str, needs: &[&str]| {
        let (path, hash) = (Some(path(name)), String::new());
        let output = DerivationOutput { path, hash_algo: String::new(), hash };
        nix.write_drv(
            name,
            &Derivation {
                outputs: [("out".to_owned(), output)].into(),
                input_drvs: needs
                    .iter()
                    .map(|name| (drv_path(name), ["out".to_owned()].into()))
                    .collect(),
                input_srcs: [].into(),
                platform: platform.to_owned(),
                builder: b"/bin/sh".to_vec(),
                args: Vec::new(),
                env: [].into(),
            },
        );
    };
    add("top", HERE, &["far"]);
    add("far", ELSEWHERE, &["source"]);
    add("source", HERE, &[]);
}

async fn plan(nix: &FakeNix, missing: Missing, targets: &[String]) -> Plan {
    let mut local = nix.local();
    local.native = std::sync::Arc::new([HERE.to_owned()].into());
    let client = Client { label: "somebody".to_owned() };
    let answer = async {
        let mut daemon = nix.accept().await;
        assert_eq!(daemon.request().await, Request::QueryMissing(targets.to_vec()));
        let mut reply = Vec::new();
        missing.write(&mut reply);
        daemon.reply(&reply).await;
    };
    let made = Plan::make(&local, targets.to_vec(), Mode::Normal, &client);
    soon(async { tokio::join!(made, answer) }).await.0
}

fn missing(will_build: &[&str], will_substitute: &[&str]) -> Missing {
    Missing {
        will_build: will_build.iter().map(|name| drv_path(name)).collect(),
        will_substitute: will_substitute.iter().map(|name| path(name)).collect(),
        ..Missing::default()
    }
}

#[tokio::test]
async fn a_mixed_closure_becomes_steps_and_fetches_its_inputs_first() {
    let nix = FakeNix::new();
    store(&nix);
    let target = format!("{}!out", drv_path("top"));
    let missing = missing(&["top", "far"], &["source", "unrelated"]);
    let plan = plan(&nix, missing, std::slice::from_ref(&target)).await;
    assert_eq!(plan.others, [path("source").to_string()]);
    let [far, top] = &plan.steps[..] else { panic!("{plan:?}") };
    let Payload::Derivation(sent) = &far.order.submission.payload else { panic!("{far:?}") };
    assert_eq!(sent.input_srcs, [path("source")].into());
    assert_eq!((far.wanted, far.waits_for.len()), (false, 0));
    assert_eq!(top.order.submission.payload, Payload::Target(target.clone()));
    assert_eq!((top.wanted, &top.waits_for), (true, &[0].into()));
    assert_eq!((plan.ordered[0].step, &plan.ordered[0].target), (1, &target));
}

#[tokio::test]
async fn a_native_closure_is_one_job() {
    let nix = FakeNix::new();
    store(&nix);
    let target = format!("{}!*", drv_path("top"));
    let plan = plan(&nix, missing(&["top", "source"], &[]), &[target]).await;
    assert_eq!((plan.steps.len(), plan.others.len()), (1, 0));
    assert!(matches!(plan.steps[0].order.submission.payload, Payload::Target(_)));
}

#[tokio::test]
async fn a_foreign_target_is_a_job_unless_it_is_there() {
    let nix = FakeNix::new();
    store(&nix);
    let targets = [format!("{}!out", drv_path("far"))];
    let to_build = plan(&nix, missing(&["far"], &[]), &targets).await;
    assert!(matches!(to_build.steps[0].order.submission.payload, Payload::Derivation(_)));
    assert!(to_build.steps[0].wanted && to_build.others.is_empty());
    let there = plan(&nix, missing(&[], &[]), &targets).await;
    assert!(there.steps.is_empty() && there.ordered.is_empty());
    assert_eq!(there.others, targets);
}

#[test]
fn a_target_has_its_own_outputs_of_the_result() {
    let mut built = result(BuildStatus::Built);
    for name in ["out", "dev"] {
        built.built_outputs.insert(format!("sha256:0!{name}"), Realisation(String::new()));
    }
    let outputs = |words: &str| {
        let target = format!("{}!{words}", drv_path("x"));
        let (_, result) = Ordered { target, step: 0 }.answer(&[built.clone()]).unwrap();
        result.built_outputs.len()
    };
    assert_eq!((outputs("dev"), outputs("*"), outputs("dev,out")), (1, 2, 2));
}
