//! The order to run a system: whoever gives it is root on the board, so only the fleet's key does.

use nix_compat::store_path::{StorePath, StorePathError};
use serde::{Deserialize, Serialize};
use ssh_key::{PrivateKey, PublicKey};

use super::{
    TrustError,
    signature::{MAX_SIGNATURES, is_signed, sign},
};

/// The longest order that is read, in bytes: an id, a store path, a number.
const MAX_BYTES: usize = 2048;

/// Keeps these signatures apart from others made with the same key.
const NAMESPACE: &str = "roost-update@roost";
const VERSION: u32 = 1;

/// An order to a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The version of this format.
    version: u32,
    /// The board's id.
    pub board: String,
    /// The system: a store path with `bin/switch-to-configuration`.
    pub system: StorePath,
    /// Counts up: a board takes each number once, and none below one that it has taken.
    pub number: u64,
    /// Whether builds that run are not waited for.
    pub now: bool,
}

/// Why an order is not followed.
#[derive(Debug, thiserror::Error)]
pub enum BadOrder {
    /// It is no order of this version.
    #[error("an order to update makes no sense: {0}")]
    Format(String),
    /// Nobody that is trusted here signed it.
    #[error(
        "an order to update is not signed by the fleet's key: only the machine that holds it updates boards"
    )]
    Signature,
    /// It is for somebody else.
    #[error("an order to update is for the board {ordered}, and this is {own}")]
    OtherBoard {
        /// The id in the order.
        ordered: String,
        /// The id of this node.
        own: String,
    },
    /// The system's path is none.
    #[error(transparent)]
    Path(#[from] StorePathError),
}

impl Order {
    /// An order to run `system` on a board.
    ///
    /// # Errors
    /// [`BadOrder::Path`].
    pub fn new(board: &str, system: &str, number: u64, now: bool) -> Result<Self, BadOrder> {
        let system = StorePath::parse(system)?;
        Ok(Self { version: VERSION, board: board.to_owned(), system, number, now })
    }
}

/// An order and who vouches for it. Whoever carries it need not be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedOrder {
    /// An [`Order`], as the JSON text that was signed.
    order: String,
    /// Signatures, armoured (OpenSSH's PROTOCOL.sshsig).
    signatures: Vec<String>,
}

impl SignedOrder {
    pub(super) fn new(order: &Order, keys: &[&PrivateKey]) -> Result<Self, TrustError> {
        let text =
            serde_json::to_string(order).map_err(|error| BadOrder::Format(error.to_string()))?;
        let signatures =
            sign(NAMESPACE, &text, keys).map_err(TrustError::key("sign an order to update"))?;
        Ok(Self { order: text, signatures })
    }

    /// The order, if one of `authorities` has signed it for the board `own`. Whether its number was
    /// taken before is for whoever keeps the numbers.
    ///
    /// # Errors
    /// [`BadOrder`].
    pub fn verified(&self, authorities: &[PublicKey], own: &str) -> Result<Order, BadOrder> {
        if self.order.len() > MAX_BYTES || self.signatures.len() > MAX_SIGNATURES {
            return Err(BadOrder::Format("it is too long".to_owned()));
        }
        if !is_signed(NAMESPACE, &self.order, &self.signatures, authorities) {
            return Err(BadOrder::Signature);
        }
        let order: Order = serde_json::from_str(&self.order)
            .map_err(|error| BadOrder::Format(error.to_string()))?;
        if order.version != VERSION {
            let version = order.version;
            return Err(BadOrder::Format(format!("version {version} instead of {VERSION}")));
        }
        if order.board != own {
            return Err(BadOrder::OtherBoard { ordered: order.board, own: own.to_owned() });
        }
        Ok(order)
    }
}
