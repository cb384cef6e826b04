//! What people do about each other and themselves: leaving, removing, roles,
//! trust, vouching, profiles.

use super::super::dag::{ActIx, Dag};
use super::super::people::Removal;
use super::super::role::{Permission, Role};
use super::{Author, Judged, Pass, Pending, Standing, entitled, entry, further_signatures, is_note};
use crate::charter::settings::ABOUT_BYTES_MAX;
use crate::event::CharterEvent;
use crate::event::charter::VouchGround;
use crate::feed::fence::Fence;
use crate::id::PersonId;
use crate::text::{is_clean_message, is_clean_name};
use crate::trust::TrustLevel;

impl Pass {
    pub(super) fn leave(&mut self, number: ActIx, author: Author, fence: &Fence) -> Judged {
        entitled(fence.is_well_formed())?;
        if let Some(person) = self.records.people.get_mut(&author.person) {
            person.removals.push(number, Removal { ban: None });
        }
        Ok(Standing::Counts)
    }

    pub(super) fn remove(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        event: &CharterEvent,
    ) -> Judged {
        let CharterEvent::Removed { person: subject, ban, reason, fence } = event else {
            return Err(Standing::NotEntitled);
        };
        let at = self.at(dag, number);
        let rank = at.role(subject).ok_or(Standing::NotEntitled)?;
        entitled(
            author.role.may(Permission::Remove)
                && author.person != *subject
                && author.role >= rank
                && fence.is_well_formed()
                && is_note(reason),
        )?;
        let count = if author.role > rank { 0 } else { further_signatures(at.of_rank(rank), rank) };
        let removal = Removal { ban: ban.then_some(author.role) };
        if let Some(person) = self.records.people.get_mut(subject) {
            person.removals.0.push(entry(number, count, removal));
        }
        if author.role > rank {
            return Ok(Standing::Counts);
        }
        let pending = Pending {
            rank,
            never: [author.person, *subject],
            among: None,
            subject: *subject,
            of_role: false,
        };
        Ok(self.await_signatures(number, count, pending))
    }

    pub(super) fn set_role(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        subject: PersonId,
        role: Role,
    ) -> Judged {
        let at = self.at(dag, number);
        let rank = at.role(&subject).ok_or(Standing::NotEntitled)?;
        let owners = at.of_rank(Role::Owner);
        let mut pending =
            Pending { rank, never: [author.person, subject], among: None, subject, of_role: true };
        let mut takes_several = true;
        let count = if owners == 0 && role == Role::Owner {
            // Succession: by those of the highest rank, to one of them.
            let highest = at.highest_rank();
            entitled(rank >= Role::Member && Some(rank) == highest && Some(author.role) == highest)?;
            pending.never = [author.person; 2];
            pending.among = Some(at.people_of_rank(rank).collect());
            at.of_rank(rank) / 2
        } else if author.person == subject {
            entitled(author.role == Role::Owner && role < Role::Owner && owners > 1)?;
            takes_several = false;
            0
        } else {
            let may_give = author.role > role || author.role == Role::Owner;
            // Nobody raises an equal, and leaving one as they are is no act.
            let is_demotion = author.role > rank || role < rank;
            entitled(
                author.role.may(Permission::GiveRoles) && may_give && is_demotion && author.role >= rank,
            )?;
            takes_several = author.role == rank;
            if takes_several { further_signatures(at.of_rank(rank), rank) } else { 0 }
        };
        if let Some(person) = self.records.people.get_mut(&subject) {
            person.roles.0.push(entry(number, count, role));
        }
        if !takes_several {
            return Ok(Standing::Counts);
        }
        Ok(self.await_signatures(number, count, pending))
    }

    pub(super) fn set_trust(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        subject: PersonId,
        level: TrustLevel,
    ) -> Judged {
        let rank = self.at(dag, number).role(&subject).ok_or(Standing::NotEntitled)?;
        entitled(
            author.role.may(Permission::SetTrust) && (author.role > rank || author.role == Role::Owner),
        )?;
        if let Some(person) = self.records.people.get_mut(&subject) {
            person.trust.push(number, level);
        }
        Ok(Standing::Counts)
    }

    pub(super) fn set_profile(&mut self, number: ActIx, author: Author, name: &str, about: &str) -> Judged {
        let about_fits = about.is_empty() || (about.len() <= ABOUT_BYTES_MAX && is_clean_message(about));
        entitled(is_clean_name(name) && about_fits)?;
        if let Some(person) = self.records.people.get_mut(&author.person) {
            person.name.push(number, name.to_owned());
            person.about.push(number, about.to_owned());
        }
        Ok(Standing::Counts)
    }

    pub(super) fn vouch(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        subject: PersonId,
        ground: Option<VouchGround>,
    ) -> Judged {
        // Taking one's word back needs no right.
        let may = ground.is_none()
            || (author.role.may(Permission::Vouch) && self.at(dag, number).is_member(&subject));
        entitled(may && author.person != subject)?;
        self.records.vouches.entry((author.person, subject)).or_default().push(number, ground);
        Ok(Standing::Counts)
    }
}
