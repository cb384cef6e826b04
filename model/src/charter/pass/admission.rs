//! How people come in: invites and admissions.

use super::super::dag::{ActIx, Dag};
use super::super::people::{Admission, At, Device, Invite};
use super::super::role::{Permission, Role};
use super::{Author, Judged, Pass, Standing, entitled, not_lost};
use crate::certificate::DeviceCertificate;
use crate::charter::{INVITES_MAX, MEMBERS_MAX};
use crate::event::CharterEvent;
use crate::event::charter::LIFTS_MAX;
use crate::id::{ChangeHash, InviteKey, PersonId};
use crate::invite::INVITE_USES_MAX;
use crate::text::is_clean_name;
use crate::trust::TrustLevel;

impl Pass {
    pub(super) fn invite(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        event: &CharterEvent,
    ) -> Judged {
        let at = self.at(dag, number);
        // Nobody else comes into a private community.
        entitled(!at.is_private())?;
        match event {
            CharterEvent::InviteIssued { key, uses, expires_ms, role, trust } => {
                let may_trust =
                    at.may(&author.person, Permission::SetTrust) || *trust <= at.trust(&author.person);
                entitled(
                    at.may(&author.person, Permission::Invite)
                        && may_trust
                        && *role <= Role::Member.min(author.role)
                        && (1..=INVITE_USES_MAX).contains(uses),
                )?;
                not_lost(
                    self.records.invites.len() < INVITES_MAX && !self.records.invites.contains_key(key),
                )?;
                let invite = Invite {
                    issued: number,
                    issuer: author.person,
                    uses: *uses,
                    used: 0,
                    expires_ms: *expires_ms,
                    role: *role,
                    trust: *trust,
                    revoked: Vec::new(),
                };
                self.records.invites.insert(*key, invite);
                Ok(Standing::Counts)
            }
            CharterEvent::InviteRevoked { key } => {
                let invite = self.records.invites.get(key).filter(|invite| at.knows(invite.issued));
                let issuer = invite.ok_or(Standing::NotEntitled)?.issuer;
                let above = at.role(&issuer).is_none_or(|role| author.role > role);
                entitled(
                    author.person == issuer
                        || author.role == Role::Owner
                        || (above && at.may(&author.person, Permission::Invite)),
                )?;
                if let Some(invite) = self.records.invites.get_mut(key) {
                    invite.revoked.push(number);
                }
                Ok(Standing::Counts)
            }
            _ => Err(Standing::NotEntitled),
        }
    }

    pub(super) fn admit(&mut self, dag: &Dag, number: ActIx, author: Author, event: &CharterEvent) -> Judged {
        let CharterEvent::Admitted { certificate, name, invite: key, lifts, .. } = event else {
            return Err(Standing::NotEntitled);
        };
        let person = certificate.claims.person;
        let at = self.at(dag, number);
        entitled(!at.is_private())?;
        entitled(
            author.role.may(Permission::Admit)
                && is_clean_name(name)
                && lifts.len() <= LIFTS_MAX
                && !at.is_member(&person),
        )?;
        let invite = usable_invite(&at, key)?;
        let (role, trust) = (invite.role, invite.trust);
        let lifts = liftable(&at, author, invite, &person, lifts)?;
        self.refuse_known_device(dag, number, certificate)?;
        let now = self.now(dag);
        let came_meanwhile = self
            .records
            .people
            .get(&person)
            .is_some_and(|record| record.admissions.0.iter().any(|admission| !at.knows(admission.by)));
        not_lost(
            invite.used < invite.uses
                && !came_meanwhile
                && (self.records.people.len() < MEMBERS_MAX || members(&now) < MEMBERS_MAX),
        )?;
        if let Some(invite) = self.records.invites.get_mut(key) {
            invite.used += 1;
        }
        let time_ms = dag.node(number).act.time_ms;
        self.come(number, time_ms, certificate, name, author.person, lifts);
        self.give(number, person, role, trust);
        Ok(Standing::Counts)
    }

    /// A device belongs to one person once and for ever.
    pub(super) fn refuse_known_device(
        &self,
        dag: &Dag,
        number: ActIx,
        certificate: &DeviceCertificate,
    ) -> Result<(), Standing> {
        match self.records.devices.get(&certificate.claims.device) {
            Some(device) if self.at(dag, number).knows(device.enrolled) => Err(Standing::NotEntitled),
            Some(_) => Err(Standing::Lost),
            None => Ok(()),
        }
    }

    /// A person is there from here on, with a first device.
    pub(super) fn come(
        &mut self,
        number: ActIx,
        time_ms: i64,
        certificate: &DeviceCertificate,
        name: &str,
        by: PersonId,
        lifts: Vec<ActIx>,
    ) {
        let person = self.records.people.entry(certificate.claims.person).or_default();
        person.admissions.push(number, Admission { by, time_ms, lifts });
        person.name.push(number, name.to_owned());
        self.enrol(number, certificate);
    }

    pub(super) fn enrol(&mut self, number: ActIx, certificate: &DeviceCertificate) {
        let person = self.records.people.entry(certificate.claims.person).or_default();
        person.devices.insert(certificate.claims.device);
        let device =
            Device { person: certificate.claims.person, certificate: certificate.clone(), enrolled: number };
        self.records.devices.insert(certificate.claims.device, device);
    }

    pub(super) fn give(&mut self, number: ActIx, person: PersonId, role: Role, trust: TrustLevel) {
        let person = self.records.people.entry(person).or_default();
        person.roles.push(number, role);
        person.trust.push(number, trust);
    }
}

fn members(now: &At<'_>) -> usize {
    now.records.people.keys().filter(|person| now.is_member(person)).count()
}

/// The invite as the admitting member knew it: issued, and not revoked.
fn usable_invite<'a>(at: &At<'a>, key: &InviteKey) -> Result<&'a Invite, Standing> {
    at.records
        .invites
        .get(key)
        .filter(|invite| at.knows(invite.issued))
        .filter(|invite| !invite.revoked.iter().any(|act| at.knows(*act)))
        .ok_or(Standing::NotEntitled)
}

/// The removals that an admission lifts, if it may, and if they are all that
/// its author knows of.
fn liftable(
    at: &At<'_>,
    author: Author,
    invite: &Invite,
    person: &PersonId,
    lifts: &[ChangeHash],
) -> Result<Vec<ActIx>, Standing> {
    let Some(record) = at.records.people.get(person) else {
        return if lifts.is_empty() { Ok(Vec::new()) } else { Err(Standing::NotEntitled) };
    };
    let invite_past = &at.dag.node(invite.issued).past;
    let mut lifted = Vec::new();
    for lift in lifts {
        let removal = record
            .removals
            .known(at.dag, at.past)
            .find(|removal| at.dag.node(removal.by).act.id == *lift)
            .ok_or(Standing::NotEntitled)?;
        entitled(match removal.value.ban {
            Some(rank) => author.role >= rank,
            None => at.dag.knows(invite_past, removal.by),
        })?;
        lifted.push(removal.by);
    }
    let before = || record.admissions.known(at.dag, at.past).flat_map(|admission| &admission.value.lifts);
    let all = record
        .removals
        .known(at.dag, at.past)
        .all(|removal| lifted.contains(&removal.by) || before().any(|lift| *lift == removal.by));
    entitled(all)?;
    Ok(lifted)
}
