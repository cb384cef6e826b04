//! From answers to lines of text.

use chrono::{DateTime, Local};
use exo_model::amount::Amount;
use exo_model::invite::Ticket;

use super::say;
use crate::bytes::human;
use crate::command::Reply;
use crate::engine::AskEvent;
use crate::face::terminal::{ground, printable};
use crate::node::Node;
use crate::report::{
    BackupReport, CommunityEntry, DeliveryReport, ExportReport, ImportReport, InviteReport, InviteState,
    JoinReport, MessageReport, ModelReport, PeerReport, StatusReport, TicketReport,
};
use crate::ticket;

/// Characters of an invite's id that are shown; more are asked for where they do
/// not tell it from others.
const ID_SHOWN: usize = 12;

pub(super) fn show_event(node: &Node, event: AskEvent) {
    let Ok(membership) = node.membership() else { return };
    let state = membership.replica().state();
    match event {
        AskEvent::Planned(stages) => {
            for stage in stages {
                say(&format!(
                    "  {} takes layers {}\n",
                    printable(&state.charter.name_of(&stage.device)),
                    stage.layers
                ));
            }
        }
        AskEvent::Fetching { device, received, total } => {
            say(&format!(
                "\r  {} fetches {} of {}   ",
                state.charter.name_of(&device),
                human(received),
                human(total)
            ));
        }
        AskEvent::Answering(_) => say("\n"),
        AskEvent::Text(text) => say(&printable(&text)),
    }
}

/// Shows an answer.
pub(crate) fn show(reply: &Reply) {
    match reply {
        Reply::Done => {}
        Reply::Community(report) => say(&format!(
            "You are in {}.\nType phrase to see the 24 words that get you back in, should this device be lost.\n",
            printable(&report.community)
        )),
        Reply::Communities { communities } => show_communities(communities),
        Reply::Ticket(report) => show_ticket(report),
        Reply::Invites { invites } => show_invites(invites),
        Reply::Exported(report) => show_export(report),
        Reply::Imported { communities } => communities.iter().for_each(show_import),
        Reply::BackedUp(report) => show_backup(report),
        Reply::Devices { devices } => {
            for device in devices {
                let mark = if device.this { "*" } else { " " };
                let state = if device.online { "online" } else { "offline" };
                let name = printable(&device.name);
                say(&format!("{mark} {name:<24} {state:<8} {}\n", device.device));
            }
        }
        Reply::Code { words, link } => show_code(words, link),
        Reply::Linking { state, detail } => say(&format!("  {state} {}\n", printable(detail))),
        Reply::Linked { device } => say(&format!("Linked: {}\n", printable(device))),
        Reply::Returned { communities } => {
            say(&format!(
                "Welcome back. {communities} communities know you; what was written arrives now.\n"
            ));
        }
        Reply::Revoked { communities } => say(&format!("Taken out of {communities} communities.\n")),
        Reply::Relays { relays, .. } if relays.is_empty() => {
            say("  No relay. A friend can run one: exo-studio relay --help\n");
        }
        Reply::Relays { relays, home } => {
            for relay in relays {
                let mark = if home.as_ref().is_some_and(|home| home.trim_end_matches('/') == relay.url) {
                    "*"
                } else {
                    " "
                };
                say(&format!("{mark} {} {}\n", printable(&relay.url), relay.pin.as_deref().unwrap_or("")));
            }
        }
        Reply::Setting { name, value } => {
            say(&format!("  {} = {}\n", printable(name), printable(value.as_deref().unwrap_or("(not set)"))));
        }
        Reply::Phrase { phrase: Some(phrase) } => say(&format!(
            "These 24 words are you: with them, and only with them, you get back in from a new device.\n\n\
             {phrase}\n\n\
             Write them down on paper, then type: phrase forget\n"
        )),
        Reply::Phrase { phrase: None } => {
            say("The phrase is not on this device. It is where you wrote it down.\n");
        }
        Reply::Messages { messages } => messages.iter().for_each(show_message),
        Reply::Members { members } => {
            for member in members {
                say(&format!("  {:<24} {}\n", printable(&member.name), member.role));
            }
        }
        Reply::Peers { peers } if peers.is_empty() => say("  Nobody else is here yet. Type invite.\n"),
        Reply::Peers { peers } => peers.iter().for_each(show_peer),
        Reply::Status(status) => show_status(status),
        Reply::Audit(report) => {
            say(&format!("  {} feeds: Automerge reads every one of them as we do\n", report.feeds));
        }
        models => show_models(models),
    }
}

