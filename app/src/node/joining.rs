//! Around a join: what an invite is read from, and what becomes of its end.

use std::sync::{Arc, PoisonError};

use exo_model::id::CommunityId;
use exo_model::invite::Ticket;

use super::{Membership, MembershipError, Node, NodeError};
use crate::folder::FolderError;
use crate::report::{JoinReport, RefusedJoin};
use crate::ticket;

/// Refused joins that are remembered for display.
const REFUSED_MAX: usize = 8;

/// An invite, from its text or from the file that is named.
pub(super) async fn read_ticket(source: &str) -> Result<Ticket, NodeError> {
    let source = source.to_owned();
    let read = tokio::task::spawn_blocking(move || ticket::read_source(&source)).await;
    Ok(read.map_err(|error| MembershipError::Thread(error.to_string()))??)
}

impl Node {
    /// A community that is open here for reading only: it came from a file, and
    /// can still be joined.
    pub(super) fn merely_read(&self, community: &CommunityId) -> Option<Arc<Membership>> {
        if self.lock_profile().community(community)?.joining.is_some() {
            return None;
        }
        let membership = self.lock_all().get(community).cloned()?;
        let is_member = membership.replica().knows_device(&self.device());
        (membership.reads() && !is_member).then_some(membership)
    }

    /// An invite, from its text or from the file that is named.
    pub(crate) async fn read_invite(&self, source: &str) -> Result<Ticket, NodeError> {
        read_ticket(source).await
    }

    /// How the join of a community goes, or asking to be let in again; `None` where
    /// neither is under way.
    pub(crate) fn join_of(&self, membership: &Membership) -> Option<JoinReport> {
        let id = membership.id();
        let is_joining = self.ticket_of(&id).is_some() || self.merely_read(&id).is_some();
        let status = membership.watch_join().borrow().clone();
        status.filter(|_| is_joining).as_ref().and_then(JoinReport::of)
    }

    /// The ticket of a join under way.
    pub(crate) fn ticket_of(&self, community: &CommunityId) -> Option<Ticket> {
        self.lock_profile().community(community)?.joining.as_ref()?.parse().ok()
    }

    /// Joins that a member refused for good since the start, oldest first.
    pub(crate) fn refused_joins(&self) -> Vec<RefusedJoin> {
        self.refused_joins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a join was refused, and lets another invite be tried. What came
    /// from a file before stays readable.
    pub(super) async fn note_refused(
        &self,
        membership: &Arc<Membership>,
        reason: String,
    ) -> Result<(), NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        let id = membership.id();
        // Whoever waits for the join and who began it both get here.
        let Some(ticket) = self.ticket_of(&id) else { return Ok(()) };
        tracing::info!(%reason, "the join was refused");
        let community = ticket.community_name;
        {
            let mut refused = self.refused_joins.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.len() == REFUSED_MAX {
                refused.remove(0);
            }
            refused.push(RefusedJoin { community, reason });
        }
        if membership.replica().state().charter.members.is_empty() {
            self.drop_join(&id).await
        } else {
            self.remember(|profile| profile.joined(&id))
        }
    }

    /// Notes that a join is complete. Who became a keeper goes on as one: nothing
    /// of the community is read, offered or announced from here on.
    pub(super) async fn settle_join(&self, membership: &Arc<Membership>) -> Result<(), NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        let id = membership.id();
        self.remember(|profile| profile.joined(&id))?;
        let is_kept = membership.replica().snapshot().kept.is_some();
        let is_open = self.lock_all().get(&id).is_some_and(|open| Arc::ptr_eq(open, membership));
        if !is_kept {
            self.ensure_private().await?;
        }
        if !is_kept || !membership.reads() || !is_open {
            return Ok(());
        }
        self.lock_all().remove(&id);
        membership.close().await;
        let place = self.folder.community(&id)?;
        place.forget_views().map_err(|source| FolderError::Io { path: place.views(), source })?;
        Box::pin(self.open(id)).await?;
        Ok(())
    }
}
