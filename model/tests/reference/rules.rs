//! The right that each kind of act needs, judged from its past; and whether an
//! act that had the right finds its place taken.

use std::collections::BTreeSet;

use exo_model::ChangeHash;
use exo_model::PersonId;
use exo_model::amount::Amount;
use exo_model::certificate::DeviceCertificate;
use exo_model::charter::role::{Permission, Role};
use exo_model::charter::settings::ABOUT_BYTES_MAX;
use exo_model::event::CharterEvent as E;
use exo_model::event::charter::{CHANNEL_PEOPLE_PER_EVENT_MAX, LIFTS_MAX, NOTE_BYTES_MAX};
use exo_model::event::keys::Audience;
use exo_model::text::{is_clean_message, is_clean_name};
use exo_model::trust::TrustLevel;

use super::charter::{CharterAct, Terms};
use super::dag::Dag;
use super::signing;
use super::view::{Need, View};

/// What the past of an act says about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Right {
    No,
    Yes,
    With(Need),
}

impl From<bool> for Right {
    fn from(is_entitled: bool) -> Self {
        if is_entitled { Self::Yes } else { Self::No }
    }
}

/// One act before its judge.
pub(crate) struct Case<'a> {
    pub(crate) dag: &'a Dag,
    pub(crate) terms: &'a Terms<'a>,
    pub(crate) at: usize,
    /// What it has seen.
    pub(crate) past: &'a View<'a>,
}

