//! The terminal face: a node one types to.

use std::io::Write as _;
use std::sync::Arc;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines};
use tokio::sync::{mpsc, watch};

use super::terminal::printable;
use crate::bytes::human;
use crate::command::{self, Command, NotifyLevel, Reply};
use crate::engine::AskEvent;
use crate::node::{Membership, Node};
use crate::report::MessageReport;
use exo_model::amount::Amount;

const HELP: &str = "\
  found NAME in COMMUNITY   found a community, called NAME by your friends
  join NAME with TICKET     join with an invite ticket (it starts with exo1)
  phrase [forget]           your recovery phrase; forget deletes it here, once you wrote it down
  devices                   your devices
  device link               show a code that makes another device yours
  device join CODE          become a device of the person whose other device shows CODE
  device revoke DEVICE      take a lost device out everywhere
  come back as NAME with TICKET   after losing all devices: asks for your phrase
  relays [add URL [PIN] | remove URL]   relays for friends who cannot reach each other
  setting NAME [= VALUE]    a setting that follows you to all your devices
  read                      mark everything read, on all your devices
  notify all|mentions|nothing   how loud this community may be
  remove NAME               take someone out of the community; ban NAME keeps them out
  role NAME ROLE            make someone owner, admin, moderator, member, guest or keeper
  leave                     leave the community
  cancel                    give up a join that nobody has answered
  communities               your communities
  use COMMUNITY             go on in another of your communities
  invite [USES]             make an invite ticket; one use unless you say more
  say TEXT                  write a message
  history                   the last messages
  members, peers, models    who is here, whose machines, which models
  models add [FILE]         share a GGUF file, or the model built in
  share [MODEL]             make a model ready on everyone's machines
  ask QUESTION              ask the model; Ctrl+C stops the answer
  balances                  everyone's credits
  offline, online           stop talking to others for a while, and again
  status                    how this node is doing
  audit                     check every stored feed against Automerge
  help, quit
";

/// Messages shown when they arrive, at most so many at once.
const ARRIVED_MAX: usize = 20;

/// What a typed line asks for.
#[derive(Debug, PartialEq)]
enum Line {
    Nothing,
    Help,
    Quit,
    Unknown(String),
    Incomplete(&'static str),
    Run(Box<Command>),
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_value(self).ok() == serde_json::to_value(other).ok()
    }
}

