//! What a keeper starts from: what whoever admitted it said.

use minicbor::{Decode, Encode};

use super::{Listing, Roll, Tree};
use crate::codec::{self, DecodeError};
use crate::event::keys::Listed;
use crate::id::{ChangeHash, CommunityId, DeviceId};

/// Longest anchor, in bytes: it travels in the answer to a request to join.
pub const ANCHOR_BYTES_MAX: usize = 384 * 1024;

/// Who takes part, by the word of the member who admitted a keeper: the one
/// thing that it takes on trust.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeeperAnchor {
    /// In which community.
    #[n(0)]
    community: CommunityId,
    /// Who takes part.
    #[n(1)]
    entries: Vec<Listed>,
    /// The first list that members go by, if there is one: its author may be
    /// gone.
    #[n(2)]
    first: Option<ChangeHash>,
}

/// Bytes that are no anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Not in the form of one.
    #[error("what the keeper starts from: {0}")]
    Decode(#[from] DecodeError),
    /// Names a device twice, or nobody who may list.
    #[error("what the keeper starts from names nobody who could tell it more")]
    Listing,
}

impl KeeperAnchor {
    /// An anchor that says this. Where it is too long, it says less: first
    /// former devices are left away, then all but those that may list.
    pub fn new(community: CommunityId, mut listing: Listing, first: Option<ChangeHash>) -> Self {
        let mut anchor = Self { community, entries: listing.entries().collect(), first };
        let shorter: [fn(&mut Listing); 2] = [|of| of.former.clear(), |of| of.writers.clear()];
        for shorten in shorter {
            if codec::encode(&anchor).len() > ANCHOR_BYTES_MAX {
                shorten(&mut listing);
                anchor.entries = listing.entries().collect();
            }
        }
        anchor
    }

    /// The community.
    pub const fn community(&self) -> CommunityId {
        self.community
    }

    /// The bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an anchor of any origin.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AnchorError> {
        let anchor: Self = codec::decode(bytes, ANCHOR_BYTES_MAX)?;
        anchor.listing().map(|_| anchor.clone())
    }

    /// Who takes part.
    ///
    /// # Errors
    /// Where it is not well-formed: [`AnchorError::Listing`].
    pub fn listing(&self) -> Result<Listing, AnchorError> {
        Listing::read(&self.entries).ok_or(AnchorError::Listing)
    }

    /// The lists that are valid for a keeper that starts here.
    ///
    /// # Errors
    /// [`AnchorError::Listing`].
    pub fn tree(&self, roll: &Roll) -> Result<Tree, AnchorError> {
        let listing = self.listing()?;
        let base = listing.clone();
        let is_first =
            |list: &ChangeHash, by: &DeviceId| listing.is_lister(by) || self.first.as_ref() == Some(list);
        Ok(roll.tree(base, is_first))
    }
}