/// Shows answers about models and what they cost.
fn show_models(reply: &Reply) {
    match reply {
        Reply::Models { models } if models.is_empty() => say("  No model yet. Type models add.\n"),
        Reply::Models { models } => models.iter().for_each(show_model),
        Reply::Model(model) => show_model(model),
        Reply::Stages { stages } => {
            for stage in stages {
                let [start, end] = stage.layers;
                let fetched = human(stage.fetched_bytes);
                say(&format!("  {:<24} layers {start}..{end}, fetched {fetched}\n", printable(&stage.peer)));
            }
        }
        Reply::Answer(answer) => {
            let spent: i64 = answer.spent.iter().map(|(_, amount)| amount).sum();
            say(&format!(
                "\n  ({} tokens, {:.1} a second, {} machines, {})\n",
                answer.tokens,
                answer.tokens_per_second,
                answer.plan.len(),
                Amount::from_token_mib(spent)
            ));
        }
        Reply::Balances { balances, sum } => {
            for balance in balances {
                let amount = Amount::from_token_mib(balance.token_mib);
                say(&format!("  {:<24} {amount}\n", printable(&balance.name)));
            }
            say(&format!("  {:<24} {}\n", "all together", Amount::from_token_mib(*sum)));
        }
        Reply::Holdings(holdings) => {
            let held: u64 = holdings.ranges.iter().map(|[start, end]| end - start).sum();
            say(&format!("  {} of {} are here\n", human(held), human(holdings.size_bytes)));
        }
        _ => {}
    }
}

fn show_communities(communities: &[CommunityEntry]) {
    if communities.is_empty() {
        say("  None yet. Type found or join.\n");
    }
    for community in communities {
        let mark = if community.current { "*" } else { " " };
        let name = if community.name.is_empty() { "(no name)".into() } else { printable(&community.name) };
        let what = match community.standing.as_str() {
            "keeper" => carried(community.carried_bytes),
            "joining" => "joining".into(),
            "reading" => format!("{} members, you can read it and not write", community.members),
            _ => format!("{} members", community.members),
        };
        say(&format!("{mark} {name:<24} {what}, {}\n", community.id));
        if let Some(join) = &community.join {
            say(&format!("    {}\n", how_join_goes(join)));
        }
    }
}

fn carried(bytes: Option<[u64; 2]>) -> String {
    let [carried, room] = bytes.unwrap_or_default();
    format!("keeper, carries {} of {} at most", human(carried), human(room))
}

/// A join in words.
pub(crate) fn how_join_goes(join: &JoinReport) -> String {
    match (join.state.as_str(), join.rounds) {
        ("admitted", _) => "let in; the history is on its way".into(),
        (_, 0) => "asking for the first time".into(),
        (_, rounds) => {
            let times = if rounds == 1 { "once".into() } else { format!("{rounds} times") };
            format!("asked everyone {times}, it goes on; last answer: {}", printable(&join.last_error))
        }
    }
}

fn show_code(words: &str, link: &str) {
    say(&format!(
        "On the other device, start Exo-Studio with an empty folder and type, within ten minutes:\n\n  device join \
         {words}\n\nThe words serve on the same local network. From anywhere else, use this link instead:\n\n  {link}\n\n"
    ));
    if let Some(code) = ticket::code_of_text(link) {
        say(&code.lines(ground()));
    }
    say(
        "Whoever has the words or the link can become you: show them to nobody else. Type device status to see \
         whether it was used.\n",
    );
}

