//! Invites of a community: made, listed, taken back.

use exo_model::charter::{Invite, Role};
use exo_model::decide::Intent;
use exo_model::id::InviteKey;
use exo_model::invite::Ticket;
use exo_model::port::Clock as _;
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;

use super::{Membership, MembershipError};
use crate::host::{OsEntropy, SystemClock};
use crate::report::InviteReport;

/// Longest time that an invite lasts: a year.
pub(crate) const DAYS_MAX: f64 = 366.0;
/// Days that one lasts if nobody says otherwise.
pub(crate) const DAYS: f64 = 7.0;
/// Milliseconds of a day.
const DAY_MS: f64 = 24.0 * 60.0 * 60.0 * 1_000.0;

/// What an invite allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InviteTerms {
    /// How many people.
    pub(crate) uses: u32,
    /// What they become.
    pub(crate) role: Role,
    /// How long.
    pub(crate) days: f64,
}

impl Default for InviteTerms {
    /// One member, within a week.
    fn default() -> Self {
        Self { uses: 1, role: Role::Member, days: DAYS }
    }
}

impl InviteTerms {
    fn expires_ms(&self) -> Result<i64, MembershipError> {
        if !(self.days > 0.0 && self.days <= DAYS_MAX) {
            return Err(MembershipError::InviteDays);
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked just above")]
        let lasts_ms = (self.days * DAY_MS) as i64;
        Ok(SystemClock.now_ms().saturating_add(lasts_ms))
    }

    /// Who is handed a key of the house is trusted like a friend; whoever only
    /// looks in, or only carries, is not.
    const fn trust(&self) -> TrustLevel {
        match self.role {
            Role::Keeper => TrustLevel::Public,
            Role::Guest => TrustLevel::Known,
            _ => TrustLevel::Friends,
        }
    }
}

impl Membership {
    /// Makes an invite.
    pub(crate) async fn invite(&self, terms: InviteTerms) -> Result<Ticket, MembershipError> {
        let secret = SecretKey::generate(&OsEntropy);
        let key = InviteKey::from_bytes(secret.public_bytes());
        let (expires_ms, InviteTerms { uses, role, .. }) = (terms.expires_ms()?, terms);
        let issue = Intent::IssueInvite { key, uses, expires_ms, role, trust: terms.trust() };
        self.replica().record(issue).await?;
        let state = self.replica().state();
        let contacts = self.contacts(&state);
        let name = state.charter.name().to_owned();
        let ticket = Ticket::new(state.id, name, &secret, expires_ms, contacts);
        Ok(ticket.with_relays(self.relays()))
    }

    /// All invites, those that end last at the end.
    pub(crate) fn invites(&self) -> Vec<InviteReport> {
        let state = self.replica().state();
        let mut all: Vec<_> = state.charter.invites.iter().collect();
        all.sort_by_key(|(_, invite)| invite.expires_ms);
        all.into_iter().map(|(key, invite)| self.report(key, invite)).collect()
    }

    /// What became of an invite.
    pub(crate) fn invite_of(&self, key: &InviteKey) -> Option<InviteReport> {
        let state = self.replica().state();
        state.charter.invites.get(key).map(|invite| self.report(key, invite))
    }

    /// Lets nobody join with an invite any more; `id` is its id, or how that
    /// starts.
    pub(crate) async fn revoke_invite(&self, id: &str) -> Result<InviteReport, MembershipError> {
        let key = self.find_invite(id)?;
        self.replica().record(Intent::RevokeInvite(key)).await?;
        self.invite_of(&key).ok_or_else(|| MembershipError::NoSuchInvite(id.to_owned()))
    }

    fn find_invite(&self, id: &str) -> Result<InviteKey, MembershipError> {
        let state = self.replica().state();
        let id = id.trim().to_lowercase();
        let is_meant = |key: &&InviteKey| !id.is_empty() && key.to_hex().starts_with(&id);
        let mut meant = state.charter.invites.keys().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(key), None) => Ok(*key),
            (Some(_), Some(_)) => Err(MembershipError::AmbiguousInvite(id)),
            (None, _) => Err(MembershipError::NoSuchInvite(id)),
        }
    }

    fn report(&self, key: &InviteKey, invite: &Invite) -> InviteReport {
        let maker = self.replica().state().charter.person_name(&invite.issuer);
        InviteReport::of(key, invite, maker, SystemClock.now_ms())
    }
}
