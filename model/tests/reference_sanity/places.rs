//! Places that can be taken: ids, limits, and the community's credit.

use exo_model::amount::Amount;
use exo_model::charter::role::Role;
use exo_model::charter::settings::Setting;
use exo_model::event::CharterEvent as E;
use exo_model::{ChangeHash, ChannelId};

use crate::reference::charter::RefStanding::{Counts, Lost, NotEntitled};
use crate::story::{Story, members, person};

fn channel(no: u8, name: &str) -> E {
    let (channel, name) = (ChannelId::from_bytes([no; 16]), name.to_owned());
    E::ChannelCreated { channel, name, closed: true, guests: false }
}

#[test]
fn a_channel_id_counts_once_and_names_need_not_differ() {
    let mut story = Story::with(&[Role::Admin, Role::Member]);
    let now = story.now();
    story.next_hash = Some(1);
    let first = story.says(0, &now, channel(1, "kitchen"));
    story.next_hash = Some(2);
    let same_id_apart = story.says(1, &now, channel(1, "cellar"));
    let same_name_apart = story.says(1, &now, channel(2, "kitchen"));
    let by_member = story.says(2, &now, channel(3, "attic"));
    let same_id = story.says(1, &[first], channel(1, "cellar"));
    let same_name = story.says(1, &[first], channel(3, "kitchen"));
    let renamed = story.says(
        1,
        &[first],
        E::ChannelChanged { channel: ChannelId::from_bytes([1; 16]), name: "hall".into(), archived: false },
    );
    let unknown = story.says(
        1,
        &[first],
        E::ChannelChanged { channel: ChannelId::from_bytes([9; 16]), name: "void".into(), archived: false },
    );
    // 1 manages channels, and is not in this one.
    let add =
        || E::ChannelPeople { channel: ChannelId::from_bytes([1; 16]), add: vec![person(2)], remove: vec![] };
    let by_outsider = story.says(1, &[renamed], add());
    let state = story.expect(&[
        (first, Counts),
        (same_id_apart, Lost),
        (same_name_apart, Counts),
        (by_member, NotEntitled),
        (same_id, Lost),
        (same_name, Counts),
        (renamed, Counts),
        (unknown, NotEntitled),
        (by_outsider, NotEntitled),
    ]);
    let hall = &state.channels[&ChannelId::from_bytes([1; 16])];
    assert_eq!((hall.name.as_str(), hall.people.len()), ("hall", 1));
    let by_creator = story.says(0, &[renamed], add());
    let state = story.expect(&[(by_creator, Counts)]);
    assert_eq!(state.channels[&ChannelId::from_bytes([1; 16])].people.len(), 2);
}

#[test]
fn a_full_community_admits_nobody_until_someone_goes() {
    let mut story = Story::with(&[Role::Member]);
    story.limits.members = 3;
    let now = story.now();
    story.next_hash = Some(1);
    let third = story.admit(0, 2, 0, &[], &now);
    story.next_hash = Some(2);
    let fourth = story.admit(1, 3, 0, &[], &now);
    let state = story.expect(&[(third, Counts), (fourth, Lost)]);
    assert_eq!(members(&state), [0, 1, 2]);
    let left = story.leave(2, &[], &[third, fourth]);
    let fifth = story.admit_with(1, 3, 30, 0, &[], &[left]);
    story.expect(&[(fifth, Counts)]);
}

#[test]
fn invites_and_channels_are_bounded() {
    let mut story = Story::founded();
    story.limits.invites = 2;
    story.limits.channels = 1;
    let now = story.now();
    let second = story.invite(0, 1, 1, Role::Member, &now);
    let third = story.invite(0, 2, 1, Role::Member, &[second]);
    let first = story.says(0, &[third], channel(1, "kitchen"));
    let too_many = story.says(0, &[first], channel(2, "hall"));
    story.expect(&[(second, Counts), (third, Lost), (first, Counts), (too_many, Lost)]);
}

#[test]
fn allotments_stay_within_the_communitys_floor() {
    let mut story = Story::with(&[Role::Member]);
    let allot = |amount| E::Allotted {
        person: person(1),
        amount: Amount::from_token_mib(amount),
        note: String::new(),
    };
    let now = story.now();
    let first = story.says(0, &now, allot(600));
    let second = story.says(0, &[first], allot(600));
    let third = story.says(0, &[second], allot(400));
    let nothing = story.says(0, &[third], allot(0));
    let raised = story.says(
        0,
        &[nothing],
        E::SettingChanged { setting: Setting::CommunityFloor(Amount::from_token_mib(-1_500)) },
    );
    let fourth = story.says(0, &[raised], allot(500));
    let state = story.expect(&[
        (first, Counts),
        (second, Lost),
        (third, Counts),
        (nothing, NotEntitled),
        (fourth, Counts),
    ]);
    assert_eq!(state.allotments.len(), 3);
}

#[test]
fn the_last_word_on_a_message_holds() {
    let mut story = Story::with(&[Role::Moderator, Role::Member]);
    let message = ChangeHash::from_bytes([7; 32]);
    let hide = |hidden| E::MessageHidden { author: person(2), message, hidden, reason: String::new() };
    let now = story.now();
    let by_member = story.says(2, &now, hide(true));
    let hidden = story.says(1, &now, hide(true));
    let state = story.expect(&[(by_member, NotEntitled), (hidden, Counts)]);
    assert!(state.hidden.contains_key(&message));
    story.says(0, &[hidden], hide(false));
    assert!(story.state().hidden.is_empty());
}
