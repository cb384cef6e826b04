//! Words and moderation of a whole community: from sealed feeds to what people
//! see of a channel, and from a report to what everyone agrees is hidden.

mod home;

use exo_model::charter::Role;
use exo_model::conversation::{Conversation, Place};
use exo_model::decide::{Intent, Refusal};
use exo_model::event::charter::ReportOutcome;
use exo_model::event::{Event, ModerationEvent, TalkEvent};
use exo_model::feed::{AcceptedRun, Stream, VerifiedEvent};
use exo_model::sealing::{EpochKey, SealContext, SealedFor};
use exo_model::{ChangeHash, PersonId};
use home::seeded::Rng;
use home::{Home, Person, garden, meet, settle};

/// What a home makes of the events it holds, in this order.
fn conversation_of<'a>(home: &Home, events: impl Iterator<Item = &'a VerifiedEvent>) -> Conversation {
    let mut conversation = Conversation::new(home.community.id(), Place::Channel(home.channel()));
    for event in events {
        if let (Ok(Event::Talk(body)), Some(spoken)) = (&event.event, home.community.spoken(event)) {
            conversation.insert(&spoken, body);
        }
    }
    conversation
}

fn conversation(home: &Home) -> Conversation {
    conversation_of(home, home.events.iter())
}

fn texts(conversation: &Conversation) -> Vec<String> {
    let page = conversation.page_before(None, 100);
    page.iter().filter_map(|message| Some(message.text()?.to_owned())).collect()
}

fn talk(home: &mut Home, event: TalkEvent) -> ChangeHash {
    let channel = home.channel();
    home.act(Intent::Talk(channel, event))
}

fn report(home: &mut Home, subject: PersonId, message: Option<ChangeHash>) -> Result<ChangeHash, Refusal> {
    let context = SealContext { community: home.community.id(), audience: b"report" };
    let account = SealedFor::seal(b"rude", &[home.community.sealing_key()].into(), &context, home.entropy());
    let account = account.expect("few recipients");
    home.try_act(Intent::Report(ModerationEvent::ReportFiled { subject, message, account }))
}

#[test]
fn a_channel_is_the_same_for_everyone_in_every_order() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Member, Role::Member]);
    let room = a.channel();
    let first = a.say(room, "Who waters the plants?");
    settle(&mut [&mut a, &mut b, &mut c]);
    let answer = b.act(Intent::Post {
        channel: room,
        text: "I do.".into(),
        reply_to: Some(first),
        mentions: vec![people[0].id()],
        attachments: Vec::new(),
    });
    talk(&mut c, TalkEvent::Reacted { message: first, reaction: "🌱".into(), on: true });
    meet(&mut [&mut a, &mut b, &mut c]);
    talk(&mut b, TalkEvent::Edited { message: answer, text: "I do, daily.".into() });
    // Nobody edits what others said.
    let forced = TalkEvent::Edited { message: answer, text: "I never do.".into() };
    c.write(Stream::Channel(room), &forced.into());
    let gone = c.say(room, "oops");
    talk(&mut c, TalkEvent::Deleted { message: gone });
    // He goes on after he was removed: nobody hears it.
    meet(&mut [&mut a, &mut b, &mut c]);
    a.act(Intent::Remove { person: people[1].id(), ban: false, reason: String::new() });
    b.say(room, "am I still here?");
    meet(&mut [&mut a, &mut b, &mut c]);
    let expected = ["Who waters the plants?", "I do, daily."];
    let mut rng = Rng(4);
    for home in [&a, &c] {
        let seen = conversation(home);
        assert_eq!(texts(&seen), expected, "{}", home.name);
        assert_eq!(seen.hash(), conversation(&a).hash());
        let mut events: Vec<_> = home.events.iter().collect();
        for _ in 0..20 {
            rng.shuffle(&mut events);
            assert_eq!(conversation_of(home, events.iter().copied()).hash(), seen.hash());
        }
    }
}

#[test]
fn a_report_is_answered_and_what_is_hidden_is_hidden_for_all() {
    let (people, [mut a, mut m, mut b, mut c]) =
        garden([Role::Owner, Role::Moderator, Role::Member, Role::Member]);
    settle(&mut [&mut a, &mut m, &mut b, &mut c]);
    let room = a.channel();
    let rude = c.say(room, "rude");
    meet(&mut [&mut a, &mut m, &mut b, &mut c]);
    let filed = report(&mut b, people[3].id(), Some(rude)).expect("a member may");
    report(&mut b, people[3].id(), Some(rude)).expect("once more is the same matter");
    meet(&mut [&mut a, &mut m, &mut b, &mut c]);
    for home in [&a, &m] {
        let open = home.community.open_reports();
        let [one] = open.as_slice() else { panic!("{open:?}") };
        assert_eq!((one.report.id, one.report.author, one.repeats), (filed, people[2].id(), 1));
        assert_eq!((one.report.subject, one.report.message), (people[3].id(), Some(rude)));
    }
    assert!(!b.community.is_hidden(people[3].id(), rude));
    let hide = |author: &Person| Intent::HideMessage {
        author: author.id(),
        message: rude,
        hidden: true,
        reason: "rude".into(),
    };
    assert_eq!(b.try_act(hide(&people[3])), Err(Refusal::NotEntitled), "members do not");
    // A decision answers what was said until then, by the clocks.
    m.now_ms = b.now_ms + 1;
    m.act(hide(&people[3]));
    m.act(Intent::DecideReport {
        report: filed,
        subject: people[3].id(),
        outcome: ReportOutcome::Hidden,
        note: String::new(),
    });
    meet(&mut [&mut a, &mut m, &mut b, &mut c]);
    for home in [&a, &m, &b, &c] {
        assert!(home.community.is_hidden(people[3].id(), rude), "{}", home.name);
        assert!(home.community.open_reports().is_empty());
        assert_eq!(home.hash(), a.hash());
    }
    let log: Vec<_> = c.community.charter().moderation().log().map(|row| row.by).collect();
    assert_eq!(log, [people[1].id(), people[1].id()]);
}

/// A report that comes before its author's admission is known waits, and is
/// there once that is.
#[test]
fn a_report_that_comes_before_its_author_is_known_waits() {
    let (people, [mut a, mut b]) = garden([Role::Owner, Role::Member]);
    settle(&mut [&mut a, &mut b]);
    let filed = report(&mut b, people[0].id(), None).expect("a member may");
    meet(&mut [&mut a, &mut b]);
    let runs: Vec<_> = a.store.values().flatten().cloned().collect();
    let is_report = |run: &AcceptedRun| run.feed().stream == Stream::Moderation;
    let (reports, others): (Vec<_>, Vec<_>) = runs.into_iter().partition(is_report);
    let mut late = a.blank();
    for id in a.community.keyring().ids() {
        let key = a.community.keyring().key(id).expect("held");
        late.community.learn_key(EpochKey::from_bytes(key.as_bytes()));
    }
    for run in reports.into_iter().chain(others) {
        late.keep(run);
    }
    let open = late.community.open_reports();
    assert_eq!(open.iter().map(|open| open.report.id).collect::<Vec<_>>(), [filed]);
}
