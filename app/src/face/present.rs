//! From a node's facts to view data. The only mapping between the two.

use chrono::{DateTime, Local};
use exo_model::charter::Role;
use exo_model::weights::LayerRange;
use exo_projections::query::PAGE_ROWS_MAX;
use exo_projections::rows::{MemberRow, MessageRow};
use exo_projections::{QueryError, Reader};
use exo_sync::mesh::{JoinStatus, PeerPath};
use exo_ui::{
    About, AskState, AskView, Connection, HostedLayers, Joining, MESSAGES_SHOWN_MAX, Me, Onboarding, PeerRow,
    Screen, View,
};

use super::window::Session;
use crate::node::{Membership, Node};
use crate::report::AnswerReport;

/// Bytes of one MiB.
const MIB: u64 = 1 << 20;
/// What the built-in model calls itself, before anyone has shared it.
const STARTER_NAME: &str = "Exo Starter";
const LICENCES: &str = "Exo-Studio is free software, MIT or Apache-2.0 as you choose. Its window is made with Slint under \
     the Slint Royalty-free Licence 2.0. Other parts: Automerge (MIT), iroh (MIT or Apache-2.0), candle (MIT or \
     Apache-2.0), SQLite (public domain).";

/// What the views say, kept until they change: an answer that streams makes
/// many views on screen, of which only its own words differ.
#[derive(Default)]
pub(super) struct Facts {
    /// The community and the state of its views that this was read from.
    read_at: Option<(exo_model::CommunityId, u64)>,
    members: Vec<MemberRow>,
    messages: Vec<MessageRow>,
    channel: String,
}

impl Facts {
    async fn refresh(&mut self, membership: &Membership) {
        let now = (membership.replica().state().id, *membership.watch_views().borrow());
        if self.read_at == Some(now) {
            return;
        }
        let channel = membership.channel().ok();
        let read = membership.query(move |reader: &Reader| {
            let messages = match channel {
                Some(channel) => newest_messages(reader, &channel)?,
                None => Vec::new(),
            };
            Ok((reader.members()?, messages, reader.channels()?))
        });
        match read.await {
            Ok((members, messages, channels)) => {
                let channel = channels.first().map(|row| row.name.clone()).unwrap_or_default();
                *self = Self { read_at: Some(now), members, messages, channel };
            }
            Err(error) => tracing::error!(%error, "views"),
        }
    }
}

/// The last [`MESSAGES_SHOWN_MAX`] messages, oldest first.
fn newest_messages(reader: &Reader, channel: &exo_model::ChannelId) -> Result<Vec<MessageRow>, QueryError> {
    let mut messages = reader.messages(channel, MESSAGES_SHOWN_MAX, None)?;
    let mut page = messages.len();
    while page == PAGE_ROWS_MAX && messages.len() < MESSAGES_SHOWN_MAX {
        let earlier =
            reader.messages(channel, MESSAGES_SHOWN_MAX - messages.len(), Some(messages[0].cursor()))?;
        page = earlier.len();
        messages.splice(0..0, earlier);
    }
    Ok(messages)
}

/// Everything on screen.
pub(super) async fn view(
    node: &Node,
    membership: Option<&Membership>,
    session: &Session,
    facts: &mut Facts,
) -> View {
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
    view.me.name.clone_from(&profile.name);
    let Some(membership) = membership else {
        view.screen = Screen::Onboarding(Onboarding {
            suggested_name: if profile.name.is_empty() { account_name() } else { profile.name },
            busy: session.busy,
            problem: session.problem.clone(),
        });
        return view;
    };
    if let Some(joining) = joining(membership, node.joining().as_deref()) {
        view.screen = Screen::Joining(joining);
        return view;
    }
    view.screen = Screen::Main;
    view.recovery_words.clone_from(&session.recovery_words);
    facts.refresh(membership).await;
    fill(&mut view, membership, session, facts);
    view
}

/// The page that waits, while a join is not complete.
fn joining(membership: &Membership, ticket: Option<&str>) -> Option<Joining> {
    let status = membership.watch_join().borrow().clone().or_else(|| {
        // Before the first try of a join from the last run.
        ticket.map(|_| JoinStatus::Trying { rounds: 0, last_error: String::new() })
    })?;
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
        JoinStatus::Refused(reason) => {
            Some(Joining { community, tries: 0, problem: Some(format!("{reason}.")) })
        }
    }
}

fn fill(view: &mut View, membership: &Membership, session: &Session, facts: &Facts) {
    let state = membership.replica().state();
    let me = membership.mesh().device();
    let peers = membership.mesh().peers();
    let linked = |device: &exo_model::DeviceId| {
        peers.iter().any(|peer| peer.device == *device && peer.path != PeerPath::Offline)
    };
    view.community = state.charter.name().to_owned();
    view.channel.clone_from(&facts.channel);
    view.members = facts
        .members
        .iter()
        .map(|row| {
            let mine = row.devices.contains(&me);
            member(row, mine, mine || row.devices.iter().any(linked))
        })
        .collect();
    let now = Local::now();
    // One's own, whichever of one's devices they were written on.
    let person = state.charter.person_of(&me);
    let mine = |row: &MessageRow| Some(row.person) == person;
    view.messages = facts.messages.iter().map(|row| message(row, mine(row), now)).collect();
    view.me = Me {
        name: state.charter.name_of(&me),
        role: role(state.charter.role_of(&me).unwrap_or(Role::Member)),
        credits: Some(membership.balance_of_me().token_mib()),
    };
    view.peers = machines(membership, &peers);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    view.connection = Connection {
        connected: count(peers.iter().filter(|peer| peer.path != PeerPath::Offline).count()),
        known: count(peers.len()),
    };
    view.ask = session.ask.clone();
    let model = state.models.values().next();
    view.ask.model = model.map_or_else(|| STARTER_NAME.to_owned(), |model| model.manifest.name.clone());
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
            name: state.charter.name_of(device),
            path,
            layers,
            offered_mib: Some(machine.memory_bytes / MIB).filter(|mib| *mib > 0),
        }
    };
    let mut rows = vec![row(&me, exo_ui::PeerPath::ThisMachine)];
    rows.extend(peers.iter().map(|peer| {
        let rtt_ms = peer.rtt.map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX));
        let path = match peer.path {
            // There, as others say, and a dial away.
            PeerPath::Near => exo_ui::PeerPath::Direct { rtt_ms: None },
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
    exo_ui::MemberRow { id: row.person.to_hex(), name: row.name.clone(), role: role(row.role), online, me }
}

fn role(role: Role) -> exo_ui::Role {
    match role {
        Role::Owner => exo_ui::Role::Owner,
        Role::Admin => exo_ui::Role::Admin,
        Role::Moderator => exo_ui::Role::Moderator,
        Role::Member => exo_ui::Role::Member,
        Role::Guest => exo_ui::Role::Guest,
        Role::Keeper => exo_ui::Role::Keeper,
    }
}

fn message(row: &MessageRow, mine: bool, now: DateTime<Local>) -> exo_ui::MessageRow {
    let (time, day) = moment(row.time_ms, now);
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
pub(super) fn finish(ask: &mut AskView, answer: &AnswerReport) {
    ask.answer.clone_from(&answer.text);
    ask.tokens = answer.tokens;
    #[expect(clippy::cast_possible_truncation, reason = "shown with one decimal")]
    let speed = answer.tokens_per_second as f32;
    ask.tokens_per_second = Some(speed);
    ask.served_by = answer.plan.iter().map(|stage| stage.peer.clone()).collect();
    ask.credits_spent = Some(answer.spent.iter().map(|(_, token_mib)| token_mib).sum());
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
