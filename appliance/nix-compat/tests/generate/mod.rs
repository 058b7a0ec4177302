//! Strategies for everything that goes over the wire.
#![allow(dead_code, reason = "no test uses all of them")]

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    task::{Context, Poll, Waker},
};

use nix_compat::{
    derivation::{BasicDerivation, Derivation, DerivationOutput},
    nix_daemon::{
        BuildMode, BuildResult, BuildStatus, ClientOptions, CollectGarbage, Field, Missing,
        NixError, PathInfo, ProtocolVersion, Realisation, Request, StderrMessage,
    },
    nix_serve::{BuildOptions, Command, ServeVersion},
    store_path::StorePath,
};
use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};

/// The result of a future that has all it needs in memory.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future that reads from memory waits for something"),
    }
}

pub(crate) fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop::sample::select(vec![
        ProtocolVersion::V1_35,
        ProtocolVersion::V1_37,
        ProtocolVersion::V1_38,
    ])
}

pub(crate) fn serve_version() -> impl Strategy<Value = ServeVersion> {
    prop::sample::select(vec![ServeVersion::V2_5, ServeVersion::V2_6, ServeVersion::V2_7])
}

pub(crate) fn store_path() -> impl Strategy<Value = StorePath> {
    ("[0-9a-df-np-sv-z]{32}", "[a-zA-Z0-9+_?=][a-zA-Z0-9+._?=-]{0,20}")
        .prop_map(|(hash, name)| StorePath::from_base_name(&format!("{hash}-{name}")).unwrap())
}

pub(crate) fn paths() -> impl Strategy<Value = BTreeSet<StorePath>> {
    btree_set(store_path(), 0..4)
}

pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

pub(crate) fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

pub(crate) fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..4)
}

pub(crate) fn text_set() -> impl Strategy<Value = BTreeSet<String>> {
    btree_set(text(), 0..4)
}

pub(crate) fn mode() -> impl Strategy<Value = BuildMode> {
    prop::sample::select(vec![BuildMode::Normal, BuildMode::Repair, BuildMode::Check])
}

fn outputs() -> impl Strategy<Value = BTreeMap<String, DerivationOutput>> {
    let output = (option::of(store_path()), text(), text())
        .prop_map(|(path, hash_algo, hash)| DerivationOutput { path, hash_algo, hash });
    btree_map(text(), output, 0..3)
}

pub(crate) fn basic_derivation() -> impl Strategy<Value = BasicDerivation> {
    let env = btree_map(bytes(), bytes(), 0..3);
    (outputs(), paths(), text(), bytes(), vec(bytes(), 0..3), env).prop_map(
        |(outputs, input_srcs, platform, builder, args, env)| BasicDerivation {
            outputs,
            input_srcs,
            platform,
            builder,
            args,
            env,
        },
    )
}

pub(crate) fn derivation() -> impl Strategy<Value = Derivation> {
    (basic_derivation(), btree_map(store_path(), text_set(), 0..3)).prop_map(
        |(basic, input_drvs)| Derivation {
            outputs: basic.outputs,
            input_drvs,
            input_srcs: basic.input_srcs,
            platform: basic.platform,
            builder: basic.builder,
            args: basic.args,
            env: basic.env,
        },
    )
}

pub(crate) fn path_info() -> impl Strategy<Value = PathInfo> {
    let numbers = (any::<u64>(), any::<u64>(), any::<bool>());
    let names = (option::of(store_path()), "[0-9a-f]{64}", paths());
    (store_path(), names, numbers, text_set(), text()).prop_map(
        |(path, (deriver, nar_hash, references), numbers, signatures, ca)| PathInfo {
            path,
            deriver,
            nar_hash,
            references,
            registration_time_s: numbers.0,
            nar_size: numbers.1,
            ultimate: numbers.2,
            signatures,
            ca,
        },
    )
}

pub(crate) fn build_result() -> impl Strategy<Value = BuildResult> {
    let times = (any::<u64>(), any::<bool>(), any::<u64>(), any::<u64>());
    let cpu = (option::of(any::<i64>()), option::of(any::<i64>()));
    let realisation = text().prop_map(Realisation);
    let status = prop::sample::select(BuildStatus::ALL.to_vec());
    (status, bytes(), times, cpu, btree_map(text(), realisation, 0..3)).prop_map(
        |(status, error_msg, times, cpu, built_outputs)| BuildResult {
            status,
            error_msg,
            times_built: times.0,
            is_non_deterministic: times.1,
            start_time_s: times.2,
            stop_time_s: times.3,
            cpu_user_us: cpu.0,
            cpu_system_us: cpu.1,
            built_outputs,
        },
    )
}

pub(crate) fn missing() -> impl Strategy<Value = Missing> {
    (paths(), paths(), paths(), any::<u64>(), any::<u64>()).prop_map(
        |(will_build, will_substitute, unknown, download_size, nar_size)| Missing {
            will_build,
            will_substitute,
            unknown,
            download_size,
            nar_size,
        },
    )
}

pub(crate) fn stderr_message() -> impl Strategy<Value = StderrMessage> {
    let field = prop_oneof![any::<u64>().prop_map(Field::Int), bytes().prop_map(Field::String)];
    let fields = vec(field, 0..4).boxed();
    let ids = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    prop_oneof![
        Just(StderrMessage::Last),
        bytes().prop_map(StderrMessage::Next),
        any::<u64>().prop_map(StderrMessage::StopActivity),
        (any::<u64>(), bytes(), vec(bytes(), 0..3)).prop_map(|(level, message, traces)| {
            StderrMessage::Error(NixError { level, message, traces })
        }),
        (any::<u64>(), any::<u64>(), fields.clone())
            .prop_map(|(id, kind, fields)| StderrMessage::Result { id, kind, fields }),
        (ids, bytes(), fields).prop_map(|((id, level, kind, parent), text, fields)| {
            StderrMessage::StartActivity { id, level, kind, text, fields, parent }
        }),
    ]
}

