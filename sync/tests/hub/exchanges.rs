//! When a node exchanges with whom.

use std::collections::BTreeSet;

use exo_sync::hub::{Effect, Input};

use super::{CHOIR, GARDEN, Node, device, devices, exchanges, hint, plain};

const MINUTE_MS: u64 = 60_000;

/// One with links to these of a large community, on which nothing runs.
fn linked(seed: u64, to: impl IntoIterator<Item = usize>) -> (Node, Vec<u64>) {
    let (mut node, _) = Node::among(seed, 1..=40);
    let links = to.into_iter().map(|n| node.link(n, false).0).collect();
    (node, links)
}

#[test]
fn whoever_dialled_begins() {
    let (mut node, _) = Node::among(1, 1..=8);
    let (mine, effects) = node.link(1, true);
    assert_eq!(exchanges(&effects), [mine]);
    let (_, effects) = node.link(2, false);
    assert_eq!(exchanges(&effects), [0; 0]);
}

#[test]
fn one_link_is_compared_every_half_minute_or_so() {
    let (mut node, links) = linked(2, 1..=6);
    let mut at_ms = Vec::new();
    let mut compared = BTreeSet::new();
    for _ in 0..3_600 {
        for (now_ms, effect) in node.pass(1_000) {
            if let Effect::Exchange(link, _) = effect {
                at_ms.push(now_ms);
                compared.insert(link);
                node.done(link);
            }
        }
    }
    assert!((55..=125).contains(&at_ms.len()), "{} in an hour", at_ms.len());
    assert!(at_ms.windows(2).all(|pair| (30_000..=61_000).contains(&(pair[1] - pair[0]))), "{at_ms:?}");
    assert_eq!(compared.len(), links.len(), "each has its turn");
}

#[test]
fn a_hint_is_asked_of_its_author_then_of_who_passed_it_on_then_of_others() {
    let (mut node, links) = linked(3, [1, 2, 3, 4]);
    let hinted = Input::Hinted { community: GARDEN, origin: device(2), by: device(3), hint: hint(2, 5) };
    assert_eq!(exchanges(&node.hear(hinted)), [links[1]]);
    node.done(links[1]);
    let second = exchanges(&plain(node.pass(20)));
    assert_eq!(second, [links[2]]);
    node.done(links[2]);
    let third = exchanges(&plain(node.pass(60)));
    assert_eq!(third.len(), 1, "somebody");
    // It is here now: nobody is asked any more.
    node.write(1..=40, &[(2, 5)]);
    node.done(third[0]);
    assert!(exchanges(&plain(node.pass(10_000))).is_empty());
}

#[test]
fn a_hint_of_what_is_here_asks_nobody() {
    let (mut node, _) = linked(4, [1, 2]);
    node.write(1..=40, &[(2, 5)]);
    let hinted = Input::Hinted { community: GARDEN, origin: device(2), by: device(2), hint: hint(2, 5) };
    assert!(exchanges(&node.hear(hinted)).is_empty());
}

#[test]
fn a_slow_peer_holds_a_chase_up_for_a_second() {
    let (mut node, links) = linked(5, [1, 2]);
    let hinted = Input::Hinted { community: GARDEN, origin: device(1), by: device(1), hint: hint(1, 5) };
    assert_eq!(exchanges(&node.hear(hinted)), [links[0]]);
    assert!(exchanges(&plain(node.pass(900))).is_empty(), "it may still bring it");
    assert_eq!(exchanges(&plain(node.pass(200))), [links[1]]);
}

/// Exchanges within a time in which each ends at once and brings nothing.
fn asked(node: &mut Node, ms: u64) -> usize {
    let mut asked = 0;
    for _ in 0..ms / 50 {
        for link in exchanges(&plain(node.pass(50))) {
            asked += 1;
            node.done(link);
        }
    }
    asked
}

#[test]
fn whoever_hints_in_vain_is_not_believed_for_a_while() {
    let (mut node, links) = linked(6, 1..=6);
    let lie =
        |n: u64| Input::Hinted { community: GARDEN, origin: device(9), by: device(1), hint: hint(9, n) };
    let mut in_all = 0;
    for minute in 0..10 {
        for n in 0..1_200 {
            let effects = node.hear(lie(1_000 + minute * 1_200 + n));
            for link in exchanges(&effects) {
                in_all += 1;
                node.done(link);
            }
            in_all += asked(&mut node, 50);
        }
    }
    assert!(in_all < 200, "{in_all} exchanges for 12,000 lies");
    // What another says is believed at once, and what was doubted is found by
    // comparison.
    let hinted = Input::Hinted { community: GARDEN, origin: device(2), by: device(1), hint: hint(2, 5) };
    assert_eq!(exchanges(&node.hear(hinted)), [links[1]]);
}

