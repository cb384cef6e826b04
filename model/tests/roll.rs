//! Lists for keepers: who posts them, and which of them is believed, by
//! keepers that cannot read the charter and by members alike.

mod home;
mod roll_stories;

use std::collections::BTreeSet;

use exo_model::charter::Role;
use exo_model::codec;
use exo_model::envelope::ENVELOPE_BYTES_MAX;
use exo_model::event::Event;
use exo_model::event::keys::{KeyEvent, LIST_PARTS_MAX, Listed, StreamEnd};
use exo_model::feed::{FeedId, Stream, VerifiedEvent};
use exo_model::roll::{ANCHOR_BYTES_MAX, KeeperAnchor, ListedPerson, Listing, Roll};
use exo_model::{ChangeHash, CommunityId, DeviceId};

use home::seeded::{Rng, hash};

const COMMUNITY: CommunityId = CommunityId::from_bytes([9; 32]);

fn device(n: u16) -> DeviceId {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    DeviceId::from_bytes(bytes)
}

/// People of one device each, who may list.
fn listers(roles: &[(u16, Role)]) -> Listing {
    let person = |(n, role): &(u16, Role)| ListedPerson { role: *role, devices: vec![device(*n)] };
    Listing { listers: roles.iter().map(person).collect(), ..Listing::default() }
}

/// A feed of lists that is written by hand.
struct Pen {
    feed: FeedId,
    line: u32,
    seq: u64,
    last: ChangeHash,
}

impl Pen {
    fn of(n: u16) -> Self {
        let feed = FeedId::new(COMMUNITY, device(n), Stream::Keys);
        Self { feed, line: 0, seq: 0, last: ChangeHash::from_bytes([0; 32]) }
    }

    /// The events of a list, and its name.
    fn list(
        &mut self,
        rng: &mut Rng,
        follows: Option<ChangeHash>,
        listing: &Listing,
    ) -> (Vec<VerifiedEvent>, ChangeHash) {
        let events: Vec<_> = listing.post(follows).into_iter().map(|event| self.event(rng, event)).collect();
        (events, self.last)
    }

    fn event(&mut self, rng: &mut Rng, event: KeyEvent) -> VerifiedEvent {
        self.seq += 1;
        let previous = std::mem::replace(&mut self.last, hash(rng.next()));
        VerifiedEvent {
            feed: self.feed,
            seq: self.seq,
            hash: self.last,
            line: self.line,
            previous,
            time_ms: 0,
            lamport: self.seq,
            heads: [].into(),
            founding: false,
            event: Ok(event.into()),
        }
    }
}

fn roll(events: &[VerifiedEvent]) -> Roll {
    let mut roll = Roll::default();
    for event in events {
        roll.take(event);
    }
    roll
}

fn believed(events: &[VerifiedEvent], base: &Listing) -> Listing {
    let base = base.clone();
    let first = base.clone();
    roll(events).tree(base, |_, by| first.is_lister(by)).listing()
}

/// A listing of some of a few devices, by chance.
fn any_listing(rng: &mut Rng) -> Listing {
    let mut roles = Vec::new();
    for n in 0..6 {
        if !rng.one_in(3) {
            roles.push((n, [Role::Owner, Role::Admin, Role::Moderator][rng.below(3)]));
        }
    }
    roles.sort_by_key(|(n, role)| (std::cmp::Reverse(*role), *n));
    let mut listing = listers(&roles);
    if listing.listers.is_empty() {
        listing = listers(&[(0, Role::Owner)]);
    }
    listing.writers = (10..10 + rng.below(4)).map(|n| device(u16::try_from(n).expect("few"))).collect();
    listing
}

