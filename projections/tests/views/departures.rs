//! P3: who leaves takes back what lies beyond the fence, and
//! nothing else.

use exo_model::amount::Amount;
use exo_model::decide::Intent;
use exo_model::{ChannelId, DeviceId};
use exo_projections::{Reader, Views};

use crate::world::{World, lock};
use crate::{Folder, Follower, assert_same, rebuilt};

/// What a channel shows: by whom, what.
fn shown(reader: &Reader, channel: &ChannelId) -> Vec<(String, String)> {
    let page = reader.messages(channel, 20, None).expect("a page");
    assert_eq!(reader.message_count(channel).expect("read"), page.len() as u64);
    page.into_iter().map(|message| (message.author_name, message.text)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Views of what `number` knows now, which the test then goes on with.
fn followed(world: &World, number: usize, folder: &Folder) -> (Follower, Reader) {
    let views = Views::open(folder.path()).expect("a new file");
    let mut follower = Follower::new(views, world.blank(number));
    follower.catch_up(&world.homes[number]);
    (follower, Reader::open(folder.path()).expect("readable"))
}

#[test]
fn p3_a_removal_hides_what_lies_beyond_its_fence() {
    let mut world = World::found(60);
    let hall = world.homes[0].open_channel(1, false);
    let (ben, chloe) = (world.join(0, "Ben"), world.join(0, "Chloe"));
    world.meet();
    world.post(ben, hall, "seen by all").expect("a member");
    world.intend(ben, Intent::OfferMachine { memory_bytes: 9, micros_per_mib: 0, addresses: Vec::new() });
    world.meet();
    let ben_device = world.device(ben);
    world.post(ben, hall, "seen by Chloe").expect("a member");
    world.intend(ben, lock(world.device(chloe), 1, 40)).expect("within the floor");
    world.tell(ben, chloe);
    world.post(chloe, hall, "an answer").expect("a member");

    let folder = Folder::new();
    let (mut follower, reader) = followed(&world, chloe, &folder);
    let before = [("Ben", "seen by all"), ("Ben", "seen by Chloe"), ("Chloe", "an answer")];
    assert_eq!(shown(&reader, &hall), pairs(&before));
    assert_eq!(reader.transactions(9, None).expect("read").len(), 1);
    assert_eq!(reader.machines().expect("read").len(), 1);

    // Ana, who knows the first message only, removes Ben.
    let person = world.person(ben);
    world.remove(0, person);
    world.tell(0, chloe);
    follower.catch_up(&world.homes[chloe]);
    assert_eq!(shown(&reader, &hall), pairs(&[("Ben", "seen by all"), ("Chloe", "an answer")]));
    assert!(reader.members().expect("read").iter().all(|member| member.person != person));
    assert!(reader.machines().expect("read").is_empty());
    assert!(reader.transactions(9, None).expect("read").is_empty());
    assert!(reader.jobs(9).expect("read").is_empty());
    let of_ben = |row: &exo_projections::rows::BalanceRow| row.device == ben_device;
    let balance = reader.balances().expect("read").into_iter().find(of_ben).expect("a former device");
    assert_eq!((balance.name.as_str(), balance.balance, balance.available), ("Ben", Amount::ZERO, None));

    // What he goes on to write stays out of sight.
    world.post(ben, hall, "still here");
    world.tell(ben, chloe);
    follower.catch_up(&world.homes[chloe]);
    assert_eq!(shown(&reader, &hall), pairs(&[("Ben", "seen by all"), ("Chloe", "an answer")]));
    assert_same(&follower.dump(), &follower.rebuilt(), "after the removal");
}

/// Two members admit two people with a one-use invite, unaware of each other.
/// The one who loses is seen first, with what they did; when the winner
/// arrives, all of that must go.
#[test]
fn p3_a_late_arrival_takes_derived_rows_back() {
    for seed in 61..64 {
        let mut world = World::found(seed);
        let hall = world.homes[0].open_channel(1, false);
        let (ben, chloe) = (world.join(0, "Ben"), world.join(0, "Chloe"));
        world.meet();
        let single = world.invite();
        world.tell(0, ben);
        world.tell(0, chloe);
        let one = world.admit(ben, "Dan", &single).expect("as far as Ben knows");
        let two = world.admit(chloe, "Eve", &single).expect("as far as Chloe knows");
        for newcomer in [one, two] {
            world.post(newcomer, hall, "hello").expect("a member, to itself");
            let offer = Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 0, addresses: Vec::new() };
            world.intend(newcomer, offer).expect("a member, to itself");
            world.intend(newcomer, lock(world.device(0), 1, 10)).expect("a member, to itself");
        }
        // Ana is told of both; who stays is the model's to say.
        let (one_device, two_device) = (world.device(one), world.device(two));
        let knows_all = world.reader(0);
        let won_one = knows_all.community.state().charter.is_member(&one_device);
        assert_ne!(won_one, knows_all.community.state().charter.is_member(&two_device));
        let (winner, loser) = if won_one { (one, two) } else { (two, one) };
        let (won, lost) = (world.device(winner), world.device(loser));

        world.tell(loser, 0);
        let folder = Folder::new();
        let (mut follower, reader) = followed(&world, 0, &folder);
        let authors = |reader: &Reader| -> Vec<DeviceId> {
            let page = reader.messages(&hall, 10, None).expect("a page");
            page.into_iter().map(|message| message.author).collect()
        };
        assert_eq!(authors(&reader), [lost], "seed {seed}: only the loser is a member so far");
        assert_eq!(reader.transactions(10, None).expect("read").len(), 1);
        assert_eq!(reader.machines().expect("read").len(), 1);

        world.tell(winner, 0);
        follower.catch_up(&world.homes[0]);
        assert_eq!(authors(&reader), [won], "seed {seed}");
        assert_eq!(reader.message_count(&hall).expect("read"), 1);
        let names: Vec<_> =
            reader.members().expect("read").into_iter().map(|member| member.devices).collect();
        assert!(names.iter().flatten().all(|device| *device != lost));
        assert!(reader.balances().expect("read").iter().all(|balance| balance.device != lost));
        assert!(reader.machines().expect("read").iter().all(|machine| machine.device == won));
        assert!(reader.transactions(10, None).expect("read").iter().all(|lock| lock.payer == won));
        assert_eq!(reader.jobs(10).expect("read").len(), 1);
        assert_same(&follower.dump(), &follower.rebuilt(), &format!("seed {seed}"));
    }
}

/// A person loses one device and stays: what it wrote before stays theirs.
#[test]
fn a_revoked_device_leaves_its_person_in_place() {
    let mut world = World::found(64);
    let hall = world.homes[0].open_channel(1, false);
    let ben = world.join(0, "Ben");
    let tablet = world.add_device(ben);
    world.meet();
    world.post(tablet, hall, "from the tablet").expect("a member");
    world.post(ben, hall, "from the laptop").expect("a member");
    world.meet();
    let person = world.person(ben);
    let (laptop_device, tablet_device) = (world.device(ben), world.device(tablet));
    let folder = Folder::new();
    let (mut follower, reader) = followed(&world, 0, &folder);
    let devices = |reader: &Reader| {
        let members = reader.members().expect("read");
        members.into_iter().find(|member| member.person == person).expect("Ben").devices
    };
    assert_eq!(devices(&reader).len(), 2);
    let page = reader.messages(&hall, 9, None).expect("a page");
    assert!(page.iter().all(|message| message.person == person && message.author_name == "Ben"));

    world.homes[ben].act(Intent::RevokeDevice { device: tablet_device, phrase: None });
    world.post(tablet, hall, "too late");
    world.meet();
    follower.catch_up(&world.homes[0]);
    assert_eq!(devices(&reader), [laptop_device]);
    assert_eq!(shown(&reader, &hall), pairs(&[("Ben", "from the tablet"), ("Ben", "from the laptop")]));
    let whole = world.reader(0);
    assert_same(&follower.dump(), &rebuilt(&whole.events, whole.community.state()), "after the revocation");
}
