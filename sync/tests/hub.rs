//! The mesh as a machine: whom it links with, what it exchanges, what it says,
//! and that it rests when there is nothing to do.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exo_model::feed::{FeedId, FeedPosition, Stream};
use exo_model::id::{ChangeHash, ChannelId, CommunityId, DeviceId};
use exo_model::port::StoredLine;
use exo_sync::hub::{
    Company, DEGREE, Effect, Exchanged, FULL_MESH_MAX, Farewell, Hint, Hub, Input, LINKS_MAX, LinkId, Load,
    NEWS_MAX, Presence, Random, TYPING_LASTS_MS,
};
use exo_sync::session::{Ends, FeedHead};

use common::Rng;

const GARDEN: CommunityId = CommunityId::from_bytes([1; 32]);
const ME: DeviceId = DeviceId::from_bytes([0xee; 32]);

struct Dice(Rng);

impl Random for Dice {
    fn next(&mut self) -> u64 {
        self.0.next()
    }
}

fn device(n: u8) -> DeviceId {
    DeviceId::from_bytes([n; 32])
}

fn feed(of: DeviceId) -> FeedId {
    FeedId::new(GARDEN, of, Stream::Channel(ChannelId::from_bytes([3; 16])))
}

/// Where one feed of each device ends.
fn ends(of: &[(DeviceId, u64)]) -> Arc<Ends> {
    let line = |(device, seq): &(DeviceId, u64)| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&seq.to_le_bytes());
        let end = FeedPosition { seq: *seq, hash: ChangeHash::from_bytes(hash) };
        StoredLine { id: feed(*device).into(), parent: None, base_seq: 0, end }
    };
    Arc::new(Ends::of(GARDEN, &of.iter().map(line).collect::<Vec<_>>()))
}

/// A hub with a clock and with links that come about when they are dialled.
struct Lab {
    hub: Hub,
    now_ms: u64,
    dice: Dice,
    links: BTreeMap<LinkId, DeviceId>,
    next_link: LinkId,
    /// Devices that answer.
    up: BTreeSet<DeviceId>,
    exchanges: Vec<(LinkId, CommunityId)>,
    hints: Vec<Hint>,
    announced: usize,
    farewells: Vec<(DeviceId, Farewell)>,
    dials: Vec<(u64, DeviceId)>,
    steps: usize,
}

impl Lab {
    fn new(seed: u64) -> Self {
        Self {
            hub: Hub::new(ME),
            now_ms: 1_000,
            dice: Dice(Rng(seed)),
            links: BTreeMap::new(),
            next_link: 0,
            up: BTreeSet::new(),
            exchanges: Vec::new(),
            hints: Vec::new(),
            announced: 0,
            farewells: Vec::new(),
            dials: Vec::new(),
            steps: 0,
        }
    }

    /// In a community with devices 1 to `others`, all of which answer.
    fn among(seed: u64, others: u8) -> Self {
        let mut lab = Self::new(seed);
        lab.up = (1..=others).map(device).collect();
        lab.community(&lab.up.clone(), &[], &[]);
        lab
    }

    fn community(&mut self, devices: &BTreeSet<DeviceId>, close: &[DeviceId], of: &[(DeviceId, u64)]) {
        let company = Company { devices: devices.clone(), close: close.iter().copied().collect() };
        self.tell(Input::Community { company: Arc::new(company), ends: ends(of) });
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.steps += 1;
            for effect in self.hub.handle(self.now_ms, &mut self.dice, input) {
                inputs.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Dial(device) => {
                self.dials.push((self.now_ms, device));
                if !self.up.contains(&device) {
                    return Some(Input::DialFailed(device));
                }
                self.next_link += 1;
                self.links.insert(self.next_link, device);
                Some(Input::Linked { link: self.next_link, device, dialled: true })
            }
            Effect::Close(link, farewell) => {
                let device = self.links.remove(&link)?;
                self.farewells.push((device, farewell));
                Some(Input::Unlinked(link))
            }
            Effect::Exchange(link, community) => {
                assert!(self.links.contains_key(&link), "an exchange on a link that is gone");
                self.exchanges.push((link, community));
                None
            }
            Effect::Hint(_, hint) => {
                self.hints.push(hint);
                None
            }
            Effect::Announce(..) => {
                self.announced += 1;
                None
            }
            Effect::Introduce(..) => None,
        }
    }