fn show_ticket(report: &TicketReport) {
    let whom = match report.uses {
        1 => format!("one {}", report.role),
        uses => format!("{uses} people, each as {}", report.role),
    };
    say(&format!(
        "An invite for {whom}, until {}. Whoever has it can come in: send it by a way you trust.\n\n\
         {}\n\nThe same as a ticket:\n\n{}\n\n",
        when(report.expires_ms),
        report.link,
        report.ticket
    ));
    if let Some(code) = report.ticket.parse::<Ticket>().ok().and_then(|t| ticket::code_for_terminal(&t).ok())
    {
        say(&code.lines(ground()));
        if code.left_out > 0 {
            say(&format!(
                "(The code has no room for {} of the addresses; the link has them.)\n",
                code.left_out
            ));
        }
    }
    for file in &report.files {
        say(&format!("Written: {file}\n"));
    }
    say(&format!("To take it back: invite revoke {}\n", short(&report.id)));
}

fn show_invites(invites: &[InviteReport]) {
    let (open, closed): (Vec<_>, Vec<_>) =
        invites.iter().partition(|invite| invite.state == InviteState::Open);
    // A single one was asked for.
    let shown = if invites.len() == 1 { invites.iter().collect() } else { open };
    if shown.is_empty() {
        say("  No invite is open. Type invite to make one.\n");
    }
    for invite in shown {
        let left = match invite.state {
            InviteState::Open => format!("{} of {} uses left", invite.left(), invite.uses),
            state => state.as_str().to_owned(),
        };
        say(&format!(
            "  {:<ID_SHOWN$}  {left}, as {}, until {}, made by {}\n",
            short(&invite.id),
            invite.role,
            when(invite.expires_ms),
            printable(&invite.maker)
        ));
    }
    if invites.len() > 1 && !closed.is_empty() {
        say(&format!("  {} more are used up, expired or revoked\n", closed.len()));
    }
}

fn short(id: &str) -> &str {
    id.get(..ID_SHOWN).unwrap_or(id)
}

/// A time as this machine's clock shows it.
fn when(time_ms: i64) -> String {
    DateTime::from_timestamp_millis(time_ms).map_or_else(
        || "the end of time".into(),
        |time| time.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string(),
    )
}

fn seal_note(is_sealed: bool) -> &'static str {
    if is_sealed {
        "It opens with the passphrase only; nobody can help where that is forgotten."
    } else {
        "It is not sealed: whoever has it sees who takes part and when they wrote, though not their words."
    }
}

/// Tells of an exported community.
pub(crate) fn show_export(report: &ExportReport) {
    let name = if report.community.is_empty() { &report.id } else { &report.community };
    say(&format!(
        "{} is in {}: {} changes, {} models, {}.\n{}\n",
        printable(name),
        report.file,
        report.changes,
        report.blobs,
        human(report.bytes),
        seal_note(report.sealed)
    ));
}

/// Tells of a backup.
pub(crate) fn show_backup(report: &BackupReport) {
    say(&format!(
        "{}: {} communities, {} changes, {} models, {}.\n{}\n\
         Neither your recovery phrase nor this device's key is in it: to restore it you need the 24 words.\n",
        report.file,
        report.communities,
        report.changes,
        report.blobs,
        human(report.bytes),
        seal_note(report.sealed)
    ));
}

/// Tells what became of a community in a file.
pub(crate) fn show_import(report: &ImportReport) {
    let name = if report.community.is_empty() { &report.id } else { &report.community };
    say(&format!(
        "{}: {} changes new, {} known, {} deferred, {} refused.\n",
        printable(name),
        report.new,
        report.known,
        report.deferred,
        report.refused
    ));
    let by = report.made_by.get(..ID_SHOWN).unwrap_or_default();
    say(&format!("  The file was made by device {by}… on {}.\n", when(report.made_ms)));
    if report.deferred > 0 {
        say("  Deferred: their authors are not members as far as this device can read.\n");
    }
    for refusal in &report.refusals {
        say(&format!("  refused: {}\n", printable(refusal)));
    }
    if report.own > 0 {
        say(&format!(
            "  {} of them this device had written and lost. Meet a friend's computer before you write again.\n",
            report.own
        ));
    }
    if report.blobs > 0 {
        say(&format!("  {} models came with it\n", report.blobs));
    }
    if !report.member && !report.community.is_empty() {
        say("  You can read it. To write, a member has to let this device in.\n");
    }
}