/// Lists of honest people, liars and outsiders, some of them on feeds that
/// part, some without all their parts.
fn any_history(rng: &mut Rng) -> Vec<VerifiedEvent> {
    let mut pens: Vec<Pen> = (0..6).map(Pen::of).collect();
    let mut names = vec![None];
    let mut events = Vec::new();
    for _ in 0..24 {
        let pen = rng.below(pens.len());
        if rng.one_in(8) {
            // Goes back to the beginning on a line of its own.
            pens[pen].line += 1;
            (pens[pen].seq, pens[pen].last) = (0, ChangeHash::from_bytes([0; 32]));
        }
        let follows = *rng.pick(&names).expect("one");
        let listing = any_listing(rng);
        let (mut posted, name) = pens[pen].list(rng, follows, &listing);
        if rng.one_in(8) {
            posted.pop();
        }
        names.push(Some(name));
        events.extend(posted);
    }
    events
}

#[test]
fn keepers_with_the_same_events_believe_the_same_list() {
    let mut beliefs = BTreeSet::new();
    let mut moved = 0;
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let base = listers(&[(0, Role::Owner), (1, Role::Owner), (2, Role::Admin), (3, Role::Moderator)]);
        let mut events = any_history(&mut rng);
        let first = believed(&events, &base);
        moved += usize::from(first != base);
        for _ in 0..6 {
            rng.shuffle(&mut events);
            // Twice changes nothing.
            let again: Vec<_> = events.iter().chain(&events[..4]).cloned().collect();
            assert_eq!(believed(&again, &base), first, "seed {seed}");
        }
        beliefs.insert(codec::encode(&first.entries().collect::<Vec<_>>()));
    }
    assert!(moved > 200 && beliefs.len() > 100, "the histories differ: {moved}, {}", beliefs.len());
}

#[test]
fn higher_ranks_are_believed_before_lower_ones_and_more_before_fewer() {
    let mut rng = Rng(1);
    let base =
        listers(&[(0, Role::Owner), (1, Role::Owner), (2, Role::Owner), (3, Role::Admin), (4, Role::Admin)]);
    let one = |n| listers(&[(n, Role::Owner)]);
    // Two admins against an owner.
    let (coup, name) = Pen::of(3).list(&mut rng, None, &listers(&[(3, Role::Owner), (4, Role::Owner)]));
    let (join, _) = Pen::of(4).list(&mut rng, Some(name), &listers(&[(3, Role::Owner), (4, Role::Owner)]));
    let (owners, _) = Pen::of(2).list(&mut rng, None, &one(2));
    let all = [coup, join, owners].concat();
    assert_eq!(believed(&all, &base), one(2));
    // Two owners against the most senior one.
    let both = listers(&[(1, Role::Owner), (2, Role::Owner)]);
    let (alone, _) = Pen::of(0).list(&mut rng, None, &one(0));
    let (first, name) = Pen::of(1).list(&mut rng, None, &both);
    assert_eq!(believed(&[alone.clone(), first.clone()].concat(), &base), one(0), "one each: the senior");
    let (second, _) = Pen::of(2).list(&mut rng, Some(name), &both);
    assert_eq!(believed(&[alone, first, second].concat(), &base), both);
}

#[test]
fn who_spoke_for_one_line_cannot_speak_for_another() {
    let mut rng = Rng(2);
    let base = listers(&[(0, Role::Owner), (1, Role::Admin)]);
    let mut ona = Pen::of(0);
    let (first, name) = ona.list(&mut rng, None, &base);
    // The owner goes, as the list they post themselves says.
    let (goes, gone) = ona.list(&mut rng, Some(name), &listers(&[(1, Role::Owner)]));
    let (then, _) = Pen::of(1).list(&mut rng, Some(gone), &listers(&[(1, Role::Owner), (2, Role::Admin)]));
    // And comes back to where they had a say.
    let (back, _) = ona.list(&mut rng, Some(name), &listers(&[(0, Role::Owner)]));
    let (anew, _) = ona.list(&mut rng, None, &listers(&[(0, Role::Owner)]));
    let all = [first, goes, then, back, anew].concat();
    assert_eq!(believed(&all, &base), listers(&[(1, Role::Owner), (2, Role::Admin)]));
    // On a line beside the first one they have said two things, and no vote.
    let mut beside = Pen { line: 1, ..Pen::of(0) };
    let (fork, _) = beside.list(&mut rng, None, &listers(&[(0, Role::Owner)]));
    let (support, name) = Pen::of(1).list(&mut rng, None, &listers(&[(1, Role::Owner)]));
    let forked = [fork, support].concat();
    assert_eq!(believed(&forked, &base), listers(&[(1, Role::Owner)]), "{name}");
}