#[test]
fn a_true_hint_restores_belief() {
    let (mut node, _) = linked(7, 1..=6);
    let hinted = |n| Input::Hinted { community: GARDEN, origin: device(9), by: device(9), hint: hint(9, n) };
    let first = exchanges(&node.hear(hinted(5)));
    first.into_iter().for_each(|link| drop(node.done(link)));
    asked(&mut node, 15_000);
    assert!(exchanges(&node.hear(hinted(6))).is_empty(), "not believed");
    node.pass(10_000);
    let again = exchanges(&node.hear(hinted(6)));
    assert_eq!(again.len(), 1, "believed again after ten seconds");
    node.write(1..=40, &[(9, 6)]);
    again.into_iter().for_each(|link| drop(node.done(link)));
    assert_eq!(exchanges(&node.hear(hinted(7))).len(), 1);
}

#[test]
fn a_hint_without_any_link_ends_and_is_nobodys_lie() {
    let (mut node, _) = Node::among(8, 1..=40);
    let hinted = || Input::Hinted { community: GARDEN, origin: device(9), by: device(9), hint: hint(9, 5) };
    node.hear(hinted());
    let mut wakes = 0;
    let until_ms = node.now_ms + 20_000;
    while let Some(next_ms) = node.hub.next_wake_ms().filter(|next_ms| *next_ms <= until_ms) {
        wakes += 1;
        node.now_ms = next_ms;
        node.hear(Input::Tick);
    }
    assert!(wakes < 20, "woken {wakes} times in 20 s with nobody to ask");
    let (link, _) = node.link(9, false);
    assert_eq!(exchanges(&node.hear(hinted())), [link]);
}

#[test]
fn deaf_peers_are_told_by_exchange() {
    let (mut node, links) = linked(9, [1, 2, 3]);
    let here = exo_sync::hub::Presence::Here(Default::default());
    node.hear(Input::Presence(GARDEN, device(1), here));
    node.hear(Input::Neighbours(GARDEN, devices([2])));
    node.done(links[1]);
    let effects = node.write(1..=40, &[(0, 1)]);
    assert_eq!(exchanges(&effects), [links[2]], "gossip reaches the first two");
    assert!(exchanges(&node.write(1..=40, &[(0, 1), (5, 9)])).is_empty(), "others' words are theirs to tell");
}

#[test]
fn whoever_comes_up_as_a_neighbour_is_compared_with() {
    let (mut node, links) = linked(10, [1, 2]);
    assert_eq!(exchanges(&node.hear(Input::Neighbours(GARDEN, devices([1])))), [links[0]]);
    node.done(links[0]);
    assert!(exchanges(&node.hear(Input::Neighbours(GARDEN, devices([1])))).is_empty());
}

#[test]
fn lost_gossip_is_made_up_for_at_once() {
    let (mut node, _) = linked(11, [1, 2]);
    assert_eq!(exchanges(&node.hear(Input::Lagged(GARDEN))).len(), 1);
}

#[test]
fn exchanges_that_fail_are_tried_again_ever_later() {
    let (mut node, _) = Node::among(12, 1..=8);
    let (link, _) = node.link(1, true);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let failed_ms = node.now_ms;
        node.exchanged(link, None);
        let again = loop {
            let next_ms = node.hub.next_wake_ms().expect("it is tried again");
            node.now_ms = node.now_ms.max(next_ms);
            if !exchanges(&node.hear(Input::Tick)).is_empty() {
                break node.now_ms;
            }
        };
        pauses.push(again - failed_ms);
    }
    assert!(pauses[0] <= 2_000 && pauses[4] >= 16_000, "{pauses:?}");
    assert!(pauses[5..].iter().all(|pause| (32_000..=64_000).contains(pause)), "{pauses:?}");
    // A person who wants it now does not wait; hints and comparisons do.
    node.exchanged(link, None);
    let hinted = Input::Hinted { community: GARDEN, origin: device(1), by: device(1), hint: hint(1, 5) };
    assert!(exchanges(&node.hear(hinted)).is_empty());
    assert_eq!(exchanges(&node.hear(Input::Wanted(GARDEN, device(1)))), [link]);
}

#[test]
fn what_was_put_off_is_asked_for_again_while_something_comes() {
    let (mut node, _) = Node::among(13, 1..=8);
    let (link, _) = node.link(1, true);
    let mut rounds = 0;
    while !exchanges(&node.exchanged(link, Some((1, 1)))).is_empty() {
        rounds += 1;
        assert!(rounds < 20, "a peer that always brings something keeps nobody busy");
    }
    assert_eq!(rounds, 7, "eight in all");
}

/// Neither a neighbour of gossip nor a wish makes a device a member.
#[test]
fn nothing_is_exchanged_with_whoever_is_not_in_the_community() {
    let mut node = Node::new(14);
    node.meet(GARDEN, [1, 2], []);
    node.meet(CHOIR, [3], []);
    let (link, effects) = node.link(3, true);
    assert!(effects.contains(&Effect::Exchange(link, CHOIR)));
    let wanted = node.hear(Input::Wanted(GARDEN, device(3)));
    let neighbour = node.hear(Input::Neighbours(GARDEN, devices([3])));
    let written = node.write([1, 2], &[(0, 1)]);
    let later = plain(node.pass(10 * MINUTE_MS));
    let of_garden = |effect: &Effect| matches!(effect, Effect::Exchange(_, of) if *of == GARDEN);
    let all = [wanted, neighbour, written, later].concat();
    assert!(!all.iter().any(of_garden), "{all:?}");
}
