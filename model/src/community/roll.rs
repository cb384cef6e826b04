//! Lists for keepers as a member sees them: what they should say, and whether
//! keepers believe it.

use super::Community;
use crate::charter::{Member, Permission, Role};
use crate::event::keys::KeyEvent;
use crate::roll::{KeeperAnchor, ListedPerson, Listing, Tree};

impl Community {
    /// Who takes part, as the charter says it. Who may remove lower ranks may
    /// list; where nobody is of such a rank, those of the highest.
    pub fn listing(&self) -> Listing {
        let charter = &self.state.charter;
        let now = self.charter.now();
        let highest = charter.members.values().map(|member| member.role).max();
        let least = highest.unwrap_or(Role::Member).min(Permission::Remove.least_role());
        let mut listing = Listing::default();
        let mut listers = Vec::new();
        for (person, member) in &charter.members {
            let mut devices = member.devices.clone();
            if devices.is_empty() {
                continue;
            }
            if member.role == Role::Keeper {
                listing.keepers.extend(devices);
            } else if member.role >= least && member.role > Role::Guest {
                devices.sort_by_key(|device| (now.enrolment(device), *device));
                let place = (std::cmp::Reverse(member.role), now.seniority(person), *person);
                listers.push((place, ListedPerson { role: member.role, devices }));
            } else {
                listing.writers.extend(devices);
            }
        }
        listers.sort_by_key(|(place, _)| *place);
        listing.listers = listers.into_iter().map(|(_, person)| person).collect();
        let former = charter.former_devices.keys();
        listing.former = former.map(|device| (*device, charter.fences.get(device).cloned())).collect();
        listing.bound();
        listing
    }

    /// Lists as a keeper sees them that started when the first one was posted.
    fn lists(&self, truth: Listing) -> Tree {
        let charter = &self.state.charter;
        let is_first = |_: &_, by: &_| charter.is_member(by) || charter.former_devices.contains_key(by);
        self.roll.tree(truth, is_first)
    }

    /// What a keeper is told that this device's person lets in: the one thing
    /// that it takes on trust.
    pub fn keeper_anchor(&self) -> KeeperAnchor {
        let listing = self.listing();
        let first = self.lists(listing.clone()).believed().first().map(|list| list.id);
        KeeperAnchor::new(self.id, listing, first)
    }

    /// The list for keepers that this device should post, in parts; none where
    /// there are no keepers, where what they believe is right, or where it is
    /// not for this device to say.
    pub fn list_due(&self) -> Vec<KeyEvent> {
        let charter = &self.state.charter;
        let is_keeper = |member: &Member| member.role == Role::Keeper && !member.devices.is_empty();
        if self.lists_are_right.get() || !charter.members.values().any(is_keeper) {
            return Vec::new();
        }
        let truth = self.listing();
        let follows = self.lists(truth.clone()).to_follow(&self.local.device, &truth);
        self.lists_are_right.set(follows.is_none());
        follows.map_or_else(Vec::new, |follows| truth.post(follows))
    }
}
