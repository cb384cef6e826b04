//! From what someone wants to the event that says so.
//!
//! Refuses, with a reason a person can act on, what could not count. What is
//! decided here is checked again by every peer's `reduce`: this is courtesy
//! to the author, not protection of the others.

use crate::amount::Amount;
use crate::community::{
    CHANNELS_MAX, CommunityState, INVITES_MAX, MEMBERS_MAX, MODELS_MAX, SHARDS_PER_MACHINE_MAX, are_addresses,
};
use crate::event::{ADDRESSES_MAX, Event};
use crate::feed::Stream;
use crate::id::{BlobHash, ChangeHash, ChannelId, DeviceId, InviteKey, JobId};
use crate::invite::{self, INVITE_USES_MAX, JoinRequest};
use crate::ledger::{LedgerFault, Voucher};
use crate::text::{self, TextError};
use crate::weights::{LayerRange, ManifestError, ModelManifest};

/// Something a device wants to record.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Let holders of an invite key join.
    IssueInvite {
        /// Public half of the key.
        key: InviteKey,
        /// How many devices.
        uses: u32,
        /// Wall time of expiry, ms since the Unix epoch.
        expires_ms: i64,
    },
    /// Complete a newcomer's join.
    Admit(JoinRequest),
    /// Open a channel.
    CreateChannel {
        /// A fresh random id.
        channel: ChannelId,
        /// Its name.
        name: String,
    },
    /// Write a message.
    Post {
        /// Where.
        channel: ChannelId,
        /// What.
        text: String,
    },
    /// Say what this machine offers.
    OfferMachine {
        /// Memory for weights and caches, bytes.
        memory_bytes: u64,
        /// Measured µs per MiB of weights and token; 0 when unknown.
        micros_per_mib: u32,
        /// Where it can be reached.
        addresses: Vec<String>,
    },
    /// Say which layers this machine holds ready.
    HostShard {
        /// The model's file.
        model: BlobHash,
        /// The layers.
        layers: LayerRange,
    },
    /// Say that this machine no longer serves a model.
    DropShard {
        /// The model's file.
        model: BlobHash,
    },
    /// Share a model that this machine holds whole.
    AddModel(ModelManifest),
    /// Set credit aside for a job.
    Lock {
        /// The job.
        job: JobId,
        /// Who may be paid.
        payee: DeviceId,
        /// At most.
        max: Amount,
    },
    /// Post the last voucher of a job.
    Settle(Voucher),
    /// Give the rest of a lock back.
    Close {
        /// The lock.
        lock: ChangeHash,
    },
}