fn parse(line: &str) -> Line {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let text = || rest.to_owned();
    let optional = || (!rest.is_empty()).then(|| rest.to_owned());
    let command = match word.to_lowercase().as_str() {
        "" => return Line::Nothing,
        "help" | "?" => return Line::Help,
        "quit" | "exit" => return Line::Quit,
        "found" => match rest.split_once(" in ") {
            Some((name, community)) => Command::Found { name: name.into(), community: community.into() },
            None => return Line::Incomplete("found NAME in COMMUNITY"),
        },
        "join" => match rest.rsplit_once(" with ") {
            Some((name, ticket)) => Command::Join { name: name.into(), ticket: ticket.into() },
            None => return Line::Incomplete("join NAME with TICKET"),
        },
        "cancel" => Command::CancelJoin,
        "communities" => Command::Communities,
        "use" if !rest.is_empty() => Command::Use { community: text() },
        "use" => return Line::Incomplete("use COMMUNITY"),
        "invite" if rest.is_empty() => Command::Invite { uses: 1 },
        "invite" => match rest.parse() {
            Ok(uses) => Command::Invite { uses },
            Err(_) => return Line::Incomplete("invite [USES], where USES is a number"),
        },
        "devices" => Command::Devices,
        "device" => match rest.split_once(char::is_whitespace).unwrap_or((rest, "")) {
            ("link", "") => Command::LinkDevice,
            ("status", "") => Command::LinkStatus,
            ("join", code) if !code.trim().is_empty() => Command::BecomeDevice { code: code.trim().into() },
            ("revoke", device) if !device.trim().is_empty() => {
                Command::RevokeDevice { device: device.trim().into(), phrase: None }
            }
            _ => {
                return Line::Incomplete(
                    "device link, device status, device join CODE or device revoke DEVICE",
                );
            }
        },
        "come" => match rest.strip_prefix("back as ").and_then(|rest| rest.rsplit_once(" with ")) {
            Some((name, ticket)) => {
                Command::ComeBack { name: name.into(), phrase: String::new(), ticket: ticket.into() }
            }
            None => return Line::Incomplete("come back as NAME with TICKET"),
        },
        "relays" => match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => Command::Relays,
            ["add", url] => Command::AddRelay { url: (*url).into(), pin: None },
            ["add", url, pin] => Command::AddRelay { url: (*url).into(), pin: Some((*pin).into()) },
            ["remove", url] => Command::RemoveRelay { url: (*url).into() },
            _ => return Line::Incomplete("relays, relays add URL [PIN] or relays remove URL"),
        },
        "setting" if !rest.is_empty() => match rest.split_once('=') {
            Some((name, value)) => {
                Command::Setting { name: name.trim().into(), value: Some(value.trim().into()) }
            }
            None => Command::Setting { name: text(), value: None },
        },
        "setting" => return Line::Incomplete("setting NAME, or setting NAME = VALUE"),
        "read" => Command::MarkRead,
        "notify" => match rest {
            "all" => Command::Notify { level: NotifyLevel::All },
            "mentions" => Command::Notify { level: NotifyLevel::Mentions },
            "nothing" => Command::Notify { level: NotifyLevel::Nothing },
            _ => return Line::Incomplete("notify all, notify mentions or notify nothing"),
        },
        "phrase" if matches!(rest, "" | "forget") => Command::Phrase { forget: rest == "forget" },
        "phrase" => return Line::Incomplete("phrase [forget]"),
        "remove" | "ban" if !rest.is_empty() => {
            Command::Remove { person: text(), ban: word == "ban", reason: String::new() }
        }
        "remove" | "ban" => return Line::Incomplete("remove NAME"),
        "role" => match rest.rsplit_once(char::is_whitespace) {
            Some((person, role)) => Command::SetRole { person: person.trim().into(), role: role.into() },
            None => return Line::Incomplete("role NAME ROLE"),
        },
        "leave" => Command::Leave,
        "say" if !rest.is_empty() => Command::Say { text: text() },
        "say" => return Line::Incomplete("say TEXT"),
        "ask" if !rest.is_empty() => Command::Ask { question: text(), model: None, max_tokens: None },
        "ask" => return Line::Incomplete("ask QUESTION"),
        "history" => Command::History { limit: None },
        "members" => Command::Members,
        "peers" => Command::Peers,
        "models" if rest.is_empty() => Command::Models,
        "models" => match rest.split_once(char::is_whitespace).unwrap_or((rest, "")) {
            ("add", "") => Command::AddModel { path: None },
            ("add", path) => Command::AddModel { path: Some(path.trim().into()) },
            _ => return Line::Incomplete("models add [FILE]"),
        },
        "share" => Command::Share { model: optional() },
        "balances" => Command::Balances,
        "offline" => Command::Online { online: false },
        "online" => Command::Online { online: true },
        "status" => Command::Status,
        "audit" => Command::Audit,
        _ => return Line::Unknown(word.to_owned()),
    };
    Line::Run(Box::new(command))
}

