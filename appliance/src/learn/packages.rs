//! A map by package that is looked up without copying any word of it.

use std::collections::HashMap;

use super::{Package, PackageKey};
use crate::model::How;

type ByName<T> = HashMap<Box<str>, T>;

/// Something for each package.
#[derive(Clone, Debug)]
pub(super) struct Packages<T> {
    native: HashMap<Box<str>, ByName<T>>,
    emulated: HashMap<Box<str>, ByName<T>>,
    len: usize,
}

impl<T> Default for Packages<T> {
    fn default() -> Self {
        Self { native: HashMap::new(), emulated: HashMap::new(), len: 0 }
    }
}

impl<T> Packages<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, package: &Package<'_>) -> Option<&T> {
        let by_system = match package.how {
            How::Native => &self.native,
            How::Emulated => &self.emulated,
        };
        by_system.get(package.system)?.get(package.name)
    }

    /// What there is for a package; `new` if there is nothing yet.
    pub(super) fn get_or_insert(
        &mut self,
        package: &Package<'_>,
        new: impl FnOnce() -> T,
    ) -> &mut T {
        let by_system = match package.how {
            How::Native => &mut self.native,
            How::Emulated => &mut self.emulated,
        };
        let by_name = by_system.entry(package.system.into()).or_default();
        let len = &mut self.len;
        by_name.entry(package.name.into()).or_insert_with(|| {
            *len += 1;
            new()
        })
    }

    /// Everything, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Package<'_>, &T)> {
        let kinds = [(How::Native, &self.native), (How::Emulated, &self.emulated)];
        kinds.into_iter().flat_map(|(how, by_system)| {
            by_system.iter().flat_map(move |(system, by_name)| {
                by_name.iter().map(move |(name, it)| (Package { name, system, how }, it))
            })
        })
    }

    /// Keeps what `keep` says; returns the packages of the rest.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> Vec<PackageKey> {
        let mut gone = Vec::new();
        for (how, by_system) in
            [(How::Native, &mut self.native), (How::Emulated, &mut self.emulated)]
        {
            for (system, by_name) in by_system.iter_mut() {
                by_name.retain(|name, it| {
                    let kept = keep(it);
                    if !kept {
                        gone.push(Package { name, system, how }.into());
                    }
                    kept
                });
            }
            by_system.retain(|_, by_name| !by_name.is_empty());
        }
        self.len -= gone.len();
        gone
    }
}