fn client_options() -> impl Strategy<Value = ClientOptions> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let numbers = prop::array::uniform8(any::<u64>());
    (flags, numbers, btree_map(text(), text(), 0..3)).prop_map(|(flags, n, overrides)| {
        ClientOptions {
            keep_failed: flags.0,
            keep_going: flags.1,
            try_fallback: flags.2,
            verbosity: n[0],
            max_build_jobs: n[1],
            max_silent_time_s: n[2],
            use_build_hook: n[3],
            build_verbosity: n[4],
            log_type: n[5],
            print_build_trace: n[6],
            build_cores: n[7],
            use_substitutes: flags.3,
            overrides,
        }
    })
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![plain_request(), path_request(), build_request(), addition_request()]
}

fn plain_request() -> impl Strategy<Value = Request> {
    let garbage = (0..4u64, paths(), any::<bool>(), any::<u64>());
    prop_oneof![
        Just(Request::SyncWithGc),
        Just(Request::FindRoots),
        Just(Request::QueryAllValidPaths),
        Just(Request::OptimiseStore),
        text().prop_map(Request::AddIndirectRoot),
        text().prop_map(Request::QueryPathFromHashPart),
        text().prop_map(Request::QueryRealisation),
        texts().prop_map(Request::QueryMissing),
        paths().prop_map(Request::QuerySubstitutablePaths),
        btree_map(store_path(), text(), 0..3).prop_map(Request::QuerySubstitutablePathInfos),
        (paths(), any::<bool>())
            .prop_map(|(paths, substitute)| Request::QueryValidPaths { paths, substitute }),
        any::<(bool, bool)>()
            .prop_map(|(check_contents, repair)| Request::VerifyStore { check_contents, repair }),
        client_options().prop_map(|options| Request::SetOptions(Box::new(options))),
        garbage.prop_map(|(action, paths, ignore_liveness, max_freed)| {
            Request::CollectGarbage(CollectGarbage { action, paths, ignore_liveness, max_freed })
        }),
    ]
}

fn path_request() -> impl Strategy<Value = Request> {
    let requests = [
        Request::IsValidPath,
        Request::QueryReferrers,
        Request::EnsurePath,
        Request::AddTempRoot,
        Request::QueryDeriver,
        Request::QuerySubstitutablePathInfo,
        Request::QueryDerivationOutputs,
        Request::QueryPathInfo,
        Request::QueryDerivationOutputNames,
        Request::QueryValidDerivers,
        Request::NarFromPath,
        Request::QueryDerivationOutputMap,
    ];
    (0..requests.len(), store_path()).prop_map(move |(n, path)| requests[n](path))
}

fn build_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (texts(), mode()).prop_map(|(targets, mode)| Request::BuildPaths { targets, mode }),
        (texts(), mode())
            .prop_map(|(targets, mode)| Request::BuildPathsWithResults { targets, mode }),
        (store_path(), basic_derivation(), mode()).prop_map(|(drv_path, drv, mode)| {
            Request::BuildDerivation { drv_path, drv: Box::new(drv), mode }
        }),
    ]
}

fn addition_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (text(), text(), paths(), any::<bool>()).prop_map(|(name, method, references, repair)| {
            Request::AddToStore { name, method, references, repair }
        }),
        (text(), bytes(), paths()).prop_map(|(name, text, references)| Request::AddTextToStore {
            name,
            text,
            references
        }),
        (store_path(), text_set())
            .prop_map(|(path, signatures)| Request::AddSignatures { path, signatures }),
        (path_info(), any::<bool>(), any::<bool>()).prop_map(|(info, repair, dont_check_sigs)| {
            Request::AddToStoreNar { info: Box::new(info), repair, dont_check_sigs }
        }),
        text().prop_map(|json| Request::RegisterDrvOutput(Realisation(json))),
        any::<(bool, bool)>().prop_map(|(repair, dont_check_sigs)| {
            Request::AddMultipleToStore { repair, dont_check_sigs }
        }),
        text().prop_map(Request::AddBuildLog),
        (store_path(), text()).prop_map(|(path, link)| Request::AddPermRoot { path, link }),
    ]
}

/// Options that every version carries completely.
fn build_options() -> impl Strategy<Value = BuildOptions> {
    (any::<[u64; 4]>(), any::<bool>()).prop_map(|(numbers, enforce_determinism)| BuildOptions {
        max_silent_time_s: numbers[0],
        timeout_s: numbers[1],
        max_log_size: numbers[2],
        repeats: numbers[3],
        enforce_determinism,
        keep_failed: false,
    })
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (any::<bool>(), any::<bool>(), paths()).prop_map(|(lock, substitute, paths)| {
            Command::QueryValidPaths { lock, substitute, paths }
        }),
        paths().prop_map(Command::QueryPathInfos),
        store_path().prop_map(Command::DumpStorePath),
        (texts(), build_options())
            .prop_map(|(targets, options)| Command::BuildPaths { targets, options }),
        (any::<bool>(), paths())
            .prop_map(|(include_outputs, paths)| Command::QueryClosure { include_outputs, paths }),
        (store_path(), basic_derivation(), build_options()).prop_map(|(drv_path, drv, options)| {
            Command::BuildDerivation { drv_path, drv: Box::new(drv), options }
        }),
        path_info().prop_map(|info| Command::AddToStoreNar(Box::new(info))),
    ]
}
