//! The tables that mirror the community's state, row by row.
//!
//! They are a function of the state alone. What the state forgets (an
//! admission that lost a race to one that arrived later) leaves them in the
//! same transaction.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::amount::Amount;
use exo_model::event::ledger::{Account, Purpose};
use exo_model::trust::TrustLevel;
use exo_model::{CommunityState, DeviceId, Stream};
use rusqlite::Connection;
use rusqlite::types::ValueRef::{self, Blob, Integer, Null};

use crate::merge::{Table, replace};

const COMMUNITY: Table = Table { name: "community", columns: &["id", "name", "floor", "balance"], keys: 1 };
const MEMBERS: Table = Table {
    name: "members",
    columns: &["person", "name", "about", "role", "trust", "admitted_by", "admitted_ms"],
    keys: 1,
};
const PEOPLE: Table = Table { name: "people", columns: &["person", "name"], keys: 1 };
const DEVICES: Table =
    Table { name: "devices", columns: &["device", "person", "name", "active", "fenced"], keys: 1 };
const FENCES: Table = Table { name: "fences", columns: &["device", "channel", "segment", "seq"], keys: 2 };
const CHANNELS: Table = Table { name: "channels", columns: &["channel", "name"], keys: 1 };
const MACHINES: Table =
    Table { name: "machines", columns: &["device", "memory_bytes", "micros_per_mib"], keys: 1 };
const MACHINE_ADDRESSES: Table =
    Table { name: "machine_addresses", columns: &["device", "position", "address"], keys: 2 };
const SHARDS: Table =
    Table { name: "shards", columns: &["device", "model", "layer_start", "layer_end"], keys: 2 };
const MODELS: Table = Table {
    name: "models",
    columns: &[
        "model",
        "name",
        "architecture",
        "licence",
        "size_bytes",
        "layer_count",
        "context_length",
        "hidden_size",
    ],
    keys: 1,
};
const MODEL_HOLDERS: Table =
    Table { name: "model_holders", columns: &["model", "position", "device"], keys: 2 };
const BALANCES: Table =
    Table { name: "balances", columns: &["device", "balance", "held", "available"], keys: 1 };
const LOCKS: Table =
    Table { name: "locks", columns: &["lock", "payer", "payee", "job", "max", "settled", "closed"], keys: 1 };

/// Makes all mirroring tables equal to `state`. Returns how many rows changed.
pub(crate) fn mirror(db: &Connection, state: &CommunityState) -> rusqlite::Result<usize> {
    Ok(people(db, state)? + machines(db, state)? + models(db, state)? + ledger(db, state)?)
}

fn people(db: &Connection, state: &CommunityState) -> rusqlite::Result<usize> {
    let charter = &state.charter;
    let floor = charter.settings.as_ref().map_or(Amount::ZERO, |settings| settings.floors.friends);
    let balance = state.ledger.balance(&Account::Community);
    let community = [[Blob(state.id.as_bytes()), text(charter.name()), amount(floor), amount(balance)]];
    let members = charter.members.iter().map(|(person, member)| {
        [
            Blob(person.as_bytes()),
            text(&member.name),
            text(&member.about),
            text(member.role.as_str()),
            text(trust_word(member.trust)),
            Blob(member.admitted_by.as_bytes()),
            Integer(member.admitted_ms),
        ]
    });
    // Who left is still the author of what they wrote.
    let names: BTreeMap<_, _> = charter
        .former
        .iter()
        .chain(charter.members.iter().map(|(person, member)| (person, &member.name)))
        .collect();
    let people = names.iter().map(|(person, name)| [Blob(person.as_bytes()), text(name)]);
    let channels = charter.channels.iter().map(|(id, channel)| [Blob(id.as_bytes()), text(&channel.name)]);
    Ok(replace(db, &COMMUNITY, community)?
        + replace(db, &MEMBERS, members)?
        + replace(db, &PEOPLE, people)?
        + devices(db, state)?
        + replace(db, &CHANNELS, channels)?)
}

