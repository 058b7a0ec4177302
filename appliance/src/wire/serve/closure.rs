//! Everything that paths refer to.

use std::collections::BTreeSet;

use nix_compat::store_path::StorePath;

use super::Serve;
use crate::{
    model::Builds,
    wire::{session::SessionError, targets::read_drv},
};

impl<B: Builds> Serve<'_, B> {
    /// The valid ones among `paths`, and all that they refer to, directly or not; with
    /// `include_outputs`, the outputs of derivations among them, too.
    pub(super) async fn closure(
        &mut self,
        paths: BTreeSet<StorePath>,
        include_outputs: bool,
    ) -> Result<BTreeSet<StorePath>, SessionError> {
        let mut closure = BTreeSet::new();
        let mut next = paths;
        while !next.is_empty() {
            let infos = self.path_infos(std::mem::take(&mut next)).await?;
            closure.extend(infos.iter().map(|info| info.path.clone()));
            for info in infos {
                if include_outputs && info.path.is_derivation() {
                    next.extend(self.outputs_of(&info.path).await);
                }
                next.extend(info.references);
            }
            next.retain(|path| !closure.contains(path));
        }
        Ok(closure)
    }

    /// The outputs of a derivation whose paths are known in advance; they need not be valid.
    async fn outputs_of(&self, drv_path: &StorePath) -> Vec<StorePath> {
        let file = self.nix.store_dir.join(drv_path.base_name());
        let drv = tokio::task::spawn_blocking(move || read_drv(&file)).await;
        let Ok(Ok(drv)) = drv else { return Vec::new() };
        drv.outputs.into_values().filter_map(|output| output.path).collect()
    }
}
