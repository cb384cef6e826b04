//! Moderation: what is hidden, what waits, what was done.

mod samples;

use exo_model::event::ModerationEvent;
use exo_model::event::charter::{CharterEvent, ReportOutcome};
use exo_model::feed::fence::Fence;
use exo_model::moderation::{
    Deed, HIDDEN_MAX, LOG_COLUMNS, LOG_ROWS_MAX, Moderation, ModerationFault, REPORTS_KEPT_PER_AUTHOR_MAX,
    REPORTS_OPEN_PER_AUTHOR_MAX, ReportQueue,
};
use exo_model::{ChangeHash, PersonId};
use samples::sealed_for;

const MODERATOR: PersonId = person(1);
const NOISY: PersonId = person(2);
const REPORTER: PersonId = person(3);

const fn person(n: u8) -> PersonId {
    PersonId::from_bytes([n; 32])
}

fn change(n: u64) -> ChangeHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    ChangeHash::from_bytes(bytes)
}

fn hide(author: PersonId, message: ChangeHash, hidden: bool) -> CharterEvent {
    CharterEvent::MessageHidden { author, message, hidden, reason: "off topic".to_owned() }
}

fn decided(report: ChangeHash, outcome: ReportOutcome) -> CharterEvent {
    CharterEvent::ReportDecided { report, subject: NOISY, outcome, note: "talked to them".to_owned() }
}

fn removed(ban: bool) -> CharterEvent {
    CharterEvent::Removed { person: NOISY, ban, reason: "again".to_owned(), fence: Fence::default() }
}

fn report(message: Option<u64>) -> ModerationEvent {
    ModerationEvent::ReportFiled { subject: NOISY, message: message.map(change), account: sealed_for() }
}

/// Ids of what is open, and how often each was repeated.
fn open(queue: &ReportQueue, moderation: &Moderation) -> Vec<(ChangeHash, usize)> {
    queue.open(moderation).iter().map(|open| (open.report.id, open.repeats)).collect()
}

#[test]
fn the_last_word_on_a_message_stands() {
    let (mut moderation, message) = (Moderation::default(), change(9));
    let mut apply = |n, event| moderation.apply(change(n), MODERATOR, 5, &event);
    assert_eq!(apply(1, hide(NOISY, message, false)), Err(ModerationFault::NotHidden));
    apply(2, hide(NOISY, message, true)).unwrap();
    apply(3, hide(NOISY, message, true)).unwrap();
    apply(4, hide(NOISY, message, false)).unwrap();
    apply(5, hide(NOISY, message, true)).unwrap();
    let hiding = moderation.hiding(NOISY, message).unwrap();
    assert_eq!((hiding.event, hiding.by, &*hiding.reason), (change(5), MODERATOR, "off topic"));
    assert_eq!(moderation.log().len(), 4, "what counted for nothing is no row");
    moderation.apply(change(6), MODERATOR, 5, &hide(NOISY, message, false)).unwrap();
    assert_eq!(moderation.hiding(NOISY, message), None);
}

#[test]
fn a_hiding_that_names_another_author_to_get_around_a_rank_hides_nothing() {
    let (mut moderation, message, owner) = (Moderation::default(), change(9), person(8));
    moderation.apply(change(1), MODERATOR, 5, &hide(NOISY, message, true)).unwrap();
    assert_eq!(moderation.hiding(owner, message), None);
}

#[test]
fn the_log_says_who_did_what_to_whom_and_when() {
    let mut moderation = Moderation::default();
    let events = [
        hide(NOISY, change(9), true),
        hide(NOISY, change(9), false),
        decided(change(7), ReportOutcome::Warned),
        removed(false),
        removed(true),
        CharterEvent::VouchWithdrawn { person: NOISY },
    ];
    for (n, event) in (0..).zip(&events) {
        moderation.apply(change(n), MODERATOR, 1_000 + i64::try_from(n).unwrap(), event).unwrap();
    }
    let deeds: Vec<_> = moderation.log().map(|row| row.deed).collect();
    let expected = [
        Deed::Hid(change(9)),
        Deed::PutBack(change(9)),
        Deed::Decided(change(7), ReportOutcome::Warned),
        Deed::Removed,
        Deed::Banned,
    ];
    assert_eq!(deeds, expected);
    let rows: Vec<_> = moderation.log().map(|row| row.columns()).collect();
    assert_eq!(rows[2].len(), LOG_COLUMNS.len());
    let third = [
        "1002",
        &change(2).to_hex(),
        &MODERATOR.to_hex(),
        "warned on report",
        &NOISY.to_hex(),
        &change(7).to_hex(),
        "talked to them",
    ];
    assert_eq!(rows[2], third);
    assert_eq!((&*rows[4][3], &*rows[4][5]), ("banned", ""));
}

