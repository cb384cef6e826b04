//! Devices: adding, revoking, and the forks of one.

use exo_model::charter::role::Role;
use exo_model::event::CharterEvent as E;
use exo_model::feed::Stream;

use crate::reference::charter::RefStanding::{Counts, NotEntitled, Void};
use crate::reference::signing::{self, ToyKeys};
use crate::story::{COMMUNITY, Story, device, members, person};

/// Person 1 with devices 1, 11 and 12, enrolled in this order.
fn three_devices() -> Story {
    let mut story = Story::with(&[Role::Member, Role::Member]);
    for no in [11, 12] {
        let now = story.now();
        story.add_device(1, 1, no, Some(1), &now);
    }
    story
}

#[test]
fn who_may_add_a_device() {
    let mut story = Story::with(&[Role::Member, Role::Member]);
    let now = story.now();
    let own = story.add_device(1, 1, 11, Some(1), &now);
    let phrase_by_other = story.add_device(2, 1, 12, None, &now);
    let by_other = story.add_device(2, 1, 13, Some(1), &now);
    let for_other = story.add_device(2, 1, 14, Some(2), &now);
    let taken = story.add_device(2, 2, 1, None, &now);
    let for_stranger = story.add_device(2, 9, 15, None, &now);
    let state = story.expect(&[
        (own, Counts),
        (phrase_by_other, Counts),
        (by_other, NotEntitled),
        (for_other, NotEntitled),
        (taken, NotEntitled),
        (for_stranger, NotEntitled),
    ]);
    assert_eq!(state.members[&person(1)].devices.len(), 3);
}

#[test]
fn an_earlier_device_revokes_a_later_one() {
    let mut story = three_devices();
    let now = story.now();
    let upwards = story.revoke(12, 11, &[], None, &now);
    let by_other = story.revoke(2, 11, &[], None, &now);
    let itself = story.revoke(12, 12, &[], None, &now);
    let downwards = story.revoke(1, 11, &[], None, &now);
    let state = story.expect(&[
        (upwards, NotEntitled),
        (by_other, NotEntitled),
        (itself, Counts),
        (downwards, Counts),
    ]);
    assert_eq!(state.members[&person(1)].devices.keys().copied().collect::<Vec<_>>(), [device(1)]);
}

#[test]
fn of_revocations_the_earlier_device_goes_first() {
    let mut story = three_devices();
    let now = story.now();
    story.next_hash = Some(1);
    let by_second = story.revoke(11, 12, &[], None, &now);
    story.next_hash = Some(2);
    let by_first = story.revoke(1, 11, &[], None, &now);
    let state = story.expect(&[(by_first, Counts), (by_second, Void)]);
    assert_eq!(state.members[&person(1)].devices.len(), 2);
}

#[test]
fn m08_the_phrase_goes_before_any_device() {
    let mut story = three_devices();
    let now = story.now();
    let added: Vec<_> = (0..story.acts.len()).filter(|at| story.acts[*at].device == device(1)).collect();
    // The thief holds device 1 and revokes 11; the phrase revokes 1.
    let by_thief = story.revoke(1, 11, &[], None, &now);
    let by_phrase = story.revoke(2, 1, &added, Some(1), &now);
    let wrong_phrase = story.revoke(2, 12, &[], Some(2), &now);
    let state = story.expect(&[(by_phrase, Counts), (by_thief, Void), (wrong_phrase, NotEntitled)]);
    assert_eq!(state.members[&person(1)].devices.len(), 2);
    assert!(!state.members[&person(1)].devices.contains_key(&device(1)));
}

#[test]
fn the_last_device_goes_by_the_phrase_only() {
    let mut story = Story::with(&[Role::Member]);
    let now = story.now();
    let itself = story.revoke(1, 1, &[], None, &now);
    story.expect(&[(itself, NotEntitled)]);
    let by_phrase = story.revoke(0, 1, &[], Some(1), &now);
    let state = story.expect(&[(by_phrase, Counts)]);
    assert_eq!(members(&state), [0, 1], "the person stays");
    assert!(state.members[&person(1)].devices.is_empty());
}

#[test]
fn revocations_come_before_removals() {
    // 1, an admin, removes 2; the thief's removal from device 11 of 1 is void,
    // since device 1 revoked 11, although 1 outranks nobody here.
    let mut story = Story::with(&[Role::Admin, Role::Member]);
    let now = story.now();
    let added = story.add_device(1, 1, 11, Some(1), &now);
    let by_thief = story.remove(11, 2, &[], &[added]);
    let revoked = story.revoke(1, 11, &[], None, &[added]);
    let state = story.expect(&[(revoked, Counts), (by_thief, Void)]);
    assert_eq!(members(&state), [0, 1, 2]);
}

#[test]
fn an_unproven_fork_in_the_charter_voids_nothing() {
    let mut story = Story::with(&[Role::Member, Role::Member]);
    let now = story.now();
    let before = story.profile(1, "Ana", &now);
    let left = story.profile(1, "Left", &[before]);
    let after = story.profile(1, "Left after", &[left]);
    let right = story.says_after(
        1,
        Some(before),
        &[before],
        E::ProfileSet { name: "Right".into(), about: "".into() },
    );
    // All branches are events like any other; the deepest has the last word.
    let state = story.expect(&[(before, Counts), (left, Counts), (after, Counts), (right, Counts)]);
    assert_eq!(state.members[&person(1)].name, "Left after");
    assert!(state.suspended.is_empty());

    let proof = |story: &Story, stream| {
        let act = &story.acts[left];
        let hashes = (act.id, story.acts[right].id);
        signing::fork_proof(&ToyKeys, COMMUNITY, device(1), stream, (0, act.seq), hashes)
    };
    let in_ledger = proof(&story, Stream::Ledger);
    let ledger = story.says(
        2,
        &now,
        E::EquivocationProven { proof: in_ledger, fence: story.fence(&[]), settled: vec![] },
    );
    let state = story.expect(&[(ledger, Counts), (left, Counts), (after, Counts), (right, Counts)]);
    assert_eq!((state.barred.len(), state.suspended.len()), (1, 0));

    // The prover has seen neither line, and names the left one up to its first.
    let in_charter = proof(&story, Stream::Charter);
    let fence = story.fence(&[left]);
    let proven = story.says(2, &now, E::EquivocationProven { proof: in_charter, fence, settled: vec![] });
    let state =
        story.expect(&[(proven, Counts), (before, Counts), (left, Counts), (after, Void), (right, Void)]);
    assert_eq!(state.members[&person(1)].name, "Left");
    assert!(state.suspended.contains(&device(1)), "the person stays, the device is suspended");

    // Another proof names nothing: the lowest holds, and from the fork on only.
    let in_charter = proof(&story, Stream::Charter);
    let fence = story.fence(&[]);
    let lower = story.says(2, &now, E::EquivocationProven { proof: in_charter, fence, settled: vec![] });
    let state =
        story.expect(&[(lower, Counts), (before, Counts), (left, Void), (after, Void), (right, Void)]);
    assert_eq!(state.members[&person(1)].name, "Ana");

    let mut forged = proof(&story, Stream::Charter);
    if let exo_model::feed::equivocation::EquivocationProof::Fork { feed, .. } = &mut forged {
        feed.device = device(0);
    }
    let forged = story.says(
        2,
        &now,
        E::EquivocationProven { proof: forged, fence: story.fence(&[]), settled: vec![] },
    );
    story.expect(&[(forged, NotEntitled), (0, Counts)]);
}
