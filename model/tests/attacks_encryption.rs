//! E1–E6: who can read what, decided by keys. Everything here is about real
//! feeds: what someone cannot read lies in their store, sealed.

mod home;

#[path = "attacks_encryption/places.rs"]
mod places;
#[path = "attacks_encryption/recovery.rs"]
mod recovery;

use std::collections::BTreeSet;

use exo_model::ChangeHash;
use exo_model::amount::Amount;
use exo_model::board::BoardContents;
use exo_model::charter::{Role, Setting};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::epochs::KeyDuty;
use exo_model::event::keys::{Audience, KeyEvent};
use exo_model::event::ledger::OfferKind;
use exo_model::event::{BoardEvent, LibraryEvent, ModerationEvent};
use exo_model::event::{CharterEvent, Event, TalkEvent};
use exo_model::feed::Stream;
use exo_model::id::{BoardId, DirectId, KeyId};
use exo_model::sealing::{SealContext, SealedFor};
use exo_model::weights::{ByteRange, ModelManifest};

use home::{Home, Person, garden, meet, settle};

/// A removal without a ban.
fn remove(person: &Person) -> Intent {
    Intent::Remove { person: person.id(), ban: false, reason: String::new() }
}

fn manifest() -> ModelManifest {
    ModelManifest {
        file: exo_model::BlobHash::from_bytes([6; 32]),
        size_bytes: 1_000,
        name: "Tiny".into(),
        architecture: "llama".into(),
        licence: String::new(),
        context_length: 512,
        hidden_size: 64,
        kv_bytes_per_token_layer: 256,
        header: ByteRange { start: 0, end: 100 },
        embedding: vec![ByteRange { start: 100, end: 200 }],
        layers: vec![vec![ByteRange { start: 200, end: 500 }], vec![ByteRange { start: 500, end: 800 }]],
        head: vec![ByteRange { start: 800, end: 1_000 }],
    }
}

/// Opens a direct conversation, as its first speaker does.
fn open_direct(home: &mut Home, people: &[&Person]) -> DirectId {
    let people: BTreeSet<_> = people.iter().map(|person| person.id()).collect();
    let direct = home.community.open_direct(people.clone());
    let event = TalkEvent::DirectOpened { people: people.into_iter().collect() };
    home.act(Intent::TalkDirectly(direct, event));
    direct
}

fn posted(text: &str) -> TalkEvent {
    TalkEvent::Posted { text: text.into(), reply_to: None, mentions: vec![], attachments: vec![] }
}

/// One change in every stream that is sealed.
fn write_everywhere(home: &mut Home, direct: DirectId) -> Vec<(Stream, ChangeHash)> {
    let room = home.channel();
    let context = SealContext { community: home.community.id(), audience: b"report" };
    let account = SealedFor::seal(b"spam", &[home.community.sealing_key()].into(), &context, home.entropy());
    let report = ModerationEvent::ReportFiled {
        subject: home.person(),
        message: None,
        account: account.expect("few recipients"),
    };
    let price = Amount::from_token_mib(1);
    let offer =
        exo_model::event::LedgerEvent::OfferPosted { kind: OfferKind::Hours, title: "x".into(), price };
    let machine = exo_model::event::ClusterEvent::MachineOffered {
        memory_bytes: 1 << 30,
        micros_per_mib: 1,
        addresses: vec![],
    };
    let profile = CharterEvent::ProfileSet { name: "Someone".into(), about: String::new() };
    let events: [(Stream, Event); 8] = [
        (Stream::Charter, profile.into()),
        (Stream::Ledger, offer.into()),
        (Stream::Cluster, machine.into()),
        (Stream::Library, LibraryEvent::ModelAdded { manifest: manifest() }.into()),
        (Stream::Moderation, report.into()),
        (
            Stream::Board(BoardId::from_bytes([1; 16])),
            BoardEvent::Started { contents: BoardContents::default() }.into(),
        ),
        (Stream::Channel(room), posted("in the room").into()),
        (Stream::Direct(direct), posted("between us").into()),
    ];
    events.into_iter().map(|(stream, event)| (stream, home.write(stream, &event))).collect()
}

#[test]
fn e01_a_removed_member_with_all_traffic_and_old_keys_reads_nothing_new() {
    let (people, [mut a, mut b, mut e]) = garden([Role::Owner, Role::Member, Role::Member]);
    let direct = open_direct(&mut a, &[&people[0], &people[1], &people[2]]);
    settle(&mut [&mut a, &mut b, &mut e]);
    let before = write_everywhere(&mut a, direct);
    settle(&mut [&mut a, &mut b, &mut e]);
    assert!(before.iter().all(|(_, change)| e.opens(change) && b.opens(change)), "she was one of them");

    let removal = a.act(remove(&people[2]));
    settle(&mut [&mut a, &mut b, &mut e]);
    let after: Vec<_> = [write_everywhere(&mut a, direct), write_everywhere(&mut b, direct)].concat();
    settle(&mut [&mut a, &mut b, &mut e]);
    // She brings the oldest copy of everything, and every key she ever had.
    let mut all = e.twin();
    all.read_again();
    assert!(all.opens(&removal), "that she is gone she may read");
    for (stream, change) in &after {
        assert!(b.opens(change) && a.opens(change), "{stream} stays readable to those who stay");
        assert!(!all.opens(change), "{stream}");
        assert!(all.event(change).event.is_err());
    }
    assert!(before.iter().all(|(_, change)| all.opens(change)), "what she had read nobody takes back");
    assert_eq!(seals_for_gone(&a, &people[2], &e, removal), 0, "nobody seals to her any more");
}

