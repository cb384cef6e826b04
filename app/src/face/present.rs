//! From a node's facts to view data. The only mapping between the two.

use chrono::{DateTime, Local};
use exo_model::community::Role;
use exo_model::weights::LayerRange;
use exo_projections::Reader;
use exo_projections::rows::{MemberRow, MessageRow};
use exo_sync::mesh::{JoinStatus, PeerPath};
use exo_ui::{
    About, AskState, AskView, Connection, HostedLayers, Joining, MESSAGES_SHOWN_MAX, Me, Onboarding, PeerRow, Screen,
    View,
};

use super::window::Session;
use crate::engine::Answer;
use crate::node::{Membership, Node};

/// Bytes of one MiB.
const MIB: u64 = 1 << 20;
const LICENCES: &str = "Exo-Studio is free software, MIT or Apache-2.0 as you choose. Its window is made with Slint under \
     the Slint Royalty-free Licence 2.0. Other parts: Automerge (MIT), iroh (MIT or Apache-2.0), candle (MIT or \
     Apache-2.0), SQLite (public domain).";

/// Everything on screen.
pub(super) async fn view(node: &Node, membership: Option<&Membership>, session: &Session) -> View {
    let profile = node.profile();
    let mut view = View {
        banner: session.banner.clone(),
        ticket: session.ticket.clone(),
        about: About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            licences: LICENCES.to_owned(),
            data_folder: node.data_folder().display().to_string(),
        },
        ..View::default()
    };
    view.me.name = profile.name.clone();
    let Some(membership) = membership else {
        view.screen = Screen::Onboarding(Onboarding {
            suggested_name: if profile.name.is_empty() { account_name() } else { profile.name },
            busy: session.busy,
            problem: session.problem.clone(),
        });
        return view;
    };
    if let Some(joining) = joining(membership, profile.joining.as_deref()) {
        view.screen = Screen::Joining(joining);
        return view;
    }
    view.screen = Screen::Main;
    fill(&mut view, membership, session).await;
    view
}

/// The page that waits, while a join is not complete.
fn joining(membership: &Membership, ticket: Option<&str>) -> Option<Joining> {
    let status = membership.watch_join().borrow().clone()?;
    let community = ticket
        .and_then(|ticket| ticket.parse::<exo_model::invite::Ticket>().ok())
        .map(|ticket| ticket.community_name)
        .unwrap_or_default();
    match status {
        JoinStatus::Joined => None,
        JoinStatus::Admitted => Some(Joining { community, tries: 0, problem: None }),
        JoinStatus::Trying { rounds, last_error } => {
            let problem = (!last_error.is_empty()).then(|| format!("{last_error}."));
            Some(Joining { community, tries: rounds, problem })
        }
        JoinStatus::Refused(reason) => Some(Joining { community, tries: 0, problem: Some(format!("{reason}.")) }),
    }
}

async fn fill(view: &mut View, membership: &Membership, session: &Session) {
    let state = membership.replica().state();
    let me = membership.mesh().device();
    let peers = membership.mesh().peers();
    let online = |device: &exo_model::DeviceId| {
        *device == me || peers.iter().any(|peer| peer.device == *device && peer.path != PeerPath::Offline)
    };
    view.community.clone_from(&state.name);
    let channel = membership.channel().ok();
    let facts = membership
        .query(move |reader: &Reader| {
            let messages = match channel {
                Some(channel) => reader.messages(&channel, MESSAGES_SHOWN_MAX, None)?,
                None => Vec::new(),
            };
            Ok((reader.members()?, messages, reader.channels()?))
        })
        .await;
    match facts {
        Ok((members, messages, channels)) => {
            view.members = members.iter().map(|row| member(row, row.device == me, online(&row.device))).collect();
            view.messages = messages.iter().map(|row| message(row, row.author == me)).collect();
            view.channel = channels.first().map(|row| row.name.clone()).unwrap_or_default();
        }
        Err(error) => tracing::error!(%error, "views"),
    }
    view.me = Me {
        name: state.name_of(&me),
        role: role(if state.is_owner(&me) { Role::Owner } else { Role::Member }),
        credits: Some(membership.balance_of_me().token_mib()),
    };
    view.peers = machines(membership, &peers);
    view.connection = Connection {
        connected: u32::try_from(peers.iter().filter(|peer| peer.path != PeerPath::Offline).count()).unwrap_or(u32::MAX),
        known: u32::try_from(peers.len()).unwrap_or(u32::MAX),
    };
    view.ask = session.ask.clone();
    let model = state.models.values().next();
    view.ask.model = model.map_or_else(|| "Exo Starter".to_owned(), |model| model.manifest.name.clone());
}

