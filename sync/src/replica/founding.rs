//! Founding a community: its first charter change, its first keys, its first
//! channel.

use std::path::Path;

use exo_model::amount::Amount;
use exo_model::certificate::DeviceCertificate;
use exo_model::charter::{CommunityKind, Settings};
use exo_model::community::{self, Community};
use exo_model::event::CharterEvent;
use exo_model::event::keys::Audience;
use exo_model::feed::{FeedPosition, Stream, gate};
use exo_model::id::{ChannelId, CommunityId};
use exo_model::port::{ChangeStore as _, Clock, Entropy, Signer};
use exo_model::sealing::{EpochKey, SealingKey};
use exo_model::text::clean_name;

use super::ReplicaError;
use super::worker::write_into;
use crate::store::Store;

/// Who founds what.
pub struct Founding<'a> {
    /// What kind of community.
    pub kind: CommunityKind,
    /// The founder's device, signed by their phrase.
    pub certificate: DeviceCertificate,
    /// The founder's name.
    pub founder_name: &'a str,
    /// The community's name.
    pub name: &'a str,
    /// The lowest balance of a friend.
    pub floor: Amount,
}

/// Founds a community in the store at `path` and returns its id.
///
/// # Errors
/// When a name is not usable or the store fails.
pub fn found(
    path: &Path,
    founding: Founding<'_>,
    signer: &dyn Signer,
    sealing: SealingKey,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<CommunityId, ReplicaError> {
    let founder_name = clean_name("your name", founding.founder_name)?;
    let name = clean_name("the community's name", founding.name)?;
    let settings = Settings::of_friends(name, founding.floor);
    let (mut nonce, mut channel) = ([0; 16], [0; ChannelId::LEN]);
    entropy.fill(&mut nonce);
    entropy.fill(&mut channel);
    let key = EpochKey::generate(entropy);
    let (feed, change) = community::found(
        founding.kind,
        founding.certificate,
        founder_name,
        settings,
        nonce,
        &key,
        clock.now_ms(),
        entropy,
    );
    let mut store = Store::open(path)?;
    let mut community = Community::new(feed.community, signer.device(), sealing);
    let start = FeedPosition::START;
    let founded = gate::author(signer, feed, &start, change)?;
    store.append(&founded)?;
    community.learn_key(EpochKey::from_bytes(key.as_bytes()));
    community.insert(&founded);

    let mut write = |community: &mut Community, stream, event| {
        write_into(&mut store, community, signer, clock, entropy, stream, &event).map(drop)
    };
    // The founding event is sealed with this key: announcing it is not
    // starting another one.
    let announced = community.announce_epoch(Audience::Governance, &key, entropy);
    write(&mut community, Stream::Keys, announced.into())?;
    let channel = ChannelId::from_bytes(channel);
    let general =
        CharterEvent::ChannelCreated { channel, name: "general".into(), closed: false, guests: false };
    write(&mut community, Stream::Charter, general.into())?;
    for audience in [Audience::Members, Audience::Moderators, Audience::Channel(channel)] {
        let (key, event) = community.start_epoch(audience, entropy);
        community.learn_key(key);
        write(&mut community, Stream::Keys, event.into())?;
    }
    Ok(feed.community)
}