    /// Ends all exchanges that are under way.
    fn finish(&mut self, outcome: Option<Exchanged>) {
        for (link, community) in std::mem::take(&mut self.exchanges) {
            if self.links.contains_key(&link) {
                self.tell(Input::Exchanged(link, community, outcome));
            }
        }
    }

    fn finish_well(&mut self) {
        self.finish(Some(Exchanged { stored: 0, deferred: 0 }));
    }

    /// Lets time pass; exchanges end at once.
    fn wait(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        loop {
            self.finish_well();
            let next = self.hub.next_wake_ms().filter(|at| *at <= until);
            let Some(next) = next else { break };
            self.now_ms = self.now_ms.max(next);
            self.tell(Input::Tick);
        }
        self.now_ms = until;
    }

    fn linked(&self) -> BTreeSet<DeviceId> {
        self.links.values().copied().collect()
    }

    fn asked(&self) -> BTreeSet<DeviceId> {
        self.exchanges.iter().filter_map(|(link, _)| self.links.get(link)).copied().collect()
    }
}

#[test]
fn a_small_community_is_fully_linked_and_a_large_one_is_not() {
    let small = u8::try_from(FULL_MESH_MAX).expect("few");
    for others in 1..=small {
        assert_eq!(Lab::among(7, others).linked().len(), usize::from(others));
    }
    for others in [small + 1, 40, 200] {
        for seed in 0..20 {
            let lab = Lab::among(seed, others);
            assert_eq!(lab.linked().len(), DEGREE, "{others} others, seed {seed}");
        }
    }
    let choices: BTreeSet<_> = (0..20).map(|seed| Lab::among(seed, 200).linked()).collect();
    assert!(choices.len() > 15, "different nodes choose differently");
}

#[test]
fn own_devices_and_keepers_are_always_linked() {
    let mut lab = Lab::new(3);
    lab.up = (1..=100).map(device).collect();
    let close = [device(50), device(51), device(52)];
    lab.community(&lab.up.clone(), &close, &[]);
    assert!(close.iter().all(|device| lab.linked().contains(device)));
    lab.wait(3_600_000);
    assert!(close.iter().all(|device| lab.linked().contains(device)), "for hours");
}

#[test]
fn a_large_community_changes_links_and_keeps_few() {
    let mut lab = Lab::among(11, 100);
    let first = lab.linked();
    lab.wait(24 * 3_600_000);
    let links = lab.links.len();
    assert!((DEGREE..=LINKS_MAX + 1).contains(&links), "{links} links after a day");
    assert_ne!(lab.linked(), first);
    assert!(lab.farewells.iter().all(|(_, farewell)| *farewell == Farewell::Enough));
    let met: BTreeSet<_> = lab.dials.iter().map(|(_, device)| *device).collect();
    assert!(met.len() > 80, "{} of 100 met within a day: a split heals", met.len());
}

#[test]
fn n4_dials_of_someone_who_is_gone_back_off_and_come_at_once_when_there_is_reason() {
    let mut lab = Lab::new(5);
    lab.community(&BTreeSet::from([device(1)]), &[], &[]);
    lab.wait(3_600_000);
    let times: Vec<_> = lab.dials.iter().map(|(at, _)| *at).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] < 500 && times.len() < 40, "{} dials in an hour: {pauses:?}", times.len());
    assert!(pauses.last().is_some_and(|pause| *pause >= 150_000), "{pauses:?}");
    for reason in [Input::NetworkChanged, Input::Seen(device(1))] {
        let before = lab.dials.len();
        lab.tell(reason);
        assert_eq!(lab.dials.len(), before + 1, "at once");
    }
    lab.up.insert(device(1));
    lab.tell(Input::NetworkChanged);
    assert_eq!(lab.linked(), BTreeSet::from([device(1)]));
}