fn show_model(model: &ModelReport) {
    let licence = if model.licence.is_empty() { "licence not stated" } else { &model.licence };
    let (name, licence) = (printable(&model.name), printable(licence));
    say(&format!("  {name:<24} {} layers, {}, {licence}\n", model.layers, human(model.size_bytes)));
}

fn show_peer(peer: &PeerReport) {
    let rtt = peer.rtt_ms.map_or(String::new(), |rtt| format!(" {rtt:.1} ms"));
    let name = printable(&peer.name);
    say(&format!("  {name:<24} {}{rtt}, offers {}", peer.path, human(peer.offered_bytes)));
    if let Some(load) = peer.load {
        let free = human(u64::from(load.free_mib) << 20);
        say(&format!(", {free} free, serves {}", load.sessions));
        if let Some(percent) = load.cpu_percent {
            say(&format!(", processor at {percent} %"));
        }
    }
    for (model, [start, end]) in &peer.hosts {
        say(&format!(", hosts layers {start}..{end} of {}", printable(model)));
    }
    say("\n");
}

fn show_status(status: &StatusReport) {
    if let Some(join) = &status.join {
        say(&format!("  joining {}: {}\n", printable(&status.community), how_join_goes(join)));
    }
    if status.standing == "keeper" {
        say(&format!("  {}\n", carried(status.carried_bytes)));
    }
    say(&format!(
        "  {} members, {} online, {} changes stored\n  state {}\n",
        status.members, status.online, status.changes, status.state_hash
    ));
    for refused in &status.refused_joins {
        let (community, reason) = (printable(&refused.community), printable(&refused.reason));
        say(&format!("  you were not let into {community}: {reason}\n"));
    }
    for refusal in &status.refusals {
        say(&format!("  refused: {}\n", printable(refusal)));
    }
}

/// One message, and behind one's own how far it has got.
pub(super) fn show_message(message: &MessageReport) {
    let mark = message.delivery.as_ref().map_or(String::new(), |delivery| format!("  {}", mark(delivery)));
    say(&format!("  {}: {}{mark}\n", printable(&message.author), printable(&message.text)));
}

fn mark(delivery: &DeliveryReport) -> String {
    let DeliveryReport { state, devices, of } = delivery;
    match state.as_str() {
        "arrived" => format!("✓ {devices}/{of}"),
        "all_online" => format!("✓ {devices}/{of}, all who are online"),
        "everyone" => "✓✓ everyone".into(),
        _ => "·".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_message_got_is_a_mark() {
        let delivery = |state: &str, devices| DeliveryReport { state: state.into(), devices, of: 5 };
        assert_eq!(mark(&delivery("written", 0)), "·");
        assert_eq!(mark(&delivery("arrived", 2)), "✓ 2/5");
        assert_eq!(mark(&delivery("all_online", 3)), "✓ 3/5, all who are online");
        assert_eq!(mark(&delivery("everyone", 5)), "✓✓ everyone");
    }

    #[test]
    fn a_join_is_told_with_its_last_error() {
        let join = |state: &str, rounds| JoinReport {
            state: state.into(),
            rounds,
            last_error: "no answer\u{1b}[2J".into(),
        };
        assert_eq!(how_join_goes(&join("trying", 0)), "asking for the first time");
        assert!(
            how_join_goes(&join("trying", 3)).contains("3 times, it goes on; last answer: no answer\u{fffd}")
        );
        assert!(how_join_goes(&join("admitted", 0)).contains("history"));
    }

    #[test]
    fn times_that_no_calendar_has_are_told() {
        assert_eq!(when(i64::MAX), "the end of time");
        assert!(when(0).starts_with("19"));
    }
}