/// Seals for a device or a recovery key in events that know of a removal.
fn seals_for_gone(home: &Home, person: &Person, gone: &Home, removal: ChangeHash) -> usize {
    let theirs = [gone.community.sealing_key(), person.phrase.recovery_key().public()];
    let knows = |heads: &[ChangeHash]| {
        home.community.charter().seen_from(heads).is_some_and(|view| view.knows(&removal))
    };
    let later = home.events.iter().filter(|event| knows(&event.heads));
    later
        .filter_map(|event| match &event.event {
            Ok(Event::Keys(KeyEvent::EpochStarted { seals, .. } | KeyEvent::KeySealed { seals, .. })) => {
                Some(seals)
            }
            _ => None,
        })
        .flatten()
        .filter(|seal| theirs.contains(&seal.recipient))
        .count()
}

/// Ben writes before word of the removal reaches him: that one message the
/// removed reads. Nothing hides it: it cites heads that do not know of the
/// removal, and is sealed with the key from before.
#[test]
fn e02_the_window_of_a_concurrent_write_is_one_and_shows() {
    let (people, [mut a, mut b, mut e]) = garden([Role::Owner, Role::Member, Role::Member]);
    let room = a.channel();
    b.say(room, "first");
    settle(&mut [&mut a, &mut b, &mut e]);
    let old = b.writing_key(Audience::Channel(room));
    let removal = a.act(remove(&people[2]));
    let meanwhile = b.say(room, "nobody told me");
    settle(&mut [&mut a, &mut b, &mut e]);
    let next = b.say(room, "now I know");
    settle(&mut [&mut a, &mut b, &mut e]);

    assert!(e.opens(&meanwhile), "the window");
    assert!(!e.opens(&next), "is closed");
    assert_eq!((a.word(&meanwhile), a.word(&next)), (WordStanding::Counts, WordStanding::Counts));
    let knew = |change| {
        let heads = a.event(change).heads.clone();
        a.community.charter().seen_from(&heads).expect("here").knows(&removal)
    };
    assert!(!knew(&meanwhile) && knew(&next), "anyone can tell which words were in the window");
    assert_ne!(b.writing_key(Audience::Channel(room)), old);
    assert!(e.community.keyring().contains(&old));
}

#[test]
fn e03_two_concurrent_rotations_are_both_read_and_one_is_written_with() {
    let (people, [mut a, mut b, mut c, mut e]) =
        garden([Role::Owner, Role::Member, Role::Member, Role::Member]);
    let room = a.channel();
    b.say(room, "first");
    settle(&mut [&mut a, &mut b, &mut c, &mut e]);
    let fence = a.community.fence_of(&[e.device()].into());
    let gone = CharterEvent::Removed { person: people[3].id(), ban: false, reason: String::new(), fence };
    a.force(gone);
    meet(&mut [&mut a, &mut b, &mut c]);

    let told = [a.say(room, "Ana rotates"), b.say(room, "so does Ben")];
    let keys = [&a, &b].map(|home| home.writing_key(Audience::Channel(room)));
    assert_ne!(keys[0], keys[1]);
    settle(&mut [&mut a, &mut b, &mut c]);
    for home in [&a, &b, &c] {
        assert!(told.iter().all(|change| home.opens(change)), "{} reads both", home.name);
        let key = home.writing_key(Audience::Channel(room));
        assert_eq!(key, a.writing_key(Audience::Channel(room)), "{} writes on as all do", home.name);
        assert!(keys.contains(&key));
    }
    settle(&mut [&mut a, &mut b, &mut c, &mut e]);
    assert!(told.iter().all(|change| !e.opens(change)));
}