#[test]
fn who_dials_exchanges_at_once_and_failed_exchanges_are_tried_again() {
    let mut lab = Lab::among(1, 2);
    assert_eq!(lab.asked().len(), 2);
    lab.finish(None);
    assert!(lab.exchanges.is_empty(), "not at once");
    lab.now_ms += 2_000;
    lab.tell(Input::Tick);
    assert_eq!(lab.asked().len(), 2, "tried again");
    // What is put off is asked for again while something still comes in.
    lab.finish(Some(Exchanged { stored: 5, deferred: 1 }));
    assert_eq!(lab.asked().len(), 2);
    for _ in 0..20 {
        lab.finish(Some(Exchanged { stored: 5, deferred: 1 }));
    }
    assert!(lab.exchanges.is_empty(), "not for ever");
    // Somebody who dialled us begins.
    lab.tell(Input::Linked { link: 99, device: device(1), dialled: false });
    assert!(lab.exchanges.is_empty());
}

#[test]
fn n3_what_a_hint_names_is_fetched_from_its_author_then_from_others() {
    let mut lab = Lab::among(2, 5);
    lab.finish_well();
    let head =
        FeedHead::new(&feed(device(3)), FeedPosition { seq: 4, hash: ChangeHash::from_bytes([4; 32]) });
    let hint = Hint { root: [9; 32], news: vec![head], more: false };
    let hinted = Input::Hinted { community: GARDEN, origin: device(3), by: device(4), hint };
    lab.tell(hinted.clone());
    assert_eq!(lab.asked(), BTreeSet::from([device(3)]), "the author");
    lab.finish_well();
    lab.now_ms += 200;
    lab.tell(Input::Tick);
    assert_eq!(lab.asked(), BTreeSet::from([device(4)]), "who passed it on");
    let mut asked = 2;
    for _ in 0..50 {
        lab.finish_well();
        lab.now_ms += 500;
        lab.tell(Input::Tick);
        asked += lab.exchanges.len();
    }
    assert!((3..=8).contains(&asked), "a few more are asked, then it waits for a comparison: {asked}");
    // Once it is here, nobody is asked.
    lab.finish_well();
    lab.community(&lab.up.clone(), &[], &[(device(3), 4)]);
    lab.finish_well();
    lab.tell(hinted);
    assert!(lab.exchanges.is_empty());
}

#[test]
fn n6_a_flood_of_hints_makes_few_exchanges() {
    let mut lab = Lab::among(2, 5);
    lab.finish_well();
    let mut asked = 0;
    for n in 0..5_000_u64 {
        let position = FeedPosition { seq: 1_000 + n, hash: ChangeHash::from_bytes([4; 32]) };
        let news = vec![FeedHead::new(&feed(device(1)), position); 2 * NEWS_MAX];
        let hint = Hint { root: [9; 32], news, more: true };
        lab.tell(Input::Hinted { community: GARDEN, origin: device(1), by: device(1), hint });
        asked += lab.exchanges.len();
        lab.exchanges.dedup();
        if n % 100 == 0 {
            lab.finish_well();
        }
        lab.now_ms += 1;
    }
    assert!(lab.exchanges.len() <= 5, "one a link at a time");
    assert!(asked < 50_000, "{asked}");
    lab.finish_well();
    lab.wait(60_000);
    lab.steps = 0;
    lab.wait(60_000);
    assert!(lab.steps < 50, "it forgets what never comes: {} steps in a minute", lab.steps);
}

#[test]
fn what_this_device_writes_is_hinted_at_and_told_to_the_deaf() {
    let mut lab = Lab::among(4, 3);
    lab.finish_well();
    let all = lab.up.clone();
    lab.tell(Input::Neighbours(GARDEN, BTreeSet::from([device(1), device(2)])));
    lab.finish_well();
    lab.community(&all, &[], &[(ME, 1)]);
    assert_eq!(lab.hints.len(), 1);
    assert_eq!((lab.hints[0].news.len(), lab.hints[0].more), (1, false));
    assert_eq!(lab.asked(), BTreeSet::from([device(3)]), "gossip does not reach this one");
    lab.finish_well();
    // Nothing new, nothing said.
    lab.community(&all, &[], &[(ME, 1)]);
    assert_eq!(lab.hints.len(), 1);
    // What others wrote is passed on where nobody hinted at it.
    lab.community(&all, &[], &[(ME, 1), (device(1), 5)]);
    assert_eq!(lab.hints.len(), 1);
    lab.tell(Input::Wanted(GARDEN, device(2)));
    lab.finish(Some(Exchanged { stored: 5, deferred: 0 }));
    assert_eq!(lab.hints.len(), 2);
}

