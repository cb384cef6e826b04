//! Intents about governance: the event is made and rehearsed.

use super::{Intent, Refusal, devices_of};
use crate::charter::relay;
use crate::charter::settings::{CommunityKind, Setting};
use crate::charter::{ActStanding, MEMBERS_MAX};
use crate::community::Community;
use crate::event::charter::{NOTE_BYTES_MAX, PROOF_SETTLED_MAX};
use crate::event::{CharterEvent, Event};
use crate::feed::Stream;
use crate::feed::fence::Fence;
use crate::id::ChangeHash;
use crate::invite::{self, INVITE_USES_MAX, JoinRequest};
use crate::text;

pub(super) fn decide(community: &Community, now_ms: i64, intent: Intent) -> Result<(Stream, Event), Refusal> {
    let charter = &community.state().charter;
    if !charter.knows_rules() {
        return Err(Refusal::NewerRules(charter.rules));
    }
    let is_for_others = matches!(intent, Intent::IssueInvite { .. } | Intent::Admit(_));
    if is_for_others && charter.kind == Some(CommunityKind::Private) {
        return Err(Refusal::PrivateCommunity);
    }
    let event = event(community, now_ms, intent)?;
    match community.charter().rehearse(community.device(), now_ms, &event) {
        ActStanding::Counts | ActStanding::Unsigned => Ok((Stream::Charter, event.into())),
        ActStanding::Lost => Err(Refusal::Lost),
        ActStanding::NotEntitled | ActStanding::Void => Err(Refusal::NotEntitled),
    }
}

fn event(community: &Community, now_ms: i64, intent: Intent) -> Result<CharterEvent, Refusal> {
    let charter = &community.state().charter;
    Ok(match intent {
        Intent::IssueInvite { key, uses, expires_ms, role, trust } => {
            if !(1..=INVITE_USES_MAX).contains(&uses) {
                return Err(Refusal::InviteUses);
            }
            CharterEvent::InviteIssued { key, uses, expires_ms, role, trust }
        }
        Intent::RevokeInvite(key) => {
            if !charter.invites.contains_key(&key) {
                return Err(Refusal::UnknownInvite);
            }
            CharterEvent::InviteRevoked { key }
        }
        Intent::Admit(request) => admit(community, now_ms, request)?,
        Intent::Leave => {
            let me = charter.person_of(&community.device()).ok_or(Refusal::NotAMember)?;
            CharterEvent::Left { fence: community.fence_of(&devices_of(community, &me)) }
        }
        Intent::Remove { person, ban, reason } => {
            let fence = community.fence_of(&devices_of(community, &person));
            CharterEvent::Removed { person, ban, reason: note(reason)?, fence }
        }
        Intent::CoSign(act) => CharterEvent::CoSigned { act },
        Intent::SetRole(person, role) => CharterEvent::RoleSet { person, role },
        Intent::SetTrust(person, level) => CharterEvent::TrustSet { person, level },
        Intent::AddDevice(certificate) => CharterEvent::DeviceAdded { certificate },
        Intent::RevokeDevice { device, phrase } => {
            let fence = community.fence_of(&[device].into());
            CharterEvent::DeviceRevoked { device, fence, phrase }
        }
        Intent::SetProfile { name, about } => CharterEvent::ProfileSet {
            name: text::clean_name("your name", &name)?,
            about: if about.trim().is_empty() { String::new() } else { text::clean_message(&about)? },
        },
        Intent::ChangeSetting(Setting::Name(name)) => CharterEvent::SettingChanged {
            setting: Setting::Name(text::clean_name("the community's name", &name)?),
        },
        Intent::ChangeSetting(Setting::Relays(relays)) => {
            CharterEvent::SettingChanged { setting: Setting::Relays(relay::clean(&relays)?) }
        }
        Intent::ChangeSetting(setting) => CharterEvent::SettingChanged { setting },
        Intent::AdoptRules(version) => CharterEvent::RulesAdopted { version },
        Intent::CreateChannel { channel, name, closed, guests } => {
            let name = text::clean_name("the channel's name", &name)?;
            CharterEvent::ChannelCreated { channel, name, closed, guests }
        }
        Intent::ChangeChannel { channel, name, archived } => {
            let name = text::clean_name("the channel's name", &name)?;
            CharterEvent::ChannelChanged { channel, name, archived }
        }
        Intent::ChannelPeople { channel, add, remove } => {
            if !charter.channels.contains_key(&channel) {
                return Err(Refusal::UnknownChannel);
            }
            CharterEvent::ChannelPeople { channel, add, remove }
        }
        Intent::GrantHistory(person, audience) => CharterEvent::HistoryGranted { person, audience },
        Intent::ProveEquivocation(proof) => {
            let feed = *proof.feed();
            let entries = community.fence_of(&[feed.device].into());
            let entries = entries.entries().iter().filter(|entry| entry.stream == feed.stream);
            let fence = Fence::new(entries.copied());
            let settled = match feed.stream {
                Stream::Ledger => community.state().ledger.settlements_of(&feed.device, PROOF_SETTLED_MAX),
                _ => Vec::new(),
            };
            CharterEvent::EquivocationProven { proof: *proof, fence, settled }
        }
        Intent::Allot { person, amount, note: text } => {
            CharterEvent::Allotted { person, amount, note: note(text)? }
        }
        Intent::Vouch(person, Some(ground)) => CharterEvent::Vouched { person, ground },
        Intent::Vouch(person, None) => CharterEvent::VouchWithdrawn { person },
        Intent::Dispute(step) => CharterEvent::Dispute(step),
        Intent::HideMessage { author, message, hidden, reason } => {
            CharterEvent::MessageHidden { author, message, hidden, reason: note(reason)? }
        }
        Intent::DecideReport { report, subject, outcome, note: text } => {
            CharterEvent::ReportDecided { report, subject, outcome, note: note(text)? }
        }
        _ => return Err(Refusal::NotEntitled),
    })
}