impl Case<'_> {
    fn act(&self) -> &CharterAct {
        &self.dag.acts[self.at]
    }

    /// The person whose device wrote it, and their rank.
    pub(crate) fn author(&self) -> Option<(PersonId, Role)> {
        if let E::Founded { founder, .. } = &self.act().event {
            return Some((signing::person_of(founder), Role::Owner));
        }
        let person = self.past.holder(self.act().device)?;
        Some((person, self.past.role(person)?))
    }

    /// The objective check.
    pub(crate) fn right(&self) -> Right {
        let event = &self.act().event;
        if !is_well_formed(event) {
            return Right::No;
        }
        if let E::Founded { founder, .. } = event {
            return self.founds(founder).into();
        }
        let Some((author, rank)) = self.author() else { return Right::No };
        if rank == Role::Keeper && !matches!(event, E::Left { .. }) {
            return Right::No;
        }
        let knows = |person: &PersonId| self.past.is_member(*person);
        match event {
            E::Founded { .. } => Right::No,
            E::Left { .. } | E::ProfileSet { .. } => Right::Yes,
            E::Removed { person, .. } => self.may_remove(author, rank, *person),
            E::RoleSet { person, role } => self.may_set_role(author, rank, *person, *role),
            E::InviteIssued { .. } => self.may_invite(author, rank).into(),
            E::InviteRevoked { .. } => self.may_revoke_invite(author, rank).into(),
            E::Admitted { .. } => self.may_admit(rank).into(),
            E::CoSigned { act } => self.may_sign(author, rank, act).into(),
            E::DeviceAdded { certificate } => self.may_add_device(author, certificate).into(),
            E::DeviceRevoked { .. } => self.may_revoke_device(author).into(),
            E::EquivocationProven { proof, .. } => (self.past.enrolment(proof.feed().device).is_some()
                && signing::is_fork_proof(self.terms.keys, self.terms.community, proof))
            .into(),
            E::TrustSet { person, .. } => {
                (rank.may(Permission::SetTrust) && knows(person) && self.is_above(rank, *person)).into()
            }
            E::SettingChanged { .. } | E::RulesAdopted { .. } => rank.may(Permission::ChangeSettings).into(),
            E::ChannelCreated { .. } => rank.may(Permission::ManageChannels).into(),
            E::ChannelChanged { channel, .. } => {
                (rank.may(Permission::ManageChannels) && self.past.channel(*channel).is_some()).into()
            }
            E::ChannelPeople { channel, add, .. } => {
                let is_closed = self.past.channel_door(*channel).is_some_and(|(closed, _)| closed);
                (rank.may(Permission::ManageChannels)
                    && is_closed
                    && self.past.channel_people(*channel).contains(&author)
                    && add.iter().all(knows))
                .into()
            }
            E::HistoryGranted { person, audience } => (rank.may(Permission::GrantHistory)
                && self.reads(author, audience)
                && self.reads(*person, audience))
            .into(),
            E::Allotted { person, .. } => (rank.may(Permission::Allot) && knows(person)).into(),
            E::Vouched { person, .. } => {
                (rank.may(Permission::Vouch) && knows(person) && *person != author).into()
            }
            E::VouchWithdrawn { person } => (*person != author).into(),
            E::MessageHidden { author: subject, .. } | E::ReportDecided { subject, .. } => {
                (rank.may(Permission::Moderate) && self.is_above(rank, *subject)).into()
            }
            // Steps of disputes have rules of their own, which are not here.
            E::Dispute(_) => rank.may(Permission::Share).into(),
        }
    }

    /// Whether this rank is above a person's; owners are above all, and
    /// everyone is above those outside.
    fn is_above(&self, rank: Role, person: PersonId) -> bool {
        rank == Role::Owner || self.past.role(person).is_none_or(|theirs| rank > theirs)
    }

    /// Who reads an audience, as far as the charter says.
    fn reads(&self, person: PersonId, audience: &Audience) -> bool {
        let Some(role) = self.past.role(person) else { return false };
        match audience {
            Audience::Governance => role >= Role::Guest,
            Audience::Members => role >= Role::Member,
            Audience::Moderators => role >= Role::Moderator,
            Audience::Direct(_) => false,
            Audience::Channel(channel) => self.past.channel_door(*channel).is_some_and(|(closed, guests)| {
                (role >= Role::Member || (role == Role::Guest && guests))
                    && (!closed || self.past.channel_people(*channel).contains(&person))
            }),
        }
    }

    fn founds(&self, founder: &DeviceCertificate) -> bool {
        let act = self.act();
        act.id == self.terms.founding
            && (act.segment, act.seq) == (0, 1)
            && act.previous == ChangeHash::from_bytes([0; 32])
            && signing::device_of(founder) == act.device
            && self.is_certificate(founder)
    }

    /// Signed by the person, or by one of their enrolled devices.
    fn is_certificate(&self, certificate: &DeviceCertificate) -> bool {
        let is_known = signing::enroller_of(certificate).is_none_or(|device| {
            self.past.holder(device) == Some(signing::person_of(certificate))
                && self.past.serial(device).is_some_and(|serial| serial < certificate.claims.serial)
        });
        is_known && signing::is_certificate(self.terms.keys, certificate)
    }

    fn may_invite(&self, author: PersonId, rank: Role) -> bool {
        let E::InviteIssued { role, trust, .. } = &self.act().event else { return false };
        let members_invite = self.past.settings().is_some_and(|settings| settings.members_invite);
        let may = rank.may(Permission::Invite) || (rank == Role::Member && members_invite);
        let gives = *role <= Role::Member && *role <= rank;
        let trusts = *trust == TrustLevel::Public
            || rank.may(Permission::SetTrust)
            || self.past.trust(author).is_some_and(|own| *trust <= own);
        may && gives && trusts
    }

    fn may_revoke_invite(&self, author: PersonId, rank: Role) -> bool {
        let E::InviteRevoked { key } = &self.act().event else { return false };
        let Some((issued, _, _)) = self.past.invite(*key) else { return false };
        let Some(issuer) = self.past.author(issued) else { return false };
        let members_invite = self.past.settings().is_some_and(|settings| settings.members_invite);
        let may_invite = rank.may(Permission::Invite) || (rank == Role::Member && members_invite);
        author == issuer || rank == Role::Owner || (may_invite && Some(rank) > self.past.role(issuer))
    }

    fn may_admit(&self, rank: Role) -> bool {
        let E::Admitted { certificate, name, invite, proof, .. } = &self.act().event else { return false };
        let terms = self.terms;
        rank.may(Permission::Admit)
            && signing::enroller_of(certificate).is_none()
            && self.is_certificate(certificate)
            && self.lifts_all_it_knows()
            && self.past.enrolment(signing::device_of(certificate)).is_none()
            && signing::is_invite_proof(terms.keys, terms.community, *invite, certificate, name, proof)
            && !self.past.is_member(signing::person_of(certificate))
            && self.past.invite(*invite).is_some()
            && !self.past.is_invite_revoked(*invite)
    }

    /// The removals that this admission lifts, of those it names.
    pub(crate) fn lifted(&self) -> BTreeSet<usize> {
        let E::Admitted { certificate, invite, lifts, .. } = &self.act().event else {
            return BTreeSet::new();
        };
        let rank = self.author().map(|(_, rank)| rank);
        let issued = self.past.invite(*invite).map(|(issued, _, _)| issued);
        // A later act may be named as well: of it nothing is judged yet.
        let is_theirs = |removal: usize| {
            self.past.contains(removal) && self.past.removes(removal) == Some(signing::person_of(certificate))
        };
        let may_lift = |removal: usize| {
            if matches!(self.dag.acts[removal].event, E::Removed { ban: true, .. }) {
                rank >= self.past.rank_of_author(removal)
            } else {
                issued.is_some_and(|issued| self.dag.past[issued].contains(&removal))
            }
        };
        let named = lifts.iter().filter_map(|id| self.dag.find(id));
        named.filter(|removal| is_theirs(*removal) && may_lift(*removal)).collect()
    }

    /// An admission names only what it may lift, and leaves nothing standing
    /// that it knows.
    fn lifts_all_it_knows(&self) -> bool {
        let E::Admitted { certificate, lifts, .. } = &self.act().event else { return false };
        let lifted = self.lifted();
        let named: BTreeSet<&ChangeHash> = lifts.iter().collect();
        let standing = self.past.standing_removals(signing::person_of(certificate));
        named.len() == lifted.len() && standing.is_subset(&lifted)
    }

    fn may_remove(&self, author: PersonId, rank: Role, subject: PersonId) -> Right {
        let Some(theirs) = self.past.role(subject) else { return Right::No };
        if !rank.may(Permission::Remove) || subject == author || self.is_last_owner(subject) {
            return Right::No;
        }
        self.above_or_with_equals(author, rank, subject, theirs)
    }

    fn may_set_role(&self, author: PersonId, rank: Role, subject: PersonId, role: Role) -> Right {
        let Some(theirs) = self.past.role(subject) else { return Right::No };
        if role == Role::Owner && self.past.of_rank(Role::Owner).is_empty() {
            return self.succession(author, rank, theirs);
        }
        if !rank.may(Permission::GiveRoles) || (role < theirs && self.is_last_owner(subject)) {
            return Right::No;
        }
        let may_give = role < rank || rank == Role::Owner;
        if subject == author {
            return (rank == Role::Owner && role < Role::Owner).into();
        }
        if theirs == rank && role >= theirs {
            return Right::No; // Nobody raises an equal, and that is no demotion.
        }
        if may_give { self.above_or_with_equals(author, rank, subject, theirs) } else { Right::No }
    }

    fn is_last_owner(&self, person: PersonId) -> bool {
        self.past.of_rank(Role::Owner) == BTreeSet::from([person])
    }

    /// Strictly above, or equal with the others' signatures.
    fn above_or_with_equals(&self, author: PersonId, rank: Role, subject: PersonId, theirs: Role) -> Right {
        if rank > theirs {
            return Right::Yes;
        }
        if rank < theirs {
            return Right::No;
        }
        let equals = self.past.of_rank(rank).len();
        let signatures = (equals - 1) / 2 + 1;
        let signatures = if rank == Role::Owner { signatures.max(2) } else { signatures };
        Right::With(Need {
            further: signatures - 1,
            rank,
            never: BTreeSet::from([author, subject]),
            among: None,
        })
    }

    /// Where nobody is owner, those of the highest rank make one of them owner.
    fn succession(&self, author: PersonId, rank: Role, theirs: Role) -> Right {
        let highest = [Role::Admin, Role::Moderator, Role::Member]
            .into_iter()
            .find(|role| !self.past.of_rank(*role).is_empty());
        if highest != Some(rank) || theirs != rank {
            return Right::No;
        }
        let people = self.past.of_rank(rank);
        let signatures = people.len() / 2 + 1;
        Right::With(Need {
            further: signatures - 1,
            rank,
            never: BTreeSet::from([author]),
            among: Some(people),
        })
    }

    fn may_sign(&self, author: PersonId, rank: Role, act: &ChangeHash) -> bool {
        let is_seen = self.dag.find(act).is_some_and(|act| self.dag.past[self.at].contains(&act));
        is_seen
            && self.past.need(act).is_some_and(|need| {
                need.rank == rank
                    && !need.never.contains(&author)
                    && need.among.as_ref().is_none_or(|among| among.contains(&author))
            })
    }

    fn may_add_device(&self, author: PersonId, certificate: &DeviceCertificate) -> bool {
        let person = signing::person_of(certificate);
        let is_posted_right = match signing::enroller_of(certificate) {
            None => true,
            Some(device) => device == self.act().device && person == author,
        };
        is_posted_right
            && self.past.is_member(person)
            && self.is_certificate(certificate)
            && self.past.enrolment(signing::device_of(certificate)).is_none()
    }

    fn may_revoke_device(&self, author: PersonId) -> bool {
        let E::DeviceRevoked { device, phrase, .. } = &self.act().event else { return false };
        let Some(person) = self.past.holder(*device) else { return false };
        // A phrase's word that is none makes the act none.
        if phrase.is_some() {
            return self.has_phrase();
        }
        let devices = self.past.devices(person);
        let is_earlier = devices.get(&self.act().device) < devices.get(device);
        person == author && devices.len() > 1 && (self.act().device == *device || is_earlier)
    }

    /// Whether a revocation carries the phrase's word, and it verifies.
    pub(crate) fn has_phrase(&self) -> bool {
        let E::DeviceRevoked { device, fence, phrase: Some(phrase) } = &self.act().event else {
            return false;
        };
        phrase.device == *device
            && self.past.holder(*device) == Some(phrase.person)
            && signing::is_phrase_revocation(self.terms.keys, self.terms.community, phrase, fence)
    }

    /// Whether what came before in the order left no place; `before` is seen
    /// from there.
    pub(crate) fn is_lost(&self, before: &View<'_>) -> bool {
        let limits = &self.terms.limits;
        match &self.act().event {
            E::Founded { .. } => before.events().any(|(_, event)| matches!(event, E::Founded { .. })),
            E::InviteIssued { key, .. } => {
                before.invite(*key).is_some() || before.invites().len() >= limits.invites
            }
            E::Admitted { certificate, invite, .. } => {
                let uses = before.events().find_map(|(_, event)| match event {
                    E::InviteIssued { key, uses, .. } if key == invite => Some(*uses),
                    _ => None,
                });
                let is_concurrent = |other: &usize| !self.dag.past[self.at].contains(other);
                before.admissions(signing::person_of(certificate)).iter().any(is_concurrent)
                    || before.enrolment(signing::device_of(certificate)).is_some()
                    || uses.is_none_or(|uses| before.admissions_with(*invite) >= uses as usize)
                    || before.members().len() >= limits.members
            }
            E::DeviceAdded { certificate } => before.enrolment(signing::device_of(certificate)).is_some(),
            E::ChannelCreated { channel, .. } => {
                before.channels().contains(channel) || before.channels().len() >= limits.channels
            }
            E::Allotted { amount, .. } => {
                let allotted: i128 = before
                    .events()
                    .map(|(_, event)| match event {
                        E::Allotted { amount, .. } => i128::from(amount.token_mib()),
                        _ => 0,
                    })
                    .sum();
                let room = before.settings().map_or(0, |settings| -settings.community_floor.token_mib());
                allotted + i128::from(amount.token_mib()) > i128::from(room)
            }
            _ => false,
        }
    }
}

