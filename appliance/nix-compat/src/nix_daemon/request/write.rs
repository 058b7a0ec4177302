use std::collections::BTreeMap;

use super::Request;
use crate::{
    nix_daemon::{ProtocolVersion, Realisation},
    store_path::StorePath,
    wire::{
        write_bool, write_bytes, write_store_path_set, write_string_list, write_string_set,
        write_u64,
    },
};

impl Request {
    /// The request's bytes, without the framed stream that follows some.
    #[must_use]
    pub fn encode(&self, _version: ProtocolVersion) -> Vec<u8> {
        let mut out = Vec::new();
        write_u64(&mut out, self.operation().to_u64());
        self.write_shape(&mut out);
        out
    }

    fn write_shape(&self, out: &mut Vec<u8>) {
        match self {
            Self::SyncWithGc | Self::FindRoots | Self::QueryAllValidPaths | Self::OptimiseStore => {
            }
            Self::IsValidPath(path)
            | Self::QueryReferrers(path)
            | Self::EnsurePath(path)
            | Self::AddTempRoot(path)
            | Self::QueryDeriver(path)
            | Self::QuerySubstitutablePathInfo(path)
            | Self::QueryDerivationOutputs(path)
            | Self::QueryPathInfo(path)
            | Self::QueryDerivationOutputNames(path)
            | Self::QueryValidDerivers(path)
            | Self::NarFromPath(path)
            | Self::QueryDerivationOutputMap(path) => write_bytes(out, path.as_str()),
            Self::AddIndirectRoot(word)
            | Self::QueryPathFromHashPart(word)
            | Self::RegisterDrvOutput(Realisation(word))
            | Self::QueryRealisation(word)
            | Self::AddBuildLog(word) => write_bytes(out, word),
            Self::QueryMissing(targets) => write_string_list(out, targets),
            Self::QuerySubstitutablePaths(paths) => write_store_path_set(out, paths),
            Self::QuerySubstitutablePathInfos(addresses) => write_addresses(out, addresses),
            Self::QueryValidPaths { paths, substitute } => {
                write_store_path_set(out, paths);
                write_bool(out, *substitute);
            }
            Self::SetOptions(options) => options.write(out),
            Self::CollectGarbage(request) => request.write(out),
            Self::BuildPaths { targets, mode } | Self::BuildPathsWithResults { targets, mode } => {
                write_string_list(out, targets);
                write_u64(out, *mode as u64);
            }
            Self::BuildDerivation { drv_path, drv, mode } => {
                write_bytes(out, drv_path.as_str());
                drv.write(out);
                write_u64(out, *mode as u64);
            }
            Self::AddToStore { name, method, references, repair } => {
                write_bytes(out, name);
                write_bytes(out, method);
                write_store_path_set(out, references);
                write_bool(out, *repair);
            }
            Self::AddTextToStore { name, text, references } => {
                write_bytes(out, name);
                write_bytes(out, text);
                write_store_path_set(out, references);
            }
            Self::AddToStoreNar { info, repair, dont_check_sigs } => {
                info.write(out);
                write_flags(out, [*repair, *dont_check_sigs]);
            }
            Self::AddMultipleToStore { repair: first, dont_check_sigs: second }
            | Self::VerifyStore { check_contents: first, repair: second } => {
                write_flags(out, [*first, *second]);
            }
            Self::AddSignatures { path, signatures } => {
                write_bytes(out, path.as_str());
                write_string_set(out, signatures);
            }
            Self::AddPermRoot { path, link } => {
                write_bytes(out, path.as_str());
                write_bytes(out, link);
            }
        }
    }
}

fn write_flags(out: &mut Vec<u8>, flags: [bool; 2]) {
    flags.into_iter().for_each(|flag| write_bool(out, flag));
}

fn write_addresses(out: &mut Vec<u8>, addresses: &BTreeMap<StorePath, String>) {
    write_u64(out, addresses.len() as u64);
    for (path, address) in addresses {
        write_bytes(out, path.as_str());
        write_bytes(out, address);
    }
}