#[test]
fn n5_a_link_to_someone_who_is_out_ends_at_once() {
    let mut lab = Lab::among(6, 4);
    let rest = BTreeSet::from([device(1), device(3)]);
    lab.community(&rest, &[], &[]);
    assert_eq!(lab.linked(), rest);
    let parted: BTreeSet<_> = lab.farewells.iter().map(|(device, _)| *device).collect();
    assert_eq!(parted, BTreeSet::from([device(2), device(4)]));
    assert!(lab.farewells.iter().all(|(_, farewell)| *farewell == Farewell::NotAMember));
    let before = lab.dials.len();
    lab.wait(3_600_000);
    assert!(lab.dials[before..].iter().all(|(_, device)| rest.contains(device)), "and is not dialled");
    // Who is in another common community stays linked, for that one.
    let elsewhere = CommunityId::from_bytes([2; 32]);
    let company = Company { devices: BTreeSet::from([device(1)]), close: BTreeSet::new() };
    let nothing = Arc::new(Ends::nothing(elsewhere));
    lab.tell(Input::Community { company: Arc::new(company), ends: nothing });
    lab.finish_well();
    lab.community(&BTreeSet::from([device(3)]), &[], &[]);
    assert_eq!(lab.linked(), rest);
    lab.tell(Input::Wanted(elsewhere, device(1)));
    assert!(lab.exchanges.iter().all(|(_, community)| *community == elsewhere));
}

#[test]
fn offline_closes_everything_and_online_finds_it_again() {
    let mut lab = Lab::among(8, 5);
    lab.tell(Input::Online(false));
    assert!(lab.links.is_empty());
    assert_eq!(lab.hub.next_wake_ms(), None, "nothing to wake up for");
    let before = lab.dials.len();
    lab.now_ms += 3_600_000;
    lab.tell(Input::Tick);
    lab.tell(Input::NetworkChanged);
    assert_eq!(lab.dials.len(), before);
    lab.tell(Input::Online(true));
    assert_eq!(lab.linked().len(), 5);
}

#[test]
fn an_idle_node_rests() {
    for others in [0, 1, 8, 30] {
        let mut lab = Lab::among(9, others);
        lab.wait(60_000);
        lab.steps = 0;
        lab.wait(3_600_000);
        // Comparisons every half a minute or so, presence, a change of links.
        assert!(lab.steps < 600, "{} steps in an hour among {others}", lab.steps);
        assert!((7..=16).contains(&lab.announced), "{} words of presence", lab.announced);
    }
}

#[test]
fn presence_and_typing_run_out() {
    let mut lab = Lab::among(10, 2);
    let load = Load { cpu_percent: 40, free_mib: 1_024, sessions: 1 };
    lab.tell(Input::Presence(GARDEN, device(1), Presence::Here(load)));
    let stream = feed(ME).stream;
    lab.tell(Input::Presence(GARDEN, device(1), Presence::Typing(stream)));
    let heard = |lab: &Lab| {
        let presences = lab.hub.presences(&GARDEN).expect("open");
        (presences.load(&device(1), lab.now_ms), presences.typing(&stream, lab.now_ms))
    };
    assert_eq!(heard(&lab), (Some(load), vec![device(1)]));
    lab.now_ms += TYPING_LASTS_MS;
    assert_eq!(heard(&lab), (Some(load), Vec::new()));
    lab.now_ms += 3_600_000;
    assert_eq!(heard(&lab), (None, Vec::new()));
    lab.tell(Input::Presence(GARDEN, device(1), Presence::Here(load)));
    lab.tell(Input::Presence(GARDEN, device(1), Presence::Gone));
    assert_eq!(heard(&lab).0, None);
    // News of this machine is said soon, and not more often than is stated.
    let before = lab.announced;
    for percent in 0..100 {
        lab.tell(Input::Present(Load { cpu_percent: percent, ..load }));
        lab.now_ms += 100;
    }
    assert!((1..=4).contains(&(lab.announced - before)), "{}", lab.announced - before);
}
