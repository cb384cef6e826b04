//! The reference of governance says what `docs/design/governance.md` says:
//! histories made by hand, with the result worked out by hand.

#[allow(dead_code, reason = "each test binary uses its part")]
mod reference;

#[path = "reference_sanity/story.rs"]
mod story;

#[path = "reference_sanity/devices.rs"]
mod devices;
#[path = "reference_sanity/generated.rs"]
mod generated;
#[path = "reference_sanity/membership.rs"]
mod membership;
#[path = "reference_sanity/places.rs"]
mod places;
#[path = "reference_sanity/removals.rs"]
mod removals;