#[test]
fn e04_a_late_joiner_reads_only_what_was_granted() {
    let (_, [mut a, mut b]) = garden([Role::Owner, Role::Admin]);
    let (room, other) = (a.channel(), b.open_channel(2, false));
    a.act(Intent::ChangeSetting(Setting::OpenHistory(false)));
    settle(&mut [&mut a, &mut b]);
    let early = [b.say(room, "early"), b.say(other, "early, elsewhere")];
    settle(&mut [&mut a, &mut b]);

    let dan = Person::new(9);
    let ticket = a.invite(1);
    let mut d = a.admit("Dan", &dan, &ticket);
    settle(&mut [&mut a, &mut b, &mut d]);
    let late = [b.say(room, "late"), b.say(other, "late, elsewhere")];
    settle(&mut [&mut a, &mut b, &mut d]);
    assert!(late.iter().all(|change| d.opens(change)));
    assert!(early.iter().all(|change| !d.opens(change)));
    assert_eq!(d.hash(), a.hash(), "governance is read from its first day on");
    assert_eq!(d.try_act(Intent::GrantHistory(dan.id(), Audience::Channel(room))), Err(Refusal::NotEntitled));

    b.act(Intent::GrantHistory(dan.id(), Audience::Channel(room)));
    settle(&mut [&mut a, &mut b, &mut d]);
    assert!(d.opens(&early[0]), "granted");
    assert!(!d.opens(&early[1]), "granted for the one channel only");

    a.act(Intent::ChangeSetting(Setting::OpenHistory(true)));
    settle(&mut [&mut a, &mut b, &mut d]);
    assert!(d.opens(&early[1]), "open to all who come");
}

#[test]
fn e05_a_garbage_seal_is_noticed_complained_of_and_bettered() {
    let (people, [mut a, mut b, mut c, mut e]) =
        garden([Role::Owner, Role::Member, Role::Member, Role::Member]);
    let room = a.channel();
    b.say(room, "first");
    settle(&mut [&mut a, &mut b, &mut c, &mut e]);
    let fence = a.community.fence_of(&[e.device()].into());
    let gone = CharterEvent::Removed { person: people[3].id(), ban: false, reason: String::new(), fence };
    a.force(gone);
    meet(&mut [&mut a, &mut b, &mut c]);

    // Ben starts the next epoch, with garbage for Chloe alone.
    let audience = Audience::Channel(room);
    let (key, event) = b.community.start_epoch(audience, b.entropy());
    let KeyEvent::EpochStarted { key: id, mut seals, fence, .. } = event else { panic!("an epoch") };
    for seal in seals.iter_mut().filter(|seal| seal.recipient == c.community.sealing_key()) {
        seal.ciphertext[3] ^= 1;
    }
    b.community.learn_key(key);
    b.write(Stream::Keys, &KeyEvent::EpochStarted { audience, key: id, seals, fence }.into());
    let secret = b.say(room, "Chloe shall not read this");
    meet(&mut [&mut a, &mut b, &mut c]);
    assert!(a.opens(&secret) && !c.opens(&secret));
    assert_eq!(c.community.wanted_keys(), [(audience, id)], "noticed");
    let seals_it = |duty: &KeyDuty| matches!(duty, KeyDuty::Seal { key, .. } if *key == id);
    assert!(!a.community.duties().iter().any(seals_it), "to everyone else the seal looks well");

    c.tend();
    let complaint = c.events.iter().find_map(|event| match &event.event {
        Ok(Event::Keys(KeyEvent::KeyWanted { key, recipient, .. })) => Some((*key, *recipient)),
        _ => None,
    });
    assert_eq!(complaint, Some((id, c.community.sealing_key())));
    c.send_to(&mut a);
    a.tend();
    a.send_to(&mut c);
    assert!(c.opens(&secret), "sealed again, by another holder");
    assert!(c.community.wanted_keys().is_empty());
    settle(&mut [&mut a, &mut b, &mut c]);
    assert!(!b.community.duties().iter().any(seals_it), "the complaint is settled");
}

/// Who was removed may stay where they were: no key and no key id that they
/// hold leads to an epoch that came after. (That the network refuses them is
/// tested in `sync`.)
#[test]
fn e06_nothing_a_removed_member_holds_leads_to_later_epochs() {
    let (people, [mut a, mut b, mut e]) = garden([Role::Owner, Role::Member, Role::Member]);
    let room = a.channel();
    let audiences = [Audience::Governance, Audience::Members, Audience::Channel(room)];
    let offer = Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 1, addresses: vec![] };
    a.act(offer.clone());
    b.say(room, "first");
    settle(&mut [&mut a, &mut b, &mut e]);
    let held: BTreeSet<KeyId> = e.community.keyring().ids().copied().collect();
    let old = audiences.map(|of| a.writing_key(of));
    assert!(old.iter().all(|key| held.contains(key)));

    a.act(remove(&people[2]));
    settle(&mut [&mut a, &mut b, &mut e]);
    let new = audiences.map(|of| a.writing_key(of));
    assert_eq!(new, audiences.map(|of| b.writing_key(of)));
    assert!(new.iter().all(|key| !held.contains(key) && !old.contains(key)));
    assert_eq!(e.community.keyring().ids().copied().collect::<BTreeSet<_>>(), held, "she learnt none since");
    // She still has the old keys, and whatever she says under them is void.
    let heads = e.community.heads();
    let late = e.write_under(Stream::Channel(room), &posted("still here").into(), &heads, old[2]);
    e.send_to(&mut a);
    assert_eq!(a.word(&late), WordStanding::Void);
}
