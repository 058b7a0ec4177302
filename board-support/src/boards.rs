//! The boards that are known, from the files of `boards/`, which the images' Nix code reads too.
//! `boards.schema.json` says what may be in them.

use serde::Serialize;

/// A board that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Board {
    /// Its name in file names and attribute paths: `[a-z0-9-]`.
    pub id: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// The `compatible` strings of the device tree's root that are this board's alone; never those
    /// of its SoC, which other boards have, too.
    pub compatible: &'static [&'static str],
    /// The `compatible` of its SoC; none on virtual machines.
    pub soc: Option<&'static str>,
    /// Nix's word for what its CPU executes.
    pub system: &'static str,
    /// Its serial console as the kernel's `console=` takes it: device, then baud rate if it has
    /// one.
    pub console: &'static str,
    /// The module of nixos-hardware that its configuration starts from.
    pub nixos_hardware: Option<&'static str>,
    /// Packages of nixpkgs that are not free, and without which it does not boot.
    pub unfree: &'static [&'static str],
    /// What somebody who builds on it or flashes it has to know; words of the schema.
    pub quirks: &'static [&'static str],
    /// What to do with the board before it is powered on with a new medium.
    pub first_boot: Option<&'static str>,
    /// Why there is no image for it: a clause that begins in lower case. None if there is one.
    pub missing: Option<&'static str>,
    /// What it runs.
    pub kernel: Kernel,
    /// How it finds that.
    pub boot: Boot,
}

/// The kernel of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Where it comes from: `mainline`, the SoC's `vendor`, or `raspberry-pi`.
    pub source: &'static str,
    /// Its device tree among the kernel's; none if the boot loader chooses.
    pub device_tree: Option<&'static str>,
    /// The modules without which the root file system cannot be reached.
    pub initrd_modules: &'static [&'static str],
}

/// How a board finds its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// What its medium looks like, and where boot loaders are on it: `rockchip`, `uefi` and so on.
    pub layout: &'static str,
    /// Its U-Boot in nixpkgs.
    pub u_boot: Option<&'static str>,
}

/// All of them.
pub const BOARDS: &[Board] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// The board with the first of these `compatible` strings that any board has. Device trees list
/// them from the most specific to the most general (Devicetree Specification 0.4, section 2.3.1).
/// `model` is no key: the kernel's developers change it.
#[must_use]
pub fn find<'a>(compatible: impl IntoIterator<Item = &'a str>) -> Option<&'static Board> {
    compatible
        .into_iter()
        .find_map(|name| BOARDS.iter().find(|board| board.compatible.contains(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compatible, List, kind::System};

    #[test]
    fn the_first_entry_that_is_known_decides() {
        let id = |list: &[&str]| find(list.iter().copied()).map(|board| board.id);
        assert_eq!(id(&["radxa,rock-5b", "rockchip,rk3588"]), Some("rock-5b"));
        assert_eq!(id(&["x,y", "pine64,star64", "radxa,rock-5b"]), Some("star64"));
        assert_eq!(id(&["beagle,beaglev-ahead", "thead,th1520"]), None);
        assert_eq!(id(&[]), None);
    }

    #[test]
    fn the_table_is_made_of_valid_words() {
        for board in BOARDS {
            let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            assert!(board.id.bytes().all(plain), "{}", board.id);
            assert_eq!(List::<System, 31>::parse(board.system).unwrap().as_str(), board.system);
            for name in board.compatible.iter().chain(&board.soc) {
                assert!(Compatible::new(name).is_ok(), "{name}");
            }
        }
    }
}
