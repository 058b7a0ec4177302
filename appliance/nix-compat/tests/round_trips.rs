//! What is written reads back the same and to its end; what is cut off, too long or not known is an
//! error.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod generate;

use generate::now;
use nix_compat::{
    derivation::Derivation,
    nix_daemon::{
        BuildResult, Missing, Operation, PathInfo, ProtocolVersion, Realisation, Request,
        StderrMessage, read_keyed_results, read_realisations, write_keyed_results,
        write_realisations,
    },
    nix_serve::{self, BuildFailure, BuildOptions, Command, CommandNumber, ServeVersion},
    wire::WireError,
};
use proptest::{collection::vec, option, prelude::*};

/// Reads `bytes` back: to the same value, to their end, and to a disconnect if they are cut short
/// anywhere.
fn check<T: PartialEq + std::fmt::Debug>(
    value: &T,
    bytes: &[u8],
    read: &impl AsyncFn(&mut &[u8]) -> Result<T, WireError>,
) {
    let mut rest = bytes;
    assert_eq!(&now(read(&mut rest)).unwrap(), value);
    assert!(rest.is_empty(), "{} bytes left", rest.len());
    for cut in 0..bytes.len() {
        let error = now(read(&mut &bytes[..cut])).unwrap_err();
        assert!(error.is_disconnect(), "cut at {cut}: {error}");
    }
    // A peer's length, count or number can be anything. No limit here is so high that this much
    // could be allocated, so it is enough that it comes to an end.
    for word in 0..bytes.len() / 8 {
        let mut huge = bytes.to_vec();
        huge[word * 8..][..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        let _ = now(read(&mut huge.as_slice()));
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests(request in generate::request(), version in generate::version()) {
        let bytes = request.encode(version);
        prop_assert_eq!(&bytes[..8], &request.operation().to_u64().to_le_bytes());
        check(&request, &bytes, &async |r| Request::read(r, version).await);
    }

    #[test]
    fn log_messages(message in generate::stderr_message()) {
        check(&message, &message.encode(), &async |r| StderrMessage::read(r).await);
    }

    #[test]
    fn path_infos(info in generate::path_info()) {
        let bytes = written(|out| info.write(out));
        check(&info, &bytes, &async |r| PathInfo::read(r).await);
    }

    #[test]
    fn replies_about_a_path(info in option::of(generate::path_info()), other in generate::store_path()) {
        let path = info.as_ref().map_or(other, |info| info.path.clone());
        let bytes = written(|out| PathInfo::write_reply(info.as_ref(), out));
        check(&info, &bytes, &async |r| PathInfo::read_reply(r, path.clone()).await);
    }

    #[test]
    fn build_results(result in generate::build_result(), version in generate::version()) {
        let mut carried = result.clone();
        if version < ProtocolVersion::V1_37 {
            (carried.cpu_user_us, carried.cpu_system_us) = (None, None);
        }
        let bytes = written(|out| result.write(out, version));
        check(&carried, &bytes, &async |r| BuildResult::read(r, version).await);
    }

    #[test]
    fn keyed_build_results(
        results in vec((generate::text(), generate::build_result()), 0..3),
    ) {
        let version = ProtocolVersion::MAX;
        let bytes = written(|out| write_keyed_results(out, &results, version));
        check(&results, &bytes, &async |r| read_keyed_results(r, version).await);
    }

    #[test]
    fn what_is_missing(missing in generate::missing()) {
        let bytes = written(|out| missing.write(out));
        check(&missing, &bytes, &async |r| Missing::read(r).await);
    }

    #[test]
    fn realisations(texts in generate::texts()) {
        let realisations: Vec<_> = texts.into_iter().map(Realisation).collect();
        let bytes = written(|out| write_realisations(out, &realisations));
        check(&realisations, &bytes, &async |r| read_realisations(r).await);
    }

    #[test]
    fn serve_commands(command in generate::command(), version in generate::serve_version()) {
        check(&command, &command.encode(version), &async |r| Command::read(r, version).await);
    }

    #[test]
    fn serve_path_infos(mut infos in vec(generate::path_info(), 0..3)) {
        for info in &mut infos {
            (info.registration_time_s, info.ultimate) = (0, false);
        }
        let bytes = written(|out| nix_serve::write_path_infos(out, &infos));
        check(&infos, &bytes, &async |r| nix_serve::read_path_infos(r).await);
    }

    #[test]
    fn serve_build_results(result in generate::build_result(), version in generate::serve_version()) {
        let mut carried = result.clone();
        (carried.cpu_user_us, carried.cpu_system_us) = (None, None);
        if version < ServeVersion::V2_6 {
            carried.built_outputs.clear();
        }
        let bytes = written(|out| nix_serve::write_build_result(out, &result, version));
        check(&carried, &bytes, &async |r| nix_serve::read_build_result(r, version).await);
    }

    #[test]
    fn derivation_files(drv in generate::derivation()) {
        let aterm = drv.to_aterm();
        prop_assert_eq!(&Derivation::parse(&aterm).unwrap(), &drv);
        for cut in 0..aterm.len() {
            let error = Derivation::parse(&aterm[..cut]).unwrap_err();
            prop_assert!(error.offset <= cut);
        }
    }

    #[test]
    fn anything_is_a_request_or_an_error(number in 0..64u64, bytes in vec(any::<u8>(), 0..200)) {
        let mut request = number.to_le_bytes().to_vec();
        request.extend(&bytes);
        let read = now(Request::read(&mut request.as_slice(), ProtocolVersion::MAX));
        if Operation::from_u64(number).is_err() {
            prop_assert!(matches!(read, Err(WireError::UnknownOperation(n)) if n == number));
        }
        let _ = now(Command::read(&mut request.as_slice(), ServeVersion::MAX));
        let _ = Derivation::parse(&bytes);
    }
}

#[test]
fn replies_of_serve_build_paths_read_back() {
    let failure = BuildFailure { exit_status: 100, message: b"no".to_vec() };
    for reply in [Ok(()), Err(failure)] {
        let bytes = written(|out| nix_serve::write_build_paths_reply(out, &reply));
        check(&reply, &bytes, &async |r| nix_serve::read_build_paths_reply(r).await);
    }
}

#[test]
fn serve_clients_before_2_7_do_not_send_keep_failed() {
    let options = BuildOptions { keep_failed: true, ..BuildOptions::default() };
    let command = Command::BuildPaths { targets: Vec::new(), options };
    let older = command.encode(ServeVersion::V2_6);
    assert_eq!(command.encode(ServeVersion::V2_7).len(), older.len() + 8);
    let read = now(Command::read(&mut older.as_slice(), ServeVersion::V2_6)).unwrap();
    assert_eq!(read, Command::BuildPaths { targets: Vec::new(), options: BuildOptions::default() });
}

#[test]
fn operations_have_the_numbers_of_the_protocol() {
    let numbers: Vec<u64> = Operation::ALL.iter().map(|operation| operation.to_u64()).collect();
    let expected: Vec<u64> =
        [1].into_iter().chain(6..=14).chain(18..=23).chain([26]).chain(28..=47).collect();
    assert_eq!(numbers, expected);
    let framed = Operation::ALL.into_iter().filter(|operation| operation.has_framed_payload());
    assert_eq!(framed.map(Operation::to_u64).collect::<Vec<_>>(), [7, 39, 44, 45]);
    let pins = [
        (Operation::AddToStore, 7),
        (Operation::SetOptions, 19),
        (Operation::QueryPathInfo, 26),
        (Operation::QueryValidPaths, 31),
        (Operation::BuildDerivation, 36),
        (Operation::NarFromPath, 38),
        (Operation::AddToStoreNar, 39),
        (Operation::QueryMissing, 40),
        (Operation::AddMultipleToStore, 44),
        (Operation::BuildPathsWithResults, 46),
    ];
    for (operation, number) in pins {
        assert_eq!(operation.to_u64(), number);
        assert_eq!(Operation::from_u64(number).unwrap(), operation);
    }
}

#[test]
fn serve_commands_that_nix_dropped_are_refused_as_such() {
    for number in [4, 5] {
        assert!(matches!(CommandNumber::from_u64(number), Err(WireError::Unsupported { .. })));
    }
    assert!(matches!(CommandNumber::from_u64(10), Err(WireError::UnknownOperation(10))));
}

#[test]
fn a_peer_that_hangs_up_between_requests_is_no_fault() {
    let read = now(Request::read(&mut [].as_slice(), ProtocolVersion::MAX));
    assert!(matches!(read, Err(WireError::HungUp)));
    let read = now(Request::read(&mut [1].as_slice(), ProtocolVersion::MAX));
    assert!(matches!(read, Err(WireError::Truncated { .. })));
}
