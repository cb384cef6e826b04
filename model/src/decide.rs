//! From what someone wants to the event that says so.
//!
//! Refuses, with a reason a person can act on, what could not count. Charter
//! acts are rehearsed with the very code that judges them; ledger events are
//! checked by the ledger. What is decided here is checked again by every
//! peer's `reduce`: this is courtesy to the author, not protection of the
//! others.

mod charter;
mod ledger;
mod machines;
mod refusal;

use std::collections::BTreeSet;

use crate::amount::Amount;
use crate::board::contents::{STARTED_BYTES_MAX, board_id};
use crate::board::{BoardContents, BoardEdit, ContentsError};
use crate::certificate::{DeviceCertificate, PhraseRevocation};
use crate::charter::role::Role;
use crate::charter::settings::{CommunityKind, Setting};
use crate::codec;
use crate::community::Community;
use crate::event::charter::{ReportOutcome, VouchGround};
use crate::event::keys::Audience;
use crate::event::ledger::{Account, GrantReason, OfferKind, Purpose};
use crate::event::talk::{Attachment, TalkEvent};
use crate::event::{BoardEvent, DisputeEvent, Event, ModerationEvent, PrivateEvent};
use crate::feed::Stream;
use crate::feed::equivocation::EquivocationProof;
use crate::id::{BlobHash, BoardId, ChangeHash, ChannelId, DeviceId, DirectId, InviteKey, JobId, PersonId};
use crate::invite::JoinRequest;
use crate::ledger::Voucher;
use crate::text;
use crate::trust::TrustLevel;
use crate::weights::{LayerRange, ModelManifest};

pub use refusal::Refusal;

/// Something a device wants to record.
#[derive(Clone, Debug)]
pub enum Intent {
    /// Let holders of an invite key join.
    IssueInvite {
        /// Public half of the key.
        key: InviteKey,
        /// How many people.
        uses: u32,
        /// Wall time of expiry, ms since the Unix epoch.
        expires_ms: i64,
        /// The role it gives.
        role: Role,
        /// The trust level it gives.
        trust: TrustLevel,
    },
    /// Let nobody join with an invite any more.
    RevokeInvite(InviteKey),
    /// Complete a newcomer's join.
    Admit(JoinRequest),
    /// Leave, with all devices.
    Leave,
    /// Take someone out of the community.
    Remove {
        /// Who.
        person: PersonId,
        /// Whether only someone of this rank may let them in again.
        ban: bool,
        /// Why.
        reason: String,
    },
    /// Agree to an act that needs several.
    CoSign(ChangeHash),
    /// Give someone a role.
    SetRole(PersonId, Role),
    /// Set how far the community trusts someone.
    SetTrust(PersonId, TrustLevel),
    /// Add a device of someone.
    AddDevice(DeviceCertificate),
    /// Take a device out.
    RevokeDevice {
        /// Which one.
        device: DeviceId,
        /// The phrase's word on it.
        phrase: Option<PhraseRevocation>,
    },
    /// Set one's own profile.
    SetProfile {
        /// Name.
        name: String,
        /// A few words; may be empty.
        about: String,
    },
    /// Change a setting.
    ChangeSetting(Setting),
    /// Let the rules of a newer version hold.
    AdoptRules(u32),
    /// Open a channel.
    CreateChannel {
        /// A fresh random id.
        channel: ChannelId,
        /// Its name.
        name: String,
        /// Whether only people who are added read it.
        closed: bool,
        /// Whether guests read and write in it.
        guests: bool,
    },
    /// Rename a channel, or put it away.
    ChangeChannel {
        /// Which one.
        channel: ChannelId,
        /// Its name.
        name: String,
        /// Whether it is put away.
        archived: bool,
    },
    /// Bring people into a closed channel, or take them out.
    ChannelPeople {
        /// Which one.
        channel: ChannelId,
        /// Who comes in.
        add: Vec<PersonId>,
        /// Who goes.
        remove: Vec<PersonId>,
    },
    /// Let someone read what was written before they came.
    GrantHistory(PersonId, Audience),
    /// Show everyone that a device signed two things at one place.
    ProveEquivocation(Box<EquivocationProof>),
    /// Let an officer spend from the community's account.
    Allot {
        /// Who.
        person: PersonId,
        /// How much.
        amount: Amount,
        /// For what.
        note: String,
    },
    /// Vouch for someone; none takes it back.
    Vouch(PersonId, Option<VouchGround>),
    /// A step of a dispute.
    Dispute(DisputeEvent),
    /// Take a message out of everyone's sight, or put it back.
    HideMessage {
        /// Its author.
        author: PersonId,
        /// Which one.
        message: ChangeHash,
        /// Whether it is out of sight.
        hidden: bool,
        /// Why.
        reason: String,
    },
    /// Answer a report.
    DecideReport {
        /// Which one.
        report: ChangeHash,
        /// Whom it was about.
        subject: PersonId,
        /// What comes of it.
        outcome: ReportOutcome,
        /// Why.
        note: String,
    },
    /// Tell the moderators something.
    Report(ModerationEvent),
    /// Write in a channel.
    Post {
        /// Where.
        channel: ChannelId,
        /// What.
        text: String,
        /// The message it answers.
        reply_to: Option<ChangeHash>,
        /// Who is meant to notice.
        mentions: Vec<PersonId>,
        /// What goes with it.
        attachments: Vec<Attachment>,
    },
    /// Anything else about messages of a channel.
    Talk(ChannelId, TalkEvent),
    /// Something in a direct conversation.
    TalkDirectly(DirectId, TalkEvent),
    /// Start a board; its id is [`board_id`](crate::board::contents::board_id).
    StartBoard(BoardContents),
    /// Edit a board.
    EditBoard(BoardId, BoardEdit),
    /// A fact of one's own, in one's private community.
    Private(PrivateEvent),
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
    /// Order something that is offered, or reserve hours of it.
    Order {
        /// Who offers it.
        payee: DeviceId,
        /// Which offer, and how much of it.
        purpose: Purpose,
        /// At most.
        max: Amount,
    },
    /// Post the last voucher of a job.
    Settle(Voucher),
    /// Name the final amount of a lock and give the rest back.
    Close {
        /// The lock.
        lock: ChangeHash,
        /// The voucher for the final amount; none for nothing.
        voucher: Option<Voucher>,
    },
    /// Spend what came in.
    Count,
    /// Give credit away.
    Transfer {
        /// To whom.
        to: Account,
        /// How much.
        amount: Amount,
        /// A few words; may be empty.
        note: String,
    },
    /// Pay from the community's account.
    Grant {
        /// The allotment.
        allotment: ChangeHash,
        /// To whom.
        to: DeviceId,
        /// How much.
        amount: Amount,
        /// Why.
        reason: GrantReason,
        /// A few words; may be empty.
        note: String,
    },
    /// Offer something for credit.
    PostOffer {
        /// What.
        kind: OfferKind,
        /// In a few words.
        title: String,
        /// Price of one unit.
        price: Amount,
    },
    /// Take an offer back.
    WithdrawOffer(ChangeHash),
    /// Take an order on.
    AcceptOrder(ChangeHash),
    /// Set credit aside for whoever does something.
    PostBounty {
        /// What is to be done.
        title: String,
        /// How much it brings.
        amount: Amount,
    },
    /// Give a bounty to whoever earned it.
    AwardBounty {
        /// Which one.
        bounty: ChangeHash,
        /// To whom.
        to: DeviceId,
    },
    /// Take a bounty back.
    WithdrawBounty(ChangeHash),
}

