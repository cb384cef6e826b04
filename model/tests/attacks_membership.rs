//! M1–M9: governance under attack, end to end. People write apart, with real
//! certificates, invites and fences; however they meet, all come to one state.

mod home;

#[path = "attacks_membership/devices.rs"]
mod devices;
#[path = "attacks_membership/invites.rs"]
mod invites;
#[path = "attacks_membership/orders.rs"]
mod orders;
#[path = "attacks_membership/removals.rs"]
mod removals;
#[path = "attacks_membership/roles.rs"]
mod roles;

use exo_model::PersonId;
use exo_model::decide::Intent;

/// A removal without a ban.
pub(crate) fn remove(person: PersonId) -> Intent {
    Intent::Remove { person, ban: false, reason: String::new() }
}

/// A removal with one.
pub(crate) fn ban(person: PersonId) -> Intent {
    Intent::Remove { person, ban: true, reason: "spam".into() }
}
