//! Whom a node dials and keeps, and whom it parts with.

use std::collections::BTreeSet;

use exo_sync::hub::{DEGREE, Effect, FULL_MESH_MAX, Farewell, Input, LINKS_MAX};

use super::{CHOIR, GARDEN, Node, closed, device, devices, dials, exchanges, plain};

const MINUTE_MS: u64 = 60_000;

#[test]
fn a_small_community_is_linked_with_everyone() {
    let (_, effects) = Node::among(1, 1..=FULL_MESH_MAX);
    assert_eq!(dials(&effects), devices(1..=FULL_MESH_MAX));
}

#[test]
fn a_large_community_has_few_links_and_always_the_close_ones() {
    let mut chosen = BTreeSet::new();
    for seed in 0..20 {
        let mut node = Node::new(seed);
        let effects = node.meet(GARDEN, 1..=40, [39, 40]);
        let dialled = dials(&effects);
        assert!(dialled.contains(&device(39)) && dialled.contains(&device(40)));
        assert_eq!(dialled.len(), DEGREE, "those that are dialled count");
        chosen.extend(dialled);
    }
    assert!(chosen.len() > 30, "chance chooses: {} were dialled", chosen.len());
}

#[test]
fn whoever_has_enough_dials_nobody() {
    let (mut node, effects) = Node::among(2, 1..=40);
    for of in dials(&effects) {
        node.hear(Input::DialFailed(of));
    }
    for n in 1..=DEGREE {
        node.link(n, false);
    }
    let dialled = plain(node.pass(2 * MINUTE_MS));
    assert_eq!(dials(&dialled), BTreeSet::new());
}

#[test]
fn links_beyond_the_most_are_given_up_once_and_close_ones_never() {
    let mut node = Node::new(3);
    node.meet(GARDEN, 1..=40, 1..=10);
    let mut given_up = BTreeSet::new();
    for n in 1..=20 {
        let (_, effects) = node.link(n, false);
        // The shell has not done it yet, and many other things happen.
        for _ in 0..3 {
            given_up.extend(closed(&node.hear(Input::Tick)));
        }
        given_up.extend(closed(&effects));
    }
    assert_eq!(given_up.len(), 20 - LINKS_MAX);
    assert!(given_up.iter().all(|link| *link > 10), "{given_up:?}");
    assert_eq!(node.hub.linked_devices().count(), LINKS_MAX);
    for link in given_up {
        node.hear(Input::Unlinked(link));
    }
    assert_eq!(node.hub.linked_devices().count(), LINKS_MAX, "each is counted once");
}

#[test]
fn a_large_community_changes_a_link_now_and_then_and_a_small_one_does_not() {
    for (others, at_least) in [(40, 3), (FULL_MESH_MAX, 0)] {
        let (mut node, effects) = Node::among(4, 1..=others);
        for of in dials(&effects) {
            let n = (1..=others).find(|n| device(*n) == of).expect("one of them");
            let (link, effects) = node.link(n, true);
            exchanges(&effects).into_iter().for_each(|link| drop(node.done(link)));
            assert!(link > 0);
        }
        let mut done = Vec::new();
        for _ in 0..30 {
            done.extend(
                node.pass(MINUTE_MS).into_iter().filter(|(_, effect)| matches!(effect, Effect::Dial(_))),
            );
        }
        assert!(done.len() >= at_least && done.len() <= 3 * at_least, "{done:?}");
    }
}

/// Pauses between the dials of somebody who never answers.
fn pauses(seed: u64) -> Vec<u64> {
    let (mut node, effects) = Node::among(seed, [1]);
    assert_eq!(dials(&effects), devices([1]));
    let mut pauses = Vec::new();
    for _ in 0..16 {
        node.hear(Input::DialFailed(device(1)));
        let failed_ms = node.now_ms;
        let next_ms = loop {
            let next_ms = node.hub.next_wake_ms().expect("it is tried again");
            node.now_ms = node.now_ms.max(next_ms);
            if !dials(&node.hear(Input::Tick)).is_empty() {
                break node.now_ms;
            }
        };
        pauses.push(next_ms - failed_ms);
    }
    pauses
}

#[test]
fn dials_back_off_with_jitter_up_to_five_minutes() {
    let one = pauses(5);
    assert!((125..=250).contains(&one[0]), "{one:?}");
    for (n, pause) in one.iter().enumerate() {
        let most = (250_u64 << n).min(300_000);
        assert!((most / 2..=most).contains(pause), "{n}: {pause} of {most}");
    }
    assert_ne!(one, pauses(6), "two nodes are not in step");
}

#[test]
fn whoever_shows_up_is_dialled_at_once() {
    let (mut node, _) = Node::among(7, [1]);
    for _ in 0..12 {
        node.hear(Input::DialFailed(device(1)));
        node.pass(10 * MINUTE_MS);
    }
    node.hear(Input::DialFailed(device(1)));
    assert_eq!(dials(&node.hear(Input::Tick)), BTreeSet::new());
    assert_eq!(dials(&node.hear(Input::Seen(device(1)))), devices([1]));
    node.hear(Input::DialFailed(device(1)));
    assert_eq!(dials(&node.hear(Input::NetworkChanged)), devices([1]));
}