fn devices(db: &Connection, state: &CommunityState) -> rusqlite::Result<usize> {
    let charter = &state.charter;
    let fenced = |device: &DeviceId| Integer(charter.fences.contains_key(device).into());
    let active = charter.devices.iter().map(|(id, device)| {
        let person = Blob(device.person.as_bytes());
        (id, [Blob(id.as_bytes()), person, text(&device.name), Integer(1), fenced(id)])
    });
    let former = charter.former_devices.iter().map(|(id, person)| {
        (id, [Blob(id.as_bytes()), Blob(person.as_bytes()), text(""), Integer(0), fenced(id)])
    });
    let rows: BTreeMap<_, _> = active.chain(former).collect();
    let fences = charter.fences.iter().flat_map(|(device, streams)| {
        streams.iter().filter_map(|(stream, (segment, seq))| match stream {
            Stream::Channel(channel) => Some([
                Blob(device.as_bytes()),
                Blob(channel.as_bytes()),
                Integer((*segment).into()),
                Integer(i64::try_from(*seq).unwrap_or(i64::MAX)),
            ]),
            _ => None,
        })
    });
    Ok(replace(db, &DEVICES, rows.into_values())? + replace(db, &FENCES, fences)?)
}

fn machines(db: &Connection, state: &CommunityState) -> rusqlite::Result<usize> {
    let machines = state.machines.iter().map(|(device, machine)| {
        [Blob(device.as_bytes()), bytes(machine.memory_bytes), Integer(machine.micros_per_mib.into())]
    });
    let addresses = state.machines.iter().flat_map(|(device, machine)| {
        (0..)
            .zip(&machine.addresses)
            .map(|(position, address)| [Blob(device.as_bytes()), Integer(position), text(address)])
    });
    let shards = state.machines.iter().flat_map(|(device, machine)| {
        machine.shards.iter().map(|(model, layers)| {
            [
                Blob(device.as_bytes()),
                Blob(model.as_bytes()),
                Integer(layers.start().into()),
                Integer(layers.end().into()),
            ]
        })
    });
    Ok(replace(db, &MACHINES, machines)?
        + replace(db, &MACHINE_ADDRESSES, addresses)?
        + replace(db, &SHARDS, shards)?)
}

fn models(db: &Connection, state: &CommunityState) -> rusqlite::Result<usize> {
    let models = state.models.iter().map(|(file, model)| {
        let manifest = &model.manifest;
        [
            Blob(file.as_bytes()),
            text(&manifest.name),
            text(&manifest.architecture),
            text(&manifest.licence),
            bytes(manifest.size_bytes),
            Integer(manifest.layer_count().into()),
            Integer(manifest.context_length.into()),
            Integer(manifest.hidden_size.into()),
        ]
    });
    let holders = state.models.iter().flat_map(|(file, model)| {
        (0..)
            .zip(&model.holders)
            .map(|(position, device)| [Blob(file.as_bytes()), Integer(position), Blob(device.as_bytes())])
    });
    Ok(replace(db, &MODELS, models)? + replace(db, &MODEL_HOLDERS, holders)?)
}

fn ledger(db: &Connection, state: &CommunityState) -> rusqlite::Result<usize> {
    // Together in order, whoever is still there.
    let known: BTreeSet<_> =
        state.charter.devices.keys().chain(state.charter.former_devices.keys()).collect();
    let balances = known.into_iter().map(|device| {
        let available = state.headroom.get(device).map_or(Null, |amount| Integer(amount.token_mib()));
        [
            Blob(device.as_bytes()),
            amount(state.ledger.balance(&Account::Device(*device))),
            amount(state.ledger.held(device)),
            available,
        ]
    });
    let locks = state.ledger.locks().iter().map(|(hash, lock)| {
        [
            Blob(hash.as_bytes()),
            Blob(lock.payer.as_bytes()),
            Blob(lock.payee.as_bytes()),
            job(&lock.purpose),
            amount(lock.max),
            amount(lock.final_amount()),
            Integer(lock.closed.is_some().into()),
        ]
    });
    Ok(replace(db, &BALANCES, balances)? + replace(db, &LOCKS, locks)?)
}

/// The job a lock is for; orders and bookings are for none.
fn job(purpose: &Purpose) -> ValueRef<'_> {
    match purpose {
        Purpose::Job(job) => Blob(job.as_bytes()),
        Purpose::Order { .. } | Purpose::Booking { .. } => Null,
    }
}

const fn trust_word(level: TrustLevel) -> &'static str {
    match level {
        TrustLevel::Public => "public",
        TrustLevel::Known => "known",
        TrustLevel::Friends => "friends",
    }
}

const fn text(text: &str) -> ValueRef<'_> {
    ValueRef::Text(text.as_bytes())
}

const fn amount(amount: Amount) -> ValueRef<'static> {
    Integer(amount.token_mib())
}

/// A size somebody claims, in bytes. SQLite counts to 2^63 − 1; whoever claims
/// more has no more.
fn bytes(bytes: u64) -> ValueRef<'static> {
    Integer(i64::try_from(bytes).unwrap_or(i64::MAX))
}
