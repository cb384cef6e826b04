//! What came from a backup asks to be let in again, by itself.
//!
//! A backup makes a new device of a person whom the members know; the phrase
//! certified it. Any member who is online can enrol it, so it asks until one does.
//! Never here: who answers (`exo_sync::mesh`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use exo_model::certificate::Enroller;
use exo_model::invite::Contact;
use exo_sync::mesh::JoinStatus;

use super::{Membership, Node, NodeError};

/// Members that are asked in one round.
const ASKED_MAX: usize = 16;
/// Pause after the first round; twice as long after each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);

impl Node {
    /// Communities that this device's person belongs to and can read here, though
    /// this device is not one of theirs yet.
    fn away(&self) -> Vec<Arc<Membership>> {
        let person = self.certificate().claims.person;
        let is_away = |membership: &Arc<Membership>| {
            membership.replica().state().charter.members.contains_key(&person)
                && self.merely_read(&membership.id()).is_some()
        };
        self.memberships().into_iter().filter(is_away).collect()
    }

    /// Starts asking, where there is anything to ask for.
    pub(super) fn go_home(self: &Arc<Self>) {
        if self.certificate().enroller == Enroller::Phrase && !self.away().is_empty() {
            tokio::spawn(return_home(Arc::downgrade(self)));
        }
    }

    /// Asks members of one community, and begins to join all that one of them
    /// names.
    async fn ask_home(self: &Arc<Self>, membership: &Membership) -> Result<(), NodeError> {
        let contacts = members_of(membership);
        let known = self.mesh.come_back(&self.certificate(), &contacts).await?;
        let _one_at_a_time = self.changing.lock().await;
        let name = self.lock_profile().name.clone();
        self.enter_all(known, &name).await
    }
}

/// Goes on until this device is in, or the node is gone.
async fn return_home(node: Weak<Node>) {
    let mut pause = PAUSE_FIRST;
    for round in 1.. {
        {
            let Some(node) = node.upgrade() else { return };
            for membership in node.away() {
                // A member of one community may have known of this one, too.
                if node.merely_read(&membership.id()).is_none() {
                    continue;
                }
                if let Err(error) = node.ask_home(&membership).await {
                    tracing::info!(%error, "nobody has let this device in yet");
                    membership.show_join(JoinStatus::Trying { rounds: round, last_error: error.to_string() });
                }
            }
            if node.away().is_empty() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Devices of other members, those first of which an address is known.
fn members_of(membership: &Membership) -> Vec<Contact> {
    let state = membership.replica().state();
    let contact = |device| {
        let addresses = state.machines.get(device).map(|machine| machine.addresses.clone());
        Contact { device: *device, addresses: addresses.unwrap_or_default() }
    };
    let mut contacts: Vec<_> = state.charter.devices.keys().map(contact).collect();
    contacts.sort_by_key(|contact| contact.addresses.is_empty());
    contacts.truncate(ASKED_MAX);
    contacts
}