fn machines(membership: &Membership, peers: &[exo_sync::mesh::PeerStatus]) -> Vec<PeerRow> {
    let state = membership.replica().state();
    let me = membership.mesh().device();
    let row = |device: &exo_model::DeviceId, path: exo_ui::PeerPath| {
        let machine = state.machines.get(device).cloned().unwrap_or_default();
        let layers = machine.shards.iter().find_map(|(file, layers)| {
            let name = state.models.get(file)?.manifest.name.clone();
            Some(hosted(*layers, name))
        });
        PeerRow {
            id: device.to_hex(),
            name: state.name_of(device),
            path,
            layers,
            offered_mib: Some(machine.memory_bytes / MIB).filter(|mib| *mib > 0),
        }
    };
    let mut rows = vec![row(&me, exo_ui::PeerPath::ThisMachine)];
    rows.extend(peers.iter().map(|peer| {
        let rtt_ms = peer.rtt.map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX));
        let path = match peer.path {
            PeerPath::Direct => exo_ui::PeerPath::Direct { rtt_ms },
            PeerPath::Relayed => exo_ui::PeerPath::Relayed { rtt_ms },
            PeerPath::Offline => exo_ui::PeerPath::Offline,
        };
        row(&peer.device, path)
    }));
    rows
}

fn hosted(layers: LayerRange, model: String) -> HostedLayers {
    HostedLayers { first: layers.start(), last: layers.end().saturating_sub(1), model }
}

fn member(row: &MemberRow, me: bool, online: bool) -> exo_ui::MemberRow {
    exo_ui::MemberRow { id: row.device.to_hex(), name: row.name.clone(), role: role(row.role), online, me }
}

fn role(role: Role) -> exo_ui::Role {
    match role {
        Role::Owner => exo_ui::Role::Owner,
        Role::Member => exo_ui::Role::Member,
    }
}

fn message(row: &MessageRow, mine: bool) -> exo_ui::MessageRow {
    let (time, day) = moment(row.time_ms, Local::now());
    exo_ui::MessageRow {
        id: row.hash.to_hex(),
        author: row.author_name.clone(),
        time,
        day,
        text: row.text.clone(),
        mine,
    }
}

/// Time of day and day, in the machine's own time zone.
fn moment(time_ms: i64, now: DateTime<Local>) -> (String, String) {
    let Some(at) = DateTime::from_timestamp_millis(time_ms) else { return Default::default() };
    let at = at.with_timezone(&Local);
    let day = match (now.date_naive() - at.date_naive()).num_days() {
        0 => "Today".to_owned(),
        1 => "Yesterday".to_owned(),
        _ => at.format("%-d %B %Y").to_string(),
    };
    (at.format("%H:%M").to_string(), day)
}

/// A finished answer, on screen.
pub(super) fn finish(ask: &mut AskView, membership: &Membership, answer: &Answer) {
    let state = membership.replica().state();
    ask.answer.clone_from(&answer.text);
    ask.tokens = answer.tokens;
    #[expect(clippy::cast_possible_truncation, reason = "shown with one decimal")]
    let speed = (f64::from(answer.tokens) / answer.seconds.max(1e-9)) as f32;
    ask.tokens_per_second = Some(speed);
    ask.served_by = answer.stages.iter().map(|stage| state.name_of(&stage.device)).collect();
    ask.credits_spent = Some(answer.spent.iter().map(|(_, amount)| amount.token_mib()).sum());
    ask.state = if answer.stopped { AskState::Stopped } else { AskState::Finished };
}

/// The name of the system's account, to start with.
fn account_name() -> String {
    ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_worded_from_today() {
        let now = Local::now();
        let day = |ago: i64| moment((now - chrono::Duration::days(ago)).timestamp_millis(), now).1;
        assert_eq!((day(0).as_str(), day(1).as_str()), ("Today", "Yesterday"));
        assert!(day(400).chars().any(|c| c.is_ascii_digit()));
        assert_eq!(moment(i64::MAX, now), (String::new(), String::new()));
    }
}
