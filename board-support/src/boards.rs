//! The boards that have an image of their own, from `boards.json`, which the images' Nix code reads
//! too.

/// A board that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Where its kernel comes from: `mainline`, the SoC's `vendor`, or `raspberry-pi`.
    pub kernel: &'static str,
    /// How it finds its kernel, which is also where its image has boot loaders: `rockchip`, `uefi`
    /// and so on.
    pub boot: &'static str,
    /// Its serial console as the kernel's `console=` takes it: device, then baud rate if it has
    /// one.
    pub console: &'static str,
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
            assert!(["mainline", "vendor", "raspberry-pi"].contains(&board.kernel), "{}", board.id);
            assert!(board.console.starts_with("tty"), "{}", board.id);
            for name in board.compatible.iter().chain(&board.soc) {
                assert!(Compatible::new(name).is_ok(), "{name}");
            }
        }
    }
}