/// Why an intent is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This device does not belong to the community.
    #[error("this device is not a member of the community")]
    NotAMember,
    /// Only owners may.
    #[error("only an owner can do this")]
    OwnersOnly,
    /// A text is empty or too long.
    #[error(transparent)]
    Text(#[from] TextError),
    /// No such channel.
    #[error("there is no such channel")]
    UnknownChannel,
    /// No such model, or layers it does not have.
    #[error("there is no such model in this community")]
    UnknownModel,
    /// Something of this name or key is there already.
    #[error("this {0} exists already")]
    Exists(&'static str),
    /// Not at most so many socket addresses.
    #[error("a machine can publish at most {ADDRESSES_MAX} addresses of the form ip:port")]
    Addresses,
    /// The number of uses is not possible.
    #[error("an invite can be used 1 to {INVITE_USES_MAX} times")]
    InviteUses,
    /// The request is for another community.
    #[error("the invite belongs to another community")]
    OtherCommunity,
    /// No such invite.
    #[error("the invite is not known here; ask for a new one")]
    UnknownInvite,
    /// All uses are spent.
    #[error("the invite was already used; ask for a new one")]
    InviteUsed,
    /// Its time is over.
    #[error("the invite has expired; ask for a new one")]
    InviteExpired,
    /// The proof does not verify.
    #[error("the invite's signature does not fit the request")]
    InviteProof,
    /// The newcomer is in already: a success, for who asks again.
    #[error("this device is already a member")]
    AlreadyMember,
    /// A fixed limit of the community is reached.
    #[error("the community is full: at most {max} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The manifest is out of bounds.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The ledger would not count it.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
}

/// Turns an intent of `me` into an event and the stream it belongs in.
///
/// # Errors
/// See [`Refusal`].
pub fn decide(
    state: &CommunityState,
    me: DeviceId,
    now_ms: i64,
    intent: Intent,
) -> Result<(Stream, Event), Refusal> {
    if !state.is_member(&me) {
        return Err(Refusal::NotAMember);
    }
    match intent {
        Intent::IssueInvite { key, uses, expires_ms } => {
            if !(1..=INVITE_USES_MAX).contains(&uses) {
                return Err(Refusal::InviteUses);
            }
            owner_with_room(state, &me, "invites", state.invites.len(), INVITES_MAX)?;
            refuse_existing("invite", state.invites.contains_key(&key))?;
            Ok((Stream::Charter, Event::InviteIssued { key, uses, expires_ms }))
        }
        Intent::Admit(request) => admit(state, now_ms, request),
        Intent::CreateChannel { channel, name } => {
            owner_with_room(state, &me, "channels", state.channels.len(), CHANNELS_MAX)?;
            refuse_existing("channel", state.channels.contains_key(&channel))?;
            let name = text::clean_name("the channel's name", &name)?;
            Ok((Stream::Charter, Event::ChannelCreated { channel, name }))
        }
        Intent::Post { channel, text } => {
            if !state.channels.contains_key(&channel) {
                return Err(Refusal::UnknownChannel);
            }
            let text = text::clean_message(&text)?;
            Ok((Stream::Channel(channel), Event::MessagePosted { text }))
        }
        Intent::OfferMachine { memory_bytes, micros_per_mib, addresses } => {
            if !are_addresses(&addresses) {
                return Err(Refusal::Addresses);
            }
            Ok((Stream::Cluster, Event::MachineOffered { memory_bytes, micros_per_mib, addresses }))
        }
        Intent::HostShard { model, layers } => {
            let known = state.models.get(&model).and_then(|model| model.manifest.all_layers());
            if !known.is_some_and(|all| all.covers(layers)) {
                return Err(Refusal::UnknownModel);
            }
            if !state.has_shard_room(&me, &model) {
                return Err(Refusal::Full {
                    what: "models hosted by one machine",
                    max: SHARDS_PER_MACHINE_MAX,
                });
            }
            Ok((Stream::Cluster, Event::ShardHosted { model, layers }))
        }
        Intent::DropShard { model } => Ok((Stream::Cluster, Event::ShardDropped { model })),
        Intent::AddModel(manifest) => {
            manifest.check()?;
            match state.models.get(&manifest.file) {
                Some(known) => {
                    refuse_existing("model", known.manifest != manifest || known.holders.contains(&me))?
                }
                None if state.models.len() >= MODELS_MAX => {
                    return Err(Refusal::Full { what: "models", max: MODELS_MAX });
                }
                None => {}
            }
            Ok((Stream::Library, Event::ModelAdded { manifest }))
        }
        Intent::Lock { job, payee, max } => {
            if !state.is_member(&payee) {
                return Err(Refusal::NotAMember);
            }
            state.ledger.check_lock(&me, &payee, max)?;
            Ok((Stream::Ledger, Event::Locked { job, payee, max }))
        }
        Intent::Settle(voucher) => {
            state.ledger.check_voucher(&state.id, &me, &voucher)?;
            let Voucher { lock, amount, signature } = voucher;
            Ok((Stream::Ledger, Event::Settled { lock, amount, voucher: signature }))
        }
        Intent::Close { lock } => {
            state.ledger.check_close(&me, &lock)?;
            Ok((Stream::Ledger, Event::Closed { lock }))
        }
    }
}

fn owner_with_room(
    state: &CommunityState,
    me: &DeviceId,
    what: &'static str,
    count: usize,
    max: usize,
) -> Result<(), Refusal> {
    if !state.is_owner(me) {
        return Err(Refusal::OwnersOnly);
    }
    if count >= max {
        return Err(Refusal::Full { what, max });
    }
    Ok(())
}

fn refuse_existing(what: &'static str, exists: bool) -> Result<(), Refusal> {
    if exists { Err(Refusal::Exists(what)) } else { Ok(()) }
}

fn admit(state: &CommunityState, now_ms: i64, request: JoinRequest) -> Result<(Stream, Event), Refusal> {
    let JoinRequest { community, device, name, invite: key, proof } = request;
    if community != state.id {
        return Err(Refusal::OtherCommunity);
    }
    if text::clean_name("the name", &name)? != name {
        return Err(Refusal::InviteProof);
    }
    invite::verify_proof(&state.id, &device, &name, &key, &proof).map_err(|_| Refusal::InviteProof)?;
    if state.is_member(&device) {
        return Err(Refusal::AlreadyMember);
    }
    let issued = state.invites.get(&key).ok_or(Refusal::UnknownInvite)?;
    if issued.used >= issued.uses {
        return Err(Refusal::InviteUsed);
    }
    if now_ms > issued.expires_ms {
        return Err(Refusal::InviteExpired);
    }
    if state.members.len() >= MEMBERS_MAX {
        return Err(Refusal::Full { what: "members", max: MEMBERS_MAX });
    }
    Ok((Stream::Charter, Event::MemberAdmitted { device, name, invite: key, proof }))
}