/// Dials that are not answered yet, several communities, nobody there: whatever it
/// is, the hub is not woken in a circle. `Node::pass` fails where it is.
#[test]
fn a_hub_is_never_woken_for_nothing() {
    let mut node = Node::new(8);
    node.meet(GARDEN, 1..=8, []);
    node.meet(CHOIR, 11..=18, []);
    let many = node.meet(exo_model::id::CommunityId::from_bytes([3; 32]), 21..=28, []);
    assert!(dials(&many).is_empty(), "no more than 16 dials at once");
    let waiting = plain(node.pass(MINUTE_MS));
    assert!(dials(&waiting).is_empty(), "and all of them are under way");
    node.hear(Input::DialFailed(device(1)));
    node.pass(MINUTE_MS);

    let (mut large, effects) = Node::among(9, 1..=40);
    let dialled: Vec<_> = dials(&effects).into_iter().collect();
    // Some failed, so that they have a pause; others are still being dialled.
    for of in &dialled[..4] {
        large.hear(Input::DialFailed(*of));
    }
    large.pass(MINUTE_MS);
    for n in 1..=5 {
        large.link(n, false);
    }
    large.pass(30 * MINUTE_MS);
}

#[test]
fn strangers_are_parted_with_when_the_company_shrinks() {
    let (mut node, _) = Node::among(10, 1..=4);
    let (stays, _) = node.link(1, true);
    let (goes, _) = node.link(2, true);
    let effects = node.meet(GARDEN, [1, 3, 4], []);
    assert!(effects.contains(&Effect::Close(goes, Farewell::NotAMember)));
    assert!(!closed(&effects).contains(&stays));
    assert!(closed(&node.hear(Input::Tick)).is_empty(), "said once");
    assert!(!node.hub.linked_devices().any(|of| of == device(2)));
    node.hear(Input::Unlinked(goes));
    // The dial of the one that was put out meanwhile succeeds all the same.
    let (late, effects) = node.link(2, true);
    assert_eq!(effects, vec![Effect::Close(late, Farewell::NotAMember)]);
    node.hear(Input::Unlinked(late));
    assert!(dials(&plain(node.pass(60 * MINUTE_MS))).iter().all(|of| *of != device(2)));
}

#[test]
fn a_common_community_keeps_a_link() {
    let mut node = Node::new(11);
    node.meet(GARDEN, [1, 2], []);
    node.meet(CHOIR, [1], []);
    let (link, effects) = node.link(1, true);
    assert_eq!(exchanges(&effects), [link, link], "one for each community");
    assert!(closed(&node.meet(GARDEN, [2], [])).is_empty());
    let effects = node.hear(Input::Left(CHOIR));
    assert_eq!(effects, vec![Effect::Close(link, Farewell::NotAMember)]);
}

#[test]
fn whoever_left_a_community_exchanges_nothing_of_it() {
    let mut node = Node::new(12);
    node.meet(GARDEN, [1], []);
    node.meet(CHOIR, [1], []);
    let (link, _) = node.link(1, true);
    node.hear(Input::Left(GARDEN));
    // What was under way breaks off, and is not tried again for ever.
    let effects = node.hear(Input::Exchanged(link, GARDEN, None));
    let later = plain(node.pass(10 * MINUTE_MS));
    let of_garden = |effect: &Effect| matches!(effect, Effect::Exchange(_, of) if *of == GARDEN);
    assert!(!effects.iter().chain(&later).any(of_garden));
}

#[test]
fn offline_closes_everything_and_dials_nobody() {
    let (mut node, _) = Node::among(13, 1..=8);
    let links: BTreeSet<_> = (1..=3).map(|n| node.link(n, true).0).collect();
    let effects = node.hear(Input::Online(false));
    assert_eq!(closed(&effects), links);
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Close(_, Farewell::Offline))));
    assert_eq!(node.hub.next_wake_ms(), None);
    // One that came about meanwhile goes, too.
    let (late, effects) = node.link(4, true);
    assert_eq!(effects, vec![Effect::Close(late, Farewell::Offline)]);
    for link in links.into_iter().chain([late]) {
        node.hear(Input::Unlinked(link));
    }
    for n in 5..=8 {
        assert_eq!(node.hear(Input::DialFailed(device(n))), Vec::new());
    }
    let effects = node.hear(Input::Online(true));
    assert_eq!(dials(&effects), devices(1..=8), "all at once, without a pause");
}

/// Both dial at once: of the two links both sides give up the same, and only once
/// the other has shown that it works.
#[test]
fn of_two_links_with_a_device_one_is_given_up() {
    // Device 0 has the smaller id, so the link stays that it dialled.
    for mine_first in [true, false] {
        let (mut node, _) = Node::among(14, [1, 2]);
        let (one, _) = node.link(1, mine_first);
        let (other, _) = node.link(1, !mine_first);
        let (mine, theirs) = if mine_first { (one, other) } else { (other, one) };
        assert!(closed(&node.hear(Input::Tick)).is_empty(), "the older may be dead");
        assert!(closed(&node.done(theirs)).is_empty());
        assert_eq!(node.done(mine), vec![Effect::Close(theirs, Farewell::Enough)]);
        node.hear(Input::Unlinked(theirs));
        assert_eq!(node.hub.linked_devices().collect::<Vec<_>>(), [device(1)]);
        node.hear(Input::Unlinked(mine));
        let later = plain(node.pass(1_000));
        assert_eq!(dials(&later), devices([1]), "and it is dialled when it is lost");
    }
}

#[test]
fn whoever_calls_may_be_a_member_of_whom_nobody_has_told_the_hub() {
    let (mut node, _) = Node::among(12, 1..=4);
    let (_, effects) = node.link(5, false);
    assert!(closed(&effects).is_empty(), "it was let in by who knows better");
    assert!(closed(&node.meet(GARDEN, 1..=5, [])).is_empty());
    let (stranger, _) = node.link(6, false);
    assert_eq!(closed(&node.meet(GARDEN, 1..=5, [])), [stranger].into());
}
