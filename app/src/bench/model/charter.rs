//! Governance: events reduced per second.

use exo_model::charter::Charter;
use exo_model::event::{CharterEvent, Event};
use exo_model::feed::{Stream, VerifiedEvent};

use super::people::{Village, admit_all};
use super::{Figure, fastest, figure, per_second, short};

/// People who write by turns.
const PEOPLE: usize = 10;
/// Events that reach a replica at once.
const BATCH: usize = 256;

pub(super) fn run(size: usize, print: &mut dyn FnMut(&Figure)) -> anyhow::Result<()> {
    let mut village = Village::new(PEOPLE)?;
    // Composed once and opened once: what is measured is the reduction.
    let mut written = Vec::new();
    for number in 0..size {
        let event = CharterEvent::ProfileSet { name: format!("Villager {number}"), about: String::new() };
        village.write(number % PEOPLE, Stream::Charter, &event.into())?;
        if written.len() + village.runs.len() > BATCH * 16 {
            written.append(&mut village.runs);
        }
    }
    written.append(&mut village.runs);
    village.runs = written;
    let mut reader = village.fresh();
    let mut events: Vec<VerifiedEvent> = Vec::new();
    for run in admit_all(village.as_sent(BATCH))? {
        events.extend(reader.insert(&run).events);
    }
    events.retain(|event| matches!(event.event, Ok(Event::Charter(_))));
    // As written: each author's events come between the others'.
    events.sort_by_key(|event| (event.lamport, event.hash));
    let took = fastest(2, || {
        let mut charter = Charter::new(village.community.id());
        for batch in events.chunks(BATCH) {
            charter.insert(batch);
        }
        std::hint::black_box(charter.state());
    });
    let rate = per_second(events.len(), took);
    print(&figure(format!("charter_reduce_{}", short(size)), rate, "events/s", Some(50_000.0)));
    Ok(())
}
