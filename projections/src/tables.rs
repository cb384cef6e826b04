//! The tables that mirror the community's state, row by row.
//!
//! They are a function of the state alone. What the state forgets (an
//! admission that lost a race to one that arrived later) leaves them in the
//! same transaction.

use std::collections::BTreeMap;

use exo_model::amount::Amount;
use exo_model::ledger::Ledger;
use exo_model::{CommunityState, DeviceId};
use rusqlite::Connection;
use rusqlite::types::ValueRef::{self, Blob, Integer, Null};

use crate::merge::{Table, replace};

const COMMUNITY: Table = Table { name: "community", columns: &["id", "name", "floor"], keys: 1 };
const MEMBERS: Table =
    Table { name: "members", columns: &["device", "name", "role", "admitted_by", "admitted_ms"], keys: 1 };
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
    let floor = state.ledger.floor();
    let community = [[Blob(state.id.as_bytes()), text(&state.name), amount(floor)]];
    let members = state.members.iter().map(|(device, member)| {
        [
            Blob(device.as_bytes()),
            text(&member.name),
            text(member.role.as_str()),
            Blob(member.admitted_by.as_bytes()),
            Integer(member.admitted_ms),
        ]
    });
    let channels = state.channels.iter().map(|(id, channel)| [Blob(id.as_bytes()), text(&channel.name)]);
    Ok(replace(db, &COMMUNITY, community)?
        + replace(db, &MEMBERS, members)?
        + replace(db, &CHANNELS, channels)?)
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
    let held = held_by_payer(&state.ledger);
    let balances = state.members.keys().map(|device| {
        let balance = state.ledger.balance(device);
        let held = held.get(device).copied().unwrap_or_default();
        let available = balance
            .checked_sub(state.ledger.floor())
            .and_then(|free| i128::from(free.token_mib()).checked_sub(held))
            .and_then(|available| i64::try_from(available).ok());
        let held = i64::try_from(held).unwrap_or(i64::MAX);
        [Blob(device.as_bytes()), amount(balance), Integer(held), available.map_or(Null, Integer)]
    });
    let locks = state.ledger.locks().iter().map(|(hash, lock)| {
        [
            Blob(hash.as_bytes()),
            Blob(lock.payer.as_bytes()),
            Blob(lock.payee.as_bytes()),
            Blob(lock.job.as_bytes()),
            amount(lock.max),
            amount(lock.settled),
            Integer(lock.closed.into()),
        ]
    });
    Ok(replace(db, &BALANCES, balances)? + replace(db, &LOCKS, locks)?)
}

/// What each payer's open locks hold, in token·MiB. One pass over the locks,
/// where [`Ledger::available`] would take one per member.
fn held_by_payer(ledger: &Ledger) -> BTreeMap<DeviceId, i128> {
    let mut held: BTreeMap<DeviceId, i128> = BTreeMap::new();
    for lock in ledger.locks().values() {
        *held.entry(lock.payer).or_default() += i128::from(lock.held().token_mib());
    }
    held
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
