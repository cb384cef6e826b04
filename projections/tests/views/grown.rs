//! Communities that grew at random.

use exo_model::amount::Amount;
use exo_model::charter::Role;
use exo_model::decide::Intent;
use exo_model::event::TalkEvent;
use exo_model::event::ledger::Account;
use exo_model::ledger::Voucher;
use exo_model::weights::{ByteRange, LayerRange, ModelManifest};
use exo_model::{BlobHash, ChangeHash, ChannelId, Stream};

use crate::world::{World, lock, posted};

/// A community that grew for `steps` random steps, its devices telling each
/// other only now and then, so that much is concurrent. Device 0 is the
/// founder's, 1 an admin's with 4 beside it, 2 and 3 are members'. The second
/// channel is closed, and the founder is not in it. Half way, 3 is removed,
/// and goes on writing for a while.
pub(crate) fn grown(seed: u64, steps: usize) -> World {
    let mut world = World::found(seed);
    let hall = world.homes[0].open_channel(1, false);
    let ben = world.join(0, "Ben");
    for name in ["Chloe", "Dan"] {
        world.join(ben, name);
    }
    world.meet();
    world.set_role(ben, Role::Admin);
    world.tell(0, ben);
    world.add_device(ben);
    let chloe = world.person(2);
    let closed = world.closed_channel(ben, 2, vec![chloe, world.person(ben)]);
    world.meet();
    let channels = [hall, closed];
    for step in 0..steps {
        if step == steps / 2 {
            depart(&mut world);
        }
        let peer = world.rng.below(world.homes.len());
        match world.rng.below(20) {
            0 => garbage(&mut world, peer, hall),
            1 => revise(&mut world, peer, hall),
            2..=4 => machine(&mut world, peer, step),
            5..=9 => money(&mut world, peer),
            10..=12 => {
                let other = world.rng.below(world.homes.len());
                world.tell(peer, other);
            }
            13 if step > steps / 3 => race(&mut world, step),
            _ => {
                let channel = channels[world.rng.below(channels.len())];
                world.post(peer, channel, &format!("message {step}\n\"quoted\" 漢字"));
            }
        }
    }
    world
}

/// Device 3's person is removed by someone who may have missed what they
/// wrote last.
fn depart(world: &mut World) {
    let dan = world.person(3);
    world.remove(0, dan);
}

/// Two members use one single-use invite without knowing of each other; once
/// in a world.
fn race(world: &mut World, step: usize) {
    if world.homes.len() > 5 {
        return;
    }
    let ticket = world.invite();
    for member in [1, 2] {
        world.tell(0, member);
    }
    for member in [1, 2] {
        world.admit(member, &format!("Late {step}.{member}"), &ticket);
    }
}

fn garbage(world: &mut World, peer: usize, channel: ChannelId) {
    match world.rng.below(3) {
        0 => world.post(peer, channel, "hidden\u{202e}txt"),
        1 => world.post(peer, ChannelId::from_bytes([9; 16]), "no such channel"),
        _ => world.write(peer, Stream::Ledger, &posted("wrong stream")),
    };
}

/// Edits, deletes or likes the message seen last, whoever wrote it.
fn revise(world: &mut World, peer: usize, channel: ChannelId) {
    let stream = Stream::Channel(channel);
    let known = &world.homes[peer].events;
    let Some(message) = known.iter().rfind(|event| event.feed.stream == stream).map(|event| event.hash)
    else {
        return;
    };
    let event = match world.rng.below(3) {
        0 => TalkEvent::Edited { message, text: "said better".to_owned() },
        1 => TalkEvent::Deleted { message },
        _ => TalkEvent::Reacted { message, reaction: "👍".to_owned(), on: true },
    };
    world.write(peer, stream, &event.into());
}

fn machine(world: &mut World, peer: usize, step: usize) {
    let model = BlobHash::from_bytes([u8::try_from(world.rng.below(3)).expect("small"); 32]);
    let intent = match world.rng.below(4) {
        0 => Intent::OfferMachine {
            memory_bytes: if step.is_multiple_of(3) { u64::MAX } else { world.rng.next() >> 20 },
            micros_per_mib: 40,
            addresses: (0..world.rng.below(3)).map(|port| format!("127.0.0.1:{}", port + 1)).collect(),
        },
        1 => Intent::AddModel(manifest(model)),
        2 => {
            let start = u32::try_from(world.rng.below(2)).expect("small");
            Intent::HostShard { model, layers: LayerRange::new(start, start + 1).expect("not empty") }
        }
        _ => Intent::DropShard { model },
    };
    world.intend(peer, intent);
}

fn manifest(file: BlobHash) -> ModelManifest {
    let range = |start, end| ByteRange { start, end };
    ModelManifest {
        file,
        size_bytes: 100,
        name: format!("Model {file}"),
        architecture: "llama".into(),
        licence: String::new(),
        context_length: 128,
        hidden_size: 8,
        kv_bytes_per_token_layer: 64,
        header: range(0, 10),
        embedding: vec![range(10, 20)],
        layers: vec![vec![range(20, 50)], vec![range(50, 80)]],
        head: vec![range(80, 100)],
    }
}

/// A lock, a gift to the community, a settlement, a close, or a count.
fn money(world: &mut World, peer: usize) {
    let me = world.device(peer);
    let other = world.rng.below(world.homes.len());
    let ledger = &world.homes[peer].community.state().ledger;
    let locks: Vec<ChangeHash> = ledger.locks().keys().copied().collect();
    if locks.is_empty() || world.rng.below(3) == 0 {
        let job = u8::try_from(world.rng.below(4)).expect("small");
        let max = 1 + i64::try_from(world.rng.below(200)).expect("small");
        let payee = world.device(other);
        world.intend(peer, lock(payee, job, max));
        return;
    }
    match world.rng.below(4) {
        0 => {
            let (amount, note) = (Amount::from_token_mib(7), "for the kitty".to_owned());
            world.intend(peer, Intent::Transfer { to: Account::Community, amount, note });
        }
        1 => {
            world.intend(peer, Intent::Count);
        }
        choice => {
            let hash = locks[world.rng.below(locks.len())];
            let lock = world.homes[peer].community.state().ledger.locks()[&hash].clone();
            let Some(payer) = world.homes.iter().find(|home| home.device() == lock.payer) else { return };
            let paid = world.rng.0 % lock.max.token_mib().unsigned_abs();
            let amount = Amount::from_token_mib(i64::try_from(paid).expect("small"));
            let voucher = Voucher::sign(&payer.key, &world.id(), hash, &lock.payee, amount);
            let close = choice == 2 && lock.payee == me;
            let intent = if close {
                Intent::Close { lock: hash, voucher: (paid > 0).then_some(voucher) }
            } else {
                Intent::Settle(voucher)
            };
            world.intend(peer, intent);
        }
    }
}
