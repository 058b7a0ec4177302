//! The form in which both protocols carry a derivation.

use std::collections::BTreeMap;

use tokio::io::AsyncRead;

use super::{BasicDerivation, DerivationOutput};
use crate::wire::{
    MAX_TEXT, MAX_WORD, WireError, read_bytes, read_bytes_list, read_bytes_map, read_count,
    read_optional_store_path, read_store_path_set, read_string, write_bytes, write_bytes_list,
    write_bytes_map, write_optional_store_path, write_store_path_set, write_u64,
};

impl DerivationOutput {
    async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        Ok(Self {
            path: read_optional_store_path(r, "the path of an output").await?,
            hash_algo: read_string(r, "the hash algorithm of an output", MAX_WORD).await?,
            hash: read_string(r, "the hash of an output", MAX_WORD).await?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_optional_store_path(out, self.path.as_ref());
        write_bytes(out, &self.hash_algo);
        write_bytes(out, &self.hash);
    }
}

impl BasicDerivation {
    /// Reads a derivation.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn read<R: AsyncRead + Unpin>(r: &mut R) -> Result<Self, WireError> {
        let mut outputs = BTreeMap::new();
        for _ in 0..read_count(r, "the outputs of a derivation").await? {
            let name = read_string(r, "the name of an output", MAX_WORD).await?;
            outputs.insert(name, DerivationOutput::read(r).await?);
        }
        Ok(Self {
            outputs,
            input_srcs: read_store_path_set(r, "the inputs of a derivation").await?,
            platform: read_string(r, "the system of a derivation", MAX_WORD).await?,
            builder: read_bytes(r, "the builder of a derivation", MAX_WORD).await?,
            args: read_bytes_list(r, "the arguments of a builder", MAX_TEXT).await?,
            env: read_bytes_map(r, "the environment of a builder", MAX_TEXT).await?,
        })
    }

    /// Appends the derivation.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_u64(out, self.outputs.len() as u64);
        for (name, output) in &self.outputs {
            write_bytes(out, name);
            output.write(out);
        }
        write_store_path_set(out, &self.input_srcs);
        write_bytes(out, &self.platform);
        write_bytes(out, &self.builder);
        write_bytes_list(out, &self.args);
        write_bytes_map(out, &self.env);
    }
}