/// Texts and lists within their limits.
fn is_well_formed(event: &E) -> bool {
    let is_note = |note: &str| note.is_empty() || (note.len() <= NOTE_BYTES_MAX && is_clean_message(note));
    match event {
        E::Founded { founder_name, settings, .. } => is_clean_name(founder_name) && settings.is_usable(),
        E::Admitted { name, lifts, .. } => is_clean_name(name) && lifts.len() <= LIFTS_MAX,
        E::Left { fence } | E::DeviceRevoked { fence, .. } | E::EquivocationProven { fence, .. } => {
            fence.is_well_formed()
        }
        E::Removed { reason, fence, .. } => is_note(reason) && fence.is_well_formed(),
        E::ProfileSet { name, about } => {
            let is_about = about.is_empty() || (about.len() <= ABOUT_BYTES_MAX && is_clean_message(about));
            is_clean_name(name) && is_about
        }
        E::SettingChanged { setting } => setting.is_usable(),
        E::ChannelCreated { name, .. } | E::ChannelChanged { name, .. } => is_clean_name(name),
        E::ChannelPeople { add, remove, .. } => add.len() + remove.len() <= CHANNEL_PEOPLE_PER_EVENT_MAX,
        E::Allotted { amount, note, .. } => {
            (1..=Amount::LOCK_MAX.token_mib()).contains(&amount.token_mib()) && is_note(note)
        }
        E::MessageHidden { reason: note, .. } | E::ReportDecided { note, .. } => is_note(note),
        _ => true,
    }
}
