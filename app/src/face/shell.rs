//! The terminal face: a node one types to.

pub(crate) mod parse;
pub(crate) mod show;

use std::io::Write as _;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::sync::{mpsc, watch};

use super::terminal::{Hidden, printable};
use crate::command::{self, Command};
use crate::files::{Sealing, Secret};
use crate::node::{Membership, Node};
use crate::report::MessageReport;
use parse::{Line, parse};
use show::{show, show_event, show_message};

const HELP: &str = "\
  found NAME in COMMUNITY   found a community, called NAME by your friends
  join NAME with INVITE     join with an invite: a link, a ticket, an invite file or a picture of its code
  cancel                    give up a join that nobody has answered
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
  communities               your communities, and joins under way
  use COMMUNITY             go on in another of your communities
  invite [USES]             make an invite; also --role guest|keeper, --days N, --png FILE, --file FILE
  invites                   open invites; invite revoke ID takes one back
  remove NAME               take someone out of the community; ban NAME keeps them out
  role NAME ROLE            make someone owner, admin, moderator, member, guest or keeper
  leave                     leave the community
  say TEXT                  write a message
  history                   the last messages; behind yours how far they got
  members, peers, models    who is here, whose machines, which models
  models add [FILE]         share a GGUF file, or the model built in
  share [MODEL]             make a model ready on everyone's machines
  ask QUESTION              ask the model; Ctrl+C stops the answer
  balances                  everyone's credits
  export FILE               write this community into a file; --blobs puts its models in
  import FILE               take in what a file holds
  backup FILE               write everything of yours into a file
  offline, online           stop talking to others for a while, and again
  status                    how this node is doing
  audit                     check every stored feed against Automerge
  help, quit                invite --help, export --help and so on show all options
";

/// Messages shown when they arrive, at most so many at once.
const ARRIVED_MAX: usize = 20;

/// What a person types, line by line.
type Typed = Lines<BufReader<Stdin>>;

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
            Line::Explained(text) => say(&text),
            Line::Run(mut command) => {
                if complete(&mut command, &mut lines).await? {
                    run(&node, *command).await;
                }
            }
        }
    }
    arrivals.abort();
    say("\nGoodbye. Everything is saved.\n");
    Ok(())
}

fn greet(node: &Node) {
    let place = node.data_folder().display();
    if node.joining().is_some() {
        say(&format!(
            "A join is under way; it goes on. Type status to look, cancel to give it up. Data: {place}\n"
        ));
        say("Type help for all commands.\n");
        return;
    }
    match node.membership() {
        Ok(membership) => {
            let state = membership.replica().state();
            if membership.reads() {
                say(&format!(
                    "You are {} in {}. Data: {place}\n",
                    node.profile().name,
                    printable(state.charter.name())
                ));
            } else {
                say(&format!("This is a keeper: it carries what it cannot read. Data: {place}\n"));
            }
        }
        Err(_) => say(&format!(
            "Welcome. There is no community here yet. Data: {place}\n\
             Type  found YOUR NAME in COMMUNITY NAME  or  join YOUR NAME with INVITE.\n"
        )),
    }
    say("Type help for all commands.\n");
}

/// Asks for what is not typed where everybody sees it. Returns whether the
/// command can be carried out.
async fn complete(command: &mut Command, lines: &mut Typed) -> std::io::Result<bool> {
    let sealing = match command {
        Command::Export(wish) => &mut wish.sealing,
        Command::Backup(wish) => &mut wish.sealing,
        Command::Import(wish) => {
            // What is wrong with the file says the command itself.
            if wish.lacks_passphrase().unwrap_or(false) {
                let typed = ask_hidden("The passphrase that the file was sealed with: ", lines).await?;
                wish.passphrase = Some(Secret::new(typed));
            }
            return Ok(true);
        }
        // The phrase is not typed among other words.
        Command::ComeBack { phrase, .. } if phrase.is_empty() => {
            *phrase = ask_hidden("Your 24 words: ", lines).await?;
            return Ok(!phrase.is_empty());
        }
        _ => return Ok(true),
    };
    if !sealing.is_open() {
        return Ok(true);
    }
    let first = ask_hidden("A passphrase for the file (nobody can open it without): ", lines).await?;
    if first.is_empty() {
        say("Nothing was written. Add --no-passphrase if the file is to have none.\n");
        return Ok(false);
    }
    if ask_hidden("Once more: ", lines).await? != first {
        say("These were not the same. Nothing was written.\n");
        return Ok(false);
    }
    *sealing = Sealing { passphrase: Some(Secret::new(first)), ..Sealing::default() };
    Ok(true)
}

/// One line that is not shown while it is typed.
async fn ask_hidden(question: &str, lines: &mut Typed) -> std::io::Result<String> {
    say(question);
    let hidden = Hidden::begin();
    let typed = tokio::select! {
        typed = lines.next_line() => typed?,
        _ = tokio::signal::ctrl_c() => None,
    };
    drop(hidden);
    say("\n");
    Ok(typed.unwrap_or_default())
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
            let now: Vec<MessageReport> = rows.iter().map(|row| MessageReport::of(membership, row)).collect();
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
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