#[test]
fn a_list_of_the_largest_community_is_read_back_from_its_parts() {
    let mut listing = Listing::default();
    let mut next = 0_u16;
    let mut devices = |count: usize| -> Vec<DeviceId> {
        (0..count)
            .map(|_| {
                next += 1;
                device(next)
            })
            .collect()
    };
    // 1,024 people with 32 devices each, and as many former ones as fit.
    for _ in 0..512 {
        listing.listers.push(ListedPerson { role: Role::Owner, devices: devices(32) });
    }
    listing.writers = devices(16_000).into_iter().collect();
    listing.keepers = devices(384).into_iter().collect();
    let end = (Stream::Charter, (3, 4_000));
    listing.former = devices(20_000).into_iter().map(|device| (device, Some([end].into()))).collect();
    listing.bound();
    assert!(listing.former.len() > 1_000, "{}", listing.former.len());
    let events = listing.post(None);
    assert!((30..=usize::from(LIST_PARTS_MAX)).contains(&events.len()), "{} parts", events.len());
    let longest = events.iter().map(|event| codec::encode(&Event::from(event.clone())).len()).max();
    assert!(longest.expect("one") < ENVELOPE_BYTES_MAX - 4_096, "{longest:?}");

    let mut rng = Rng(3);
    let (mut posted, _) = Pen::of(1).list(&mut rng, None, &listing);
    let base = listers(&[(1, Role::Owner)]);
    assert_eq!(believed(&posted, &base), listing);
    let missing = posted.remove(7);
    assert_eq!(believed(&posted, &base), base, "no part is left out");
    posted.push(missing);
    assert_eq!(believed(&posted, &base), listing, "in any order");

    let anchor = KeeperAnchor::new(COMMUNITY, listing, None);
    assert!(anchor.encode().len() > ANCHOR_BYTES_MAX, "so many owners fit no anchor");
    assert!(KeeperAnchor::decode(&anchor.encode()).is_err(), "and that is said, not cut");
}

#[test]
fn lists_that_are_not_well_formed_say_nothing() {
    let mut rng = Rng(4);
    let base = listers(&[(1, Role::Owner)]);
    let owner = Listed::Lister { role: Role::Owner, devices: vec![device(1)] };
    let admin = Listed::Lister { role: Role::Admin, devices: vec![device(2)] };
    let end = |seq| StreamEnd { stream: Stream::Keys, segment: 0, seq };
    let former = |ends| Listed::Former { device: device(7), ends: Some(ends) };
    let bad: [Vec<Listed>; 8] = [
        vec![],
        vec![Listed::Writer(device(1))],
        vec![admin, owner.clone()],
        vec![owner.clone(), Listed::Writer(device(3)), Listed::Writer(device(2))],
        vec![owner.clone(), Listed::Writer(device(1))],
        vec![Listed::Keeper(device(3)), owner.clone()],
        vec![owner.clone(), former(vec![end(2), end(1)])],
        vec![Listed::Lister { role: Role::Owner, devices: vec![] }, owner.clone()],
    ];
    for entries in bad {
        let event = KeyEvent::ListedForKeepers { follows: None, part: 0, is_last: true, entries };
        let shown = format!("{event:?}");
        let events = [Pen::of(1).event(&mut rng, event)];
        assert_eq!(roll(&events).tree(base.clone(), |_, _| true).believed().len(), 0, "{shown}");
    }
    let event = KeyEvent::ListedForKeepers { follows: None, part: 0, is_last: true, entries: vec![owner] };
    let events = [Pen::of(1).event(&mut rng, event)];
    assert_eq!(roll(&events).tree(base, |_, _| true).believed().len(), 1);
}