/// Serves the person until they quit or the input ends.
pub(crate) async fn serve(node: Arc<Node>) -> std::io::Result<()> {
    greet(&node);
    let arrivals = tokio::spawn(show_arrivals(node.clone()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        prompt();
        let line = tokio::select! {
            line = lines.next_line() => line?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { break };
        match parse(&line) {
            Line::Nothing => {}
            Line::Help => say(HELP),
            Line::Quit => break,
            Line::Unknown(word) => {
                say(&format!("There is no command \"{}\". Type help.\n", printable(&word)))
            }
            Line::Incomplete(usage) => say(&format!("Please write: {usage}\n")),
            Line::Run(command) => match with_phrase(*command, &mut lines).await? {
                Some(command) => run(&node, command).await,
                None => break,
            },
        }
    }
    arrivals.abort();
    say("\nGoodbye. Everything is saved.\n");
    Ok(())
}

/// Asks for the phrase where a command needs it: it is not typed among other
/// words. Nothing at the end of the input.
async fn with_phrase<R>(command: Command, lines: &mut Lines<R>) -> std::io::Result<Option<Command>>
where
    R: AsyncBufRead + Unpin,
{
    let Command::ComeBack { name, ticket, .. } = command else { return Ok(Some(command)) };
    say("Your 24 words: ");
    Ok(lines.next_line().await?.map(|phrase| Command::ComeBack { name, phrase, ticket }))
}

fn greet(node: &Node) {
    let place = node.data_folder().display();
    if node.joining().is_some() {
        say(&format!("A join is under way; it goes on. Type cancel to give it up. Data: {place}\n"));
        say("Type help for all commands.\n");
        return;
    }
    match node.membership() {
        Ok(membership) => {
            let state = membership.replica().state();
            say(&format!(
                "You are {} in {}. Data: {place}\n",
                node.profile().name,
                printable(state.charter.name())
            ));
        }
        Err(_) => say(&format!(
            "Welcome. There is no community here yet. Data: {place}\n\
             Type  found YOUR NAME in COMMUNITY NAME  or  join YOUR NAME with TICKET.\n"
        )),
    }
    say("Type help for all commands.\n");
}

async fn run(node: &Arc<Node>, command: Command) {
    let joining = matches!(command, Command::Join { .. });
    if joining {
        say(
            "Asking the members named in the invite. If nobody is online this goes on; Ctrl+C stops waiting.\n",
        );
    }
    let (events, mut news) = mpsc::channel(256);
    let (stop, stopped) = watch::channel(false);
    let running = command::run(node, command, events, stopped);
    let showing = async {
        while let Some(event) = news.recv().await {
            show_event(node, event);
        }
    };
    let both = async { tokio::join!(running, showing).0 };
    tokio::pin!(both);
    let outcome = loop {
        tokio::select! {
            outcome = &mut both => break outcome,
            _ = tokio::signal::ctrl_c() => {
                if joining {
                    say("\nThe join goes on in the background. Type status to look, cancel to give it up.\n");
                    return;
                }
                stop.send_replace(true);
            }
        }
    };
    match outcome {
        Ok(reply) => show(&reply),
        Err(error) => say(&format!("That did not work: {}.\n", printable(&error.to_string()))),
    }
}

fn show_event(node: &Node, event: AskEvent) {
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

fn show(reply: &Reply) {
    match reply {
        Reply::Done => {}
        Reply::Community(report) => say(&format!(
            "You are in {}.\nType phrase to see the 24 words that get you back in, should this device be lost.\n",
            printable(&report.community)
        )),
        Reply::Communities { communities } if communities.is_empty() => {
            say("  None yet. Type found or join.\n");
        }
        Reply::Communities { communities } => {
            for community in communities {
                let mark = if community.current { "*" } else { " " };
                let name = if community.member { printable(&community.name) } else { "(joining)".into() };
                say(&format!("{mark} {name:<24} {} members, {}\n", community.members, community.id));
            }
        }
        Reply::Ticket { ticket } => say(&format!("Give this to your friend:\n\n{ticket}\n\n")),
        Reply::Devices { devices } => {
            for device in devices {
                let mark = if device.this { "*" } else { " " };
                let state = if device.online { "online" } else { "offline" };
                let name = printable(&device.name);
                say(&format!("{mark} {name:<24} {state:<8} {}\n", device.device));
            }
        }
        Reply::Code { words, link } => say(&format!(
            "On the other device, start Exo-Studio with an empty folder and type, within ten minutes:\n\n  device join \
             {words}\n\nThe words serve on the same local network. From anywhere else, use this link instead:\n\n  {link}\n\n\
             Whoever has the words or the link can become you: show them to nobody else. Type device status to see \
             whether it was used.\n"
        )),
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
        Reply::Peers { peers } => {
            for peer in peers {
                let rtt = peer.rtt_ms.map_or(String::new(), |rtt| format!(" {rtt:.1} ms"));
                let name = printable(&peer.name);
                say(&format!("  {name:<24} {}{rtt}, offers {}", peer.path, human(peer.offered_bytes)));
                for (model, [start, end]) in &peer.hosts {
                    say(&format!(", hosts layers {start}..{end} of {}", printable(model)));
                }
                say("\n");
            }
        }
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
                say(&format!(
                    "  {:<24} {}\n",
                    printable(&balance.name),
                    Amount::from_token_mib(balance.token_mib)
                ));
            }
            say(&format!("  {:<24} {}\n", "all together", Amount::from_token_mib(*sum)));
        }
        Reply::Holdings(holdings) => {
            let held: u64 = holdings.ranges.iter().map(|[start, end]| end - start).sum();
            say(&format!("  {} of {} are here\n", human(held), human(holdings.size_bytes)));
        }
        Reply::Status(status) => {
            say(&format!(
                "  {} members, {} online, {} changes stored\n  state {}\n",
                status.members, status.online, status.changes, status.state_hash
            ));
            for refusal in &status.refusals {
                say(&format!("  refused: {}\n", printable(refusal)));
            }
        }
        Reply::Audit(report) => {
            say(&format!("  {} feeds: Automerge reads every one of them as we do\n", report.feeds));
        }
    }
}

fn show_model(model: &crate::report::ModelReport) {
    let licence = if model.licence.is_empty() { "licence not stated" } else { &model.licence };
    let (name, licence) = (printable(&model.name), printable(licence));
    say(&format!("  {name:<24} {} layers, {}, {licence}\n", model.layers, human(model.size_bytes)));
}

fn show_message(message: &MessageReport) {
    say(&format!("  {}: {}\n", printable(&message.author), printable(&message.text)));
}

/// Prints messages of others as they arrive.
async fn show_arrivals(node: Arc<Node>) {
    let mut memberships = node.watch_membership();
    loop {
        let current = memberships.borrow_and_update().clone();
        match current {
            Some(membership) => {
                tokio::select! {
                    () = follow_messages(&membership) => return,
                    changed = memberships.changed() => if changed.is_err() { return },
                }
            }
            None => {
                if memberships.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn follow_messages(membership: &Membership) {
    let me = membership.mesh().device().to_hex();
    let mut views = membership.watch_views();
    let mut seen: Option<Vec<String>> = None;
    loop {
        if let Ok(channel) = membership.channel()
            && let Ok(rows) =
                membership.query(move |reader| reader.messages(&channel, ARRIVED_MAX, None)).await
        {
            let now: Vec<MessageReport> = rows.iter().map(MessageReport::of).collect();
            if let Some(seen) = &seen {
                for message in now.iter().filter(|m| !seen.contains(&m.id) && m.device != me) {
                    say("\r");
                    show_message(message);
                    prompt();
                }
            }
            seen = Some(now.into_iter().map(|message| message.id).collect());
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

fn prompt() {
    say("> ");
}

/// Writes to standard output; a closed one ends the program soon anyway.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_commands() {
        let run = |line: &str| match parse(line) {
            Line::Run(command) => serde_json::to_string(&*command).expect("serialises"),
            other => format!("{other:?}"),
        };
        assert_eq!(
            run("found Ana Maria in The Garden"),
            r#"{"command":"found","name":"Ana Maria","community":"The Garden"}"#
        );
        assert_eq!(
            run("join Ben with Love with exo1abc"),
            r#"{"command":"join","name":"Ben with Love","ticket":"exo1abc"}"#
        );
        assert_eq!(run("say  hello  there "), r#"{"command":"say","text":"hello  there"}"#);
        assert_eq!(run("invite"), r#"{"command":"invite","uses":1}"#);
        assert_eq!(run("models add /tmp/a b.gguf"), r#"{"command":"add_model","path":"/tmp/a b.gguf"}"#);
        assert_eq!(parse("found Ana"), Line::Incomplete("found NAME in COMMUNITY"));
        assert_eq!(parse("dance"), Line::Unknown("dance".into()));
        assert_eq!(parse("   "), Line::Nothing);
    }
}
