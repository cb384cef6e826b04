//! Words in a channel: gate, reduction, opening, memory.

use exo_model::community::Community;
use exo_model::conversation::{Conversation, Place, Spoken};
use exo_model::event::{Event, TalkEvent};
use exo_model::feed::Stream;
use exo_model::feed::gate::AcceptedRun;
use exo_model::id::ChannelId;

use super::people::{Village, admit_all};
use super::{Figure, fastest, figure, micros_each, per_second, short};

/// People who talk by turns.
const PEOPLE: usize = 10;
/// Changes in one run, as peers send them.
const RUN: usize = 256;
/// Letters of a message: a line or two.
const LETTERS: usize = 60;

/// A community whose members wrote `size` messages.
pub(super) struct History {
    pub(super) size: usize,
    pub(super) village: Village,
    pub(super) channel: ChannelId,
}

pub(super) fn write(size: usize) -> anyhow::Result<History> {
    let mut village = Village::new(PEOPLE)?;
    let channel = village.open_channel("square")?;
    for number in 0..size {
        village.write(number % PEOPLE, Stream::Channel(channel), &message(number).into())?;
    }
    Ok(History { size, village, channel })
}

/// A message of the usual length.
pub(in crate::bench) fn message(number: usize) -> TalkEvent {
    let text = format!("{number:>width$}", width = LETTERS).replace(' ', "·a");
    let text = text.chars().take(LETTERS).collect();
    TalkEvent::Posted { text, reply_to: None, mentions: Vec::new(), attachments: Vec::new() }
}

pub(super) fn run(history: &History, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let name = |what: &str| format!("{what}_{}", short(history.size));
    let sent = history.village.as_sent(RUN);
    let changes = sent.iter().map(|run| run.changes.len()).sum();

    let mut accepted = Vec::new();
    let gate = fastest(2, || accepted = admit_all(sent.clone()).unwrap_or_default());
    // Handing over the runs is not the gate's work.
    let copy = fastest(2, || drop(std::hint::black_box(sent.clone())));
    let gate = gate.saturating_sub(copy);
    print(&figure(name("gate_per_change"), micros_each(changes, gate), "µs", Some(1.0)));

    let mut kept = None;
    let took = fastest(2, || {
        drop(kept.take());
        kept = Some(reduce(history, &accepted));
    });
    print(&figure(name("chat_reduce"), per_second(changes, took), "events/s", Some(200_000.0)));
    let Some((community, conversation)) = kept else { return Ok(()) };
    let remembered = (community.snapshot(), conversation.encode());
    let replayed: Vec<_> = accepted
        .iter()
        .filter(|run| exo_model::community::snapshot::is_replayed(&run.feed().stream))
        .collect();
    let open = fastest(3, || {
        let mut community = history.village.fresh();
        let restored = community.restore(&remembered.0, |_, _| true);
        for run in &replayed {
            community.insert(run);
        }
        let conversation = Conversation::decode(&remembered.1);
        std::hint::black_box((restored.is_ok(), conversation.is_ok(), community));
    });
    let target = (history.size == 100_000).then_some(300.0);
    print(&figure(name("open_from_snapshot"), open.as_secs_f64() * 1e3, "ms", target));
    let cold = fastest(1, || {
        let accepted = admit_all(sent.clone()).unwrap_or_default();
        std::hint::black_box(reduce(history, &accepted));
    });
    let target = (history.size == 100_000).then_some(6.0);
    print(&figure(name("open_from_changes"), cold.as_secs_f64(), "s", target));
    Ok(())
}

/// From accepted changes to what people see: opened, judged, put in order.
fn reduce(history: &History, accepted: &[AcceptedRun]) -> (Community, Conversation) {
    let mut community = history.village.fresh();
    let mut conversation = Conversation::new(community.id(), Place::Channel(history.channel));
    for run in accepted {
        take(&mut community, &mut conversation, run);
    }
    (community, conversation)
}

pub(super) fn take(community: &mut Community, conversation: &mut Conversation, run: &AcceptedRun) {
    let inserted = community.insert(run);
    let words: Vec<(Spoken, TalkEvent)> = inserted
        .events
        .into_iter()
        .filter_map(|event| {
            let spoken = community.spoken(&event)?;
            match event.event {
                Ok(Event::Talk(body)) => Some((spoken, body)),
                _ => None,
            }
        })
        .collect();
    conversation.insert_all(&words);
}