/// Turns an intent of this device into an event and the stream it belongs in.
///
/// # Errors
/// See [`Refusal`].
pub fn decide(community: &Community, now_ms: i64, intent: Intent) -> Result<(Stream, Event), Refusal> {
    let state = community.state();
    let me = community.device();
    if !state.charter.is_member(&me) {
        return Err(Refusal::NotAMember);
    }
    match intent {
        Intent::Post { channel, text, reply_to, mentions, attachments } => {
            may_talk(community, &Stream::Channel(channel))?;
            let text = if attachments.is_empty() || !text.trim().is_empty() {
                text::clean_message(&text)?
            } else {
                String::new()
            };
            let event = TalkEvent::Posted { text, reply_to, mentions, attachments };
            talk(Stream::Channel(channel), event)
        }
        Intent::Talk(channel, event) => {
            may_talk(community, &Stream::Channel(channel))?;
            talk(Stream::Channel(channel), event)
        }
        Intent::TalkDirectly(direct, event) => {
            may_talk(community, &Stream::Direct(direct))?;
            talk(Stream::Direct(direct), event)
        }
        Intent::StartBoard(contents) => {
            let board = board_id(community.id(), me, &contents);
            may_talk(community, &Stream::Board(board))?;
            contents.check()?;
            if codec::encode(&contents).len() > STARTED_BYTES_MAX {
                return Err(ContentsError::TooLongToStart.into());
            }
            Ok((Stream::Board(board), BoardEvent::Started { contents }.into()))
        }
        Intent::EditBoard(board, edit) => {
            may_talk(community, &Stream::Board(board))?;
            edit.check()?;
            Ok((Stream::Board(board), BoardEvent::Edited { edit }.into()))
        }
        Intent::Report(event) => {
            may_talk(community, &Stream::Moderation)?;
            Ok((Stream::Moderation, event.into()))
        }
        Intent::Private(event) => {
            if community.state().charter.kind != Some(CommunityKind::Private) {
                return Err(Refusal::NotPrivate);
            }
            may_talk(community, &Stream::Private)?;
            Ok((Stream::Private, event.into()))
        }
        Intent::OfferMachine { .. }
        | Intent::HostShard { .. }
        | Intent::DropShard { .. }
        | Intent::AddModel(_) => machines::decide(community, intent),
        Intent::Lock { .. }
        | Intent::Order { .. }
        | Intent::Settle(_)
        | Intent::Close { .. }
        | Intent::Count
        | Intent::Transfer { .. }
        | Intent::Grant { .. }
        | Intent::PostOffer { .. }
        | Intent::WithdrawOffer(_)
        | Intent::AcceptOrder(_)
        | Intent::PostBounty { .. }
        | Intent::AwardBounty { .. }
        | Intent::WithdrawBounty(_) => ledger::decide(community, intent),
        intent => charter::decide(community, now_ms, intent),
    }
}

fn may_talk(community: &Community, stream: &Stream) -> Result<(), Refusal> {
    if let Stream::Channel(channel) = stream {
        let channel = community.state().charter.channels.get(channel).ok_or(Refusal::UnknownChannel)?;
        if channel.archived {
            return Err(Refusal::Archived);
        }
    }
    if community.may_write_now(stream) { Ok(()) } else { Err(Refusal::NotEntitled) }
}

fn talk(stream: Stream, event: TalkEvent) -> Result<(Stream, Event), Refusal> {
    crate::conversation::check(&event)?;
    Ok((stream, event.into()))
}

/// Devices of a person, present and former.
fn devices_of(community: &Community, person: &PersonId) -> BTreeSet<DeviceId> {
    let charter = &community.state().charter;
    let present = charter.devices.iter().filter(|(_, device)| device.person == *person).map(|(id, _)| *id);
    let former = charter.former_devices.iter().filter(|(_, other)| *other == person).map(|(id, _)| *id);
    present.chain(former).collect()
}
