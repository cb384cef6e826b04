//! What a node says by gossip, and whom it names to it.

use exo_sync::hub::{Effect, Input, Load, NEWS_MAX, Presence};

use super::{GARDEN, Node, device, devices, hint, hints, plain};

const MINUTE_MS: u64 = 60_000;

/// Devices that gossip is told of.
fn introduced(effects: &[Effect]) -> Vec<exo_model::id::DeviceId> {
    let named = |effect: &Effect| match effect {
        Effect::Introduce(_, devices) => devices.clone(),
        _ => Vec::new(),
    };
    effects.iter().flat_map(named).collect()
}

#[test]
fn what_this_device_writes_is_hinted_at_once() {
    let (mut node, _) = Node::among(1, 1..=8);
    let told = hints(&node.write(1..=8, &[(0, 3)]));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].news, hint(0, 3).news);
    assert!(!told[0].more);
    assert!(hints(&node.write(1..=8, &[(0, 3)])).is_empty(), "once");
}

#[test]
fn what_came_without_a_hint_is_passed_on_once() {
    let (mut node, _) = Node::among(2, 1..=8);
    assert!(hints(&node.write(1..=8, &[(5, 3)])).is_empty(), "not at once");
    let told = hints(&plain(node.pass(1_000)));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].news, hint(5, 3).news);
    assert!(hints(&plain(node.pass(10 * MINUTE_MS))).is_empty());
}

#[test]
fn what_others_hinted_at_is_not_said_again() {
    let (mut node, _) = Node::among(3, 1..=8);
    let hinted =
        |n, seq| Input::Hinted { community: GARDEN, origin: device(n), by: device(n), hint: hint(n, seq) };
    // It came because of the hint.
    node.hear(hinted(5, 3));
    node.write(1..=8, &[(5, 3)]);
    // It came before the hint did.
    node.write(1..=8, &[(5, 3), (6, 4)]);
    node.hear(hinted(6, 4));
    assert!(hints(&plain(node.pass(MINUTE_MS))).is_empty());
}

#[test]
fn a_newcomer_passes_on_a_few_ends_of_all_that_it_got() {
    let (mut node, _) = Node::among(4, 1..=8);
    let all: Vec<_> = (1..=2_000).map(|n| (n, 3)).collect();
    node.write(1..=8, &all);
    let told = hints(&plain(node.pass(1_000)));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].news.len(), NEWS_MAX);
    assert!(!told[0].more, "whoever lacks one of them fetches all");
    assert!(hints(&plain(node.pass(10 * MINUTE_MS))).is_empty());
}

#[test]
fn gossip_is_told_of_each_link_once() {
    let (mut node, _) = Node::among(5, 1..=8);
    for n in 1..=8 {
        let (_, effects) = node.link(n, true);
        assert_eq!(introduced(&effects), [device(n)]);
    }
    // Neighbours come and go, as everyone who joins takes somebody's place: that is
    // no reason to join them again.
    let mut named = Vec::new();
    for n in 0..200 {
        let neighbours = devices((0..5).map(|k| 1 + (n + k) % 8));
        named.extend(introduced(&node.hear(Input::Neighbours(GARDEN, neighbours))));
        named.extend(introduced(&plain(node.pass(1_000))));
    }
    assert_eq!(named, []);
}

#[test]
fn while_gossip_has_few_neighbours_it_is_told_again_now_and_then() {
    let (mut node, _) = Node::among(6, 1..=8);
    (1..=4).for_each(|n| drop(node.link(n, true)));
    let mut named = 0;
    for _ in 0..600 {
        named += usize::from(!introduced(&plain(node.pass(1_000))).is_empty());
    }
    assert!((15..=45).contains(&named), "{named} times in ten minutes");
    node.hear(Input::Neighbours(GARDEN, devices([1, 2])));
    assert_eq!(introduced(&plain(node.pass(10 * MINUTE_MS))), []);
}

#[test]
fn a_node_says_that_it_is_there_as_soon_as_anyone_hears_it() {
    let (mut node, effects) = Node::among(7, 1..=8);
    let is_word = |effect: &Effect| matches!(effect, Effect::Announce(..));
    assert!(effects.iter().any(is_word));
    assert!(!node.pass(MINUTE_MS).iter().any(|(_, effect)| is_word(effect)));
    let effects = node.hear(Input::Neighbours(GARDEN, devices([1])));
    assert!(effects.iter().any(is_word), "what was said before went nowhere");
    // What is new is said at once, but not all the time.
    let mut said = 0;
    for n in 0..60 {
        let load = Load { cpu_percent: n, ..Load::default() };
        let effects = node.hear(Input::Present(load));
        said += effects.iter().filter(|effect| is_word(effect)).count();
        said += node.pass(1_000).iter().filter(|(_, effect)| is_word(effect)).count();
    }
    assert!((8..=13).contains(&said), "{said} words in a minute");
}

#[test]
fn presence_runs_out_and_is_said_more_rarely_in_large_communities() {
    let mut rates = Vec::new();
    for others in [20, 1_000] {
        let (mut node, _) = Node::among(8, 1..=others);
        node.hear(Input::Presence(GARDEN, device(1), Presence::Here(Load::default())));
        let heard_ms = node.now_ms;
        let said = node.pass(10 * 60 * MINUTE_MS);
        rates.push(said.iter().filter(|(_, effect)| matches!(effect, Effect::Announce(..))).count());
        let presences = node.hub.presences(&GARDEN).expect("it is open");
        let lasts_ms = if others == 20 { 825_000 } else { 5_500_000 };
        assert!(presences.load(&device(1), heard_ms + lasts_ms - 1).is_some());
        assert!(presences.load(&device(1), heard_ms + lasts_ms).is_none());
    }
    assert!((60..=120).contains(&rates[0]) && (9..=18).contains(&rates[1]), "{rates:?} words in ten hours");
}

#[test]
fn whoever_says_goodbye_is_gone() {
    let (mut node, _) = Node::among(9, 1..=8);
    let now_ms = node.now_ms;
    let load = |node: &Node| node.hub.presences(&GARDEN).and_then(|all| all.load(&device(1), now_ms));
    node.hear(Input::Presence(GARDEN, device(1), Presence::Here(Load::default())));
    assert!(load(&node).is_some());
    node.hear(Input::Presence(GARDEN, device(1), Presence::Gone));
    assert!(load(&node).is_none());
}