#[test]
fn reports_of_one_matter_are_one_until_it_is_decided() {
    let (mut moderation, mut queue) = (Moderation::default(), ReportQueue::default());
    queue.apply(change(1), REPORTER, 10, &report(Some(50)));
    queue.apply(change(2), REPORTER, 20, &report(Some(50)));
    queue.apply(change(3), REPORTER, 30, &report(None));
    queue.apply(change(4), person(4), 15, &report(Some(50)));
    assert_eq!(open(&queue, &moderation), [(change(1), 1), (change(4), 0), (change(3), 0)]);

    moderation.apply(change(90), MODERATOR, 25, &decided(change(1), ReportOutcome::Dismissed)).unwrap();
    assert_eq!(open(&queue, &moderation), [(change(4), 0), (change(3), 0)]);
    assert_eq!(moderation.decision(change(1)).unwrap().outcome, ReportOutcome::Dismissed);
    // The same again, later, is heard again.
    queue.apply(change(5), REPORTER, 26, &report(Some(50)));
    assert_eq!(open(&queue, &moderation), [(change(4), 0), (change(5), 0), (change(3), 0)]);
}

#[test]
fn a_decided_report_stays_decided_whatever_the_clocks_say() {
    let (mut moderation, mut queue) = (Moderation::default(), ReportQueue::default());
    queue.apply(change(1), REPORTER, i64::MAX, &report(None));
    moderation.apply(change(90), MODERATOR, i64::MIN, &decided(change(1), ReportOutcome::Warned)).unwrap();
    assert_eq!(open(&queue, &moderation), []);
}

#[test]
fn a_flood_of_reports_takes_its_authors_places_only() {
    let (mut moderation, mut queue) = (Moderation::default(), ReportQueue::default());
    let flood = 3 * REPORTS_KEPT_PER_AUTHOR_MAX;
    for n in 0..flood as u64 {
        queue.apply(change(n), REPORTER, i64::try_from(n).unwrap(), &report(Some(n)));
    }
    queue.apply(change(1 << 40), person(4), 1 << 40, &report(None));
    let shown = open(&queue, &moderation);
    assert_eq!(shown.len(), REPORTS_OPEN_PER_AUTHOR_MAX + 1);
    assert_eq!(shown.last(), Some(&(change(1 << 40), 0)));
    let waiting = REPORTS_KEPT_PER_AUTHOR_MAX - REPORTS_OPEN_PER_AUTHOR_MAX;
    assert_eq!(queue.waiting_beyond_quota(REPORTER, &moderation), waiting);
    // As one is decided, the next comes up.
    moderation.apply(change(1 << 41), MODERATOR, 0, &decided(shown[0].0, ReportOutcome::Dismissed)).unwrap();
    let after = open(&queue, &moderation);
    assert_eq!((after.len(), after[0]), (shown.len(), shown[1]));
    assert_eq!(queue.waiting_beyond_quota(REPORTER, &moderation), waiting - 1);
}

#[test]
fn the_queue_is_the_same_for_every_order_of_arrival() {
    let mut moderation = Moderation::default();
    moderation.apply(change(1 << 41), MODERATOR, 700, &decided(change(600), ReportOutcome::Hidden)).unwrap();
    let count = REPORTS_KEPT_PER_AUTHOR_MAX as u64 + 300;
    let expected: ReportQueue = filed((0..count).collect());
    // 1 to the count's end in strides that meet every number.
    for stride in [7, 101, count - 1] {
        let mut order: Vec<_> = (0..count).map(|n| n * stride % count).collect();
        assert_eq!(filed(order.clone()), expected);
        order.reverse();
        let queue = filed(order);
        assert_eq!(queue, expected);
        assert_eq!(open(&queue, &moderation), open(&expected, &moderation));
    }
}

/// Reports with these numbers; seven share a matter.
fn filed(order: Vec<u64>) -> ReportQueue {
    let mut queue = ReportQueue::default();
    for n in order {
        queue.apply(change(n), REPORTER, i64::try_from(n / 3).expect("a small number"), &report(Some(n / 7)));
    }
    queue
}

#[test]
fn what_moderators_keep_is_bounded() {
    let mut moderation = Moderation::default();
    for n in 0..HIDDEN_MAX as u64 {
        moderation.apply(change(n), MODERATOR, 0, &hide(NOISY, change(n), true)).unwrap();
    }
    let mut apply =
        |message, hidden| moderation.apply(change(1), MODERATOR, 0, &hide(NOISY, change(message), hidden));
    let (first, further) = (0, HIDDEN_MAX as u64);
    assert_eq!(apply(further, true), Err(ModerationFault::HiddenFull));
    apply(first, true).unwrap();
    apply(first, false).unwrap();
    apply(further, true).unwrap();
    assert_eq!(moderation.log().len(), LOG_ROWS_MAX);
    assert_eq!(moderation.rows_dropped(), 3);
}

#[test]
fn the_state_has_one_form_and_leaves_the_log_out() {
    let (mut one, mut other) = (Moderation::default(), Moderation::default());
    one.apply(change(1), MODERATOR, 5, &hide(NOISY, change(9), true)).unwrap();
    assert_ne!(one.encode_state(), other.encode_state());
    other.apply(change(2), MODERATOR, 5, &removed(true)).unwrap();
    other.apply(change(1), MODERATOR, 5, &hide(NOISY, change(9), true)).unwrap();
    assert_eq!(one.encode_state(), other.encode_state());
}
