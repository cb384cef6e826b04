//! The profile that strangers read: made by owners, read by anyone, changed by
//! nobody.

mod home;

use exo_model::charter::{Role, Setting};
use exo_model::decide::Intent;
use exo_model::profile::{GUIDELINES_BYTES_MAX, PROFILE_PREFIX, ProfileError, PublicProfile};
use home::seeded::Rng;
use home::{garden, settle};

#[test]
fn an_owner_publishes_what_strangers_read() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Admin]);
    a.act(Intent::ChangeSetting(Setting::About("We share a garden, and machines.".into())));
    settle(&mut [&mut a, &mut b]);
    let profile = PublicProfile::publish(&a.community, &a.key, "Be kind.", 5_000).expect("an owner");
    assert_eq!(PublicProfile::publish(&b.community, &b.key, "", 5_000), Err(ProfileError::NotEntitled));
    let text = profile.to_string();
    let read: PublicProfile = text.parse().expect("whole");
    assert_eq!(read, profile);
    assert_eq!((read.name.as_str(), read.guidelines.as_str()), ("Garden", "Be kind."));
    assert_eq!(read.about, "We share a garden, and machines.");
    // Mail programs break lines and people shout.
    let (left, right) = text.split_at(text.len() / 2);
    let broken = format!("  {}\n  {}\n", left.to_uppercase(), right.to_uppercase());
    assert_eq!(broken.parse(), Ok(profile));
    // Members can tell who said so, also later.
    assert!(read.is_by_owner(&b.community.state().charter));
    a.act(Intent::SetRole(people[1].id(), Role::Owner));
    a.act(Intent::SetRole(people[0].id(), Role::Member));
    assert!(!read.is_by_owner(&a.community.state().charter), "she was one");
}

#[test]
fn what_was_changed_is_no_profile() {
    let (_, [a]) = garden([Role::Owner]);
    let publish = |guidelines: &str| PublicProfile::publish(&a.community, &a.key, guidelines, 5_000);
    assert_eq!(publish(&"x".repeat(GUIDELINES_BYTES_MAX + 1)), Err(ProfileError::Guidelines));
    assert_eq!(publish("\u{202e}turned"), Err(ProfileError::Guidelines));
    let longest = publish(&"x".repeat(GUIDELINES_BYTES_MAX)).expect("fits").to_string();
    assert!(longest.parse::<PublicProfile>().is_ok());
    let text = publish("Be kind.").expect("an owner").to_string();
    let mut rng = Rng(3);
    for _ in 0..2_000 {
        let mut bytes = text.clone().into_bytes();
        let at = rng.below(bytes.len());
        let other = b"abcdefghijklmnopqrstuvwxyz234567"[rng.below(32)];
        if std::mem::replace(&mut bytes[at], other) == other {
            continue;
        }
        let changed = String::from_utf8(bytes).expect("letters");
        let expected = if at < PROFILE_PREFIX.len() { ProfileError::Prefix } else { ProfileError::Damaged };
        assert_eq!(changed.parse::<PublicProfile>(), Err(expected), "at {at}");
    }
    for cut in 0..text.len() {
        assert!(text[..cut].parse::<PublicProfile>().is_err(), "{cut}");
    }
}