/// A note may be empty, but not long.
fn note(text: String) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    let clean = text::clean_message(&text)?;
    if clean.len() > NOTE_BYTES_MAX { Err(Refusal::Malformed("note")) } else { Ok(clean) }
}

fn admit(community: &Community, now_ms: i64, request: JoinRequest) -> Result<CharterEvent, Refusal> {
    let JoinRequest { community: id, certificate, name, invite: key, proof } = request;
    let charter = &community.state().charter;
    if id != community.id() {
        return Err(Refusal::OtherCommunity);
    }
    if text::clean_name("the name", &name)? != name {
        return Err(Refusal::InviteProof);
    }
    invite::verify_proof(&id, &certificate, &name, &key, &proof).map_err(|_| Refusal::InviteProof)?;
    let person = certificate.claims.person;
    if charter.is_member(&certificate.claims.device) || charter.members.contains_key(&person) {
        return Err(Refusal::AlreadyMember);
    }
    if charter.former_devices.contains_key(&certificate.claims.device) {
        return Err(Refusal::SpentDevice);
    }
    let issued = charter.invites.get(&key).ok_or(Refusal::UnknownInvite)?;
    if issued.revoked {
        return Err(Refusal::InviteRevoked);
    }
    if issued.used >= issued.uses {
        return Err(Refusal::InviteUsed);
    }
    if now_ms > issued.expires_ms {
        return Err(Refusal::InviteExpired);
    }
    if charter.members.len() >= MEMBERS_MAX {
        return Err(Refusal::Full { what: "members", max: MEMBERS_MAX });
    }
    let (lifts, banned): (Vec<ChangeHash>, bool) = charter.removals.get(&person).cloned().unwrap_or_default();
    let removed = !lifts.is_empty();
    let event = CharterEvent::Admitted { certificate, name, invite: key, proof, lifts };
    match community.charter().rehearse(community.device(), now_ms, &event) {
        ActStanding::NotEntitled if banned => Err(Refusal::Banned),
        ActStanding::NotEntitled if removed => Err(Refusal::WasRemoved),
        _ => Ok(event),
    }
}
