//! Boards: every order of arrival gives one board, the same as a naive replay
//! from scratch; hostile edits cost their author and nobody else.

#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use std::collections::{BTreeMap, BTreeSet};

use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{ActorId, Automerge, Change, ObjType, ROOT, ReadDoc as _, ScalarValue, TextEncoding};
use exo_model::board::edit::{DELETE_CHARS_MAX, HEADS_MAX, INSERT_BYTES_MAX, INTENTS_MAX};
use exo_model::board::{
    Board, BoardContents, BoardEdit, BoardIntent, BoardValue, ContentsError, EDITS_MAX, EDITS_PER_MINUTE_MAX,
    EditError, HELD_MAX, KEYS_MAX, PlacedEdit, Standing, WAITING_MAX,
};
use exo_model::codec;
use exo_model::id::{BoardId, ChangeHash, DeviceId};
use seeded::{Rng, mutate, permutations};

const BOARD: BoardId = BoardId::from_bytes([9; 16]);
const MINUTE_MS: i64 = 60_000;

fn board() -> Board {
    Board::new(BOARD).expect("an empty board")
}

/// A spread id: what a hash would look like.
fn id(number: u64) -> ChangeHash {
    ChangeHash::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes(*blake3::hash(&[number]).as_bytes())
}

fn splice(index: u64, delete: u64, insert: &str) -> BoardIntent {
    BoardIntent::Splice { field: "body".into(), index, delete, insert: insert.into() }
}

fn put(key: &str, value: i64) -> BoardIntent {
    BoardIntent::Put { key: key.into(), value: BoardValue::Integer(value) }
}

fn placed(
    number: u64,
    author: u8,
    previous: Option<u64>,
    cites: &[u64],
    intents: Vec<BoardIntent>,
) -> PlacedEdit {
    let mut heads: Vec<_> = cites.iter().map(|cited| id(*cited)).collect();
    heads.sort_unstable();
    PlacedEdit {
        id: id(number),
        author: device(author),
        previous: previous.map(id),
        time_ms: 0,
        fenced: false,
        edit: Some(BoardEdit { heads, intents }),
    }
}

/// What an edit says.
fn said(placed: &PlacedEdit) -> &BoardEdit {
    placed.edit.as_ref().expect("an edit")
}

fn said_mut(placed: &mut PlacedEdit) -> &mut BoardEdit {
    placed.edit.as_mut().expect("an edit")
}

/// All that can be seen of a board.
#[derive(Debug, PartialEq)]
struct Seen {
    automerge_heads: Vec<ChangeHash>,
    heads: Vec<ChangeHash>,
    contents: BoardContents,
    standings: Vec<Option<Standing>>,
}

fn see(board: &Board, edits: &[PlacedEdit]) -> Seen {
    Seen {
        automerge_heads: board.automerge_heads(),
        heads: board.heads(),
        contents: board.contents(),
        standings: edits.iter().map(|edit| board.standing(&edit.id)).collect(),
    }
}

fn at_once(edits: &[PlacedEdit]) -> Seen {
    let mut all = board();
    assert_eq!(all.insert(edits.to_vec()).expect("replays"), []);
    see(&all, edits)
}

fn one_by_one<'a>(edits: &[PlacedEdit], order: impl IntoIterator<Item = &'a usize>) -> Seen {
    let mut one = board();
    for at in order {
        assert_eq!(one.insert([edits[*at].clone()]).expect("replays"), []);
    }
    see(&one, edits)
}

fn assert_every_order(edits: &[PlacedEdit]) -> Seen {
    let expected = at_once(edits);
    let mut tried = 0_usize;
    let places: Vec<usize> = (0..edits.len()).collect();
    permutations(&places, &mut |order| {
        assert_eq!(one_by_one(edits, order), expected, "{order:?}");
        tried += 1;
    });
    assert_eq!(tried, (1..=edits.len()).product::<usize>());
    expected
}

/// The oracle: no cache, no branches, no increments. Each edit is replayed in a
/// new document that is given the changes of its past and nothing else.
struct Naive {
    genesis: Automerge,
    texts: automerge::ObjId,
    values: automerge::ObjId,
    changes: BTreeMap<ChangeHash, (Change, BTreeSet<ChangeHash>, BTreeSet<String>)>,
}

impl Naive {
    fn new() -> Self {
        let mut genesis = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
        genesis.set_actor(ActorId::from(BOARD.as_bytes().as_slice()));
        let mut transaction = genesis.transaction();
        let texts = transaction.put_object(ROOT, "texts", ObjType::Map).expect("Automerge takes it");
        let values = transaction.put_object(ROOT, "values", ObjType::Map).expect("Automerge takes it");
        transaction.commit();
        Self { genesis, texts, values, changes: BTreeMap::new() }
    }

    fn document(&self, past: &BTreeSet<ChangeHash>, fields: &BTreeSet<String>) -> Automerge {
        let mut document = Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint);
        document.apply_changes(self.genesis.get_changes(&[])).expect("Automerge takes it");
        let mut fields = fields.clone();
        fields.extend(past.iter().flat_map(|id| self.changes[id].2.clone()));
        for field in fields {
            let mut seed = b"exo/board/field/1".to_vec();
            seed.extend_from_slice(BOARD.as_bytes());
            seed.extend_from_slice(field.as_bytes());
            let mut maker = self.genesis.clone();
            maker.set_actor(ActorId::from(blake3::hash(&seed).as_bytes().as_slice()));
            let mut transaction = maker.transaction();
            transaction.put_object(&self.texts, &field, ObjType::Text).expect("Automerge takes it");
            transaction.commit();
            document
                .apply_changes([maker.get_last_local_change().expect("Automerge takes it")])
                .expect("Automerge takes it");
        }
        // Automerge's own queue brings them into order.
        document
            .apply_changes(past.iter().map(|id| self.changes[id].0.clone()).collect::<Vec<_>>())
            .expect("Automerge takes it");
        document
    }

    /// `edits` in an order in which causes come first; all of them count.
    fn replay(mut self, edits: &[PlacedEdit]) -> Automerge {
        for edit in edits {
            let mut past = BTreeSet::new();
            let content = said(edit);
            for before in content.heads.iter().chain(&edit.previous) {
                past.insert(*before);
                past.extend(self.changes[before].1.clone());
            }
            let fields =
                content.intents.iter().filter_map(|intent| intent.field().map(str::to_owned)).collect();
            let mut document = self.document(&past, &fields);
            document.set_actor(ActorId::from(edit.author.as_bytes().as_slice()));
            let mut transaction = document.transaction();
            for intent in &content.intents {
                match intent {
                    BoardIntent::Splice { field, index, delete, insert } => {
                        let (_, text) = transaction
                            .get(&self.texts, field.as_str())
                            .expect("Automerge takes it")
                            .expect("Automerge takes it");
                        let length = transaction.length(&text) as u64;
                        let begin = (*index).min(length);
                        let delete = (*delete).min(length - begin);
                        let (begin, delete) =
                            (begin.try_into().expect("small"), delete.try_into().expect("small"));
                        transaction.splice_text(&text, begin, delete, insert).expect("Automerge takes it");
                    }
                    BoardIntent::Put { key, value } => {
                        let value = match value {
                            BoardValue::Text(text) => ScalarValue::Str(text.as_str().into()),
                            BoardValue::Integer(number) => ScalarValue::Int(*number),
                            BoardValue::Flag(flag) => ScalarValue::Boolean(*flag),
                        };
                        transaction.put(&self.values, key.as_str(), value).expect("Automerge takes it");
                    }
                    BoardIntent::Delete { key } => {
                        transaction.delete(&self.values, key.as_str()).expect("Automerge takes it")
                    }
                }
            }
            let (change, _) = transaction.commit();
            let change = change.unwrap_or_else(|| document.empty_commit(CommitOptions::default()));
            let change = document.get_change_by_hash(&change).expect("Automerge takes it");
            self.changes.insert(edit.id, (change, past, fields));
        }
        self.document(&self.changes.keys().copied().collect(), &BTreeSet::new())
    }
}

fn assert_naive_agrees(edits: &[PlacedEdit], seen: &Seen) {
    let naive = Naive::new();
    let texts = naive.texts.clone();
    let document = naive.replay(edits);
    let mut heads: Vec<_> = document.get_heads().iter().map(|head| ChangeHash::from_bytes(head.0)).collect();
    heads.sort_unstable();
    assert_eq!(seen.automerge_heads, heads);
    for (field, text) in &seen.contents.texts {
        let (_, object) =
            document.get(&texts, field.as_str()).expect("Automerge takes it").expect("Automerge takes it");
        assert_eq!(&document.text(&object).expect("Automerge takes it"), text);
    }
    let loaded = Automerge::load(&document.save()).expect("Automerge reads what it wrote");
    assert_eq!(loaded.get_heads(), document.get_heads());
}

/// Five people with a board each, who write and hear of one another by chance.
/// Returns the edits, causes first.
fn history(rng: &mut Rng, count: usize) -> Vec<PlacedEdit> {
    const PEOPLE: usize = 5;
    let mut boards: Vec<Board> = (0..PEOPLE).map(|_| board()).collect();
    let mut previous: [Option<ChangeHash>; PEOPLE] = [None; PEOPLE];
    let mut known = [0; PEOPLE];
    let mut edits: Vec<PlacedEdit> = Vec::new();
    while edits.len() < count {
        let who = rng.below(PEOPLE);
        // Some stay offline for long.
        if rng.below(4 + 6 * who) == 0 {
            boards[who].insert(edits[known[who]..].to_vec()).expect("replays");
            known[who] = edits.len();
        }
        let intents = (0..=rng.below(2)).map(|_| random_intent(rng, &boards[who])).collect();
        let edit = PlacedEdit {
            id: id(rng.next()),
            author: device(u8::try_from(who).expect("small")),
            previous: previous[who],
            time_ms: i64::try_from(edits.len()).expect("small") * 1_000,
            fenced: false,
            edit: Some(boards[who].edit(intents).expect("an honest edit")),
        };
        previous[who] = Some(edit.id);
        boards[who].insert([edit.clone()]).expect("replays");
        assert_eq!(boards[who].standing(&edit.id), Some(Standing::Counted));
        edits.push(edit);
    }
    edits
}

fn random_intent(rng: &mut Rng, board: &Board) -> BoardIntent {
    let key = ["title", "colour", "pinned"][rng.below(3)];
    match rng.below(8) {
        0 => put(key, i64::from(rng.byte())),
        1 => BoardIntent::Put { key: key.into(), value: BoardValue::Text("schön".into()) },
        2 => BoardIntent::Delete { key: key.into() },
        _ => {
            let field = ["body", "rules"][rng.below(2)];
            let length = board.text(field).unwrap_or_default().chars().count();
            let index = rng.below(length + 1) as u64;
            let delete = rng.below(4) as u64;
            let insert = ["a", "né", "漢字\n", "", " the end"][rng.below(5)];
            BoardIntent::Splice { field: field.into(), index, delete, insert: insert.into() }
        }
    }
}

#[test]
fn boards_converge_in_all_permutations_of_six_edits() {
    let edits = [
        placed(1, 1, None, &[], vec![splice(0, 0, "one ")]),
        placed(2, 2, None, &[], vec![splice(0, 0, "two "), put("title", 2)]),
        placed(3, 1, Some(1), &[1], vec![splice(4, 0, "three "), put("title", 3)]),
        placed(4, 3, None, &[1, 2], vec![splice(0, 2, "")]),
        placed(5, 2, Some(2), &[2], vec![BoardIntent::Delete { key: "title".into() }]),
        placed(6, 1, Some(3), &[3, 4, 5], vec![splice(99, 0, "end")]),
    ];
    let seen = assert_every_order(&edits);
    assert!(seen.standings.iter().all(|standing| *standing == Some(Standing::Counted)));
    assert_eq!(seen.heads, [id(6)]);
    assert!(seen.contents.texts["body"].ends_with("end"));
    assert_eq!(seen.contents.values["title"], BoardValue::Integer(3), "put beside delete stays");
    assert_naive_agrees(&edits, &seen);
}

#[test]
fn boards_converge_in_random_histories_of_five_offline_authors() {
    for seed in 0..6 {
        let mut rng = Rng(seed);
        let edits = history(&mut rng, 90);
        let expected = at_once(&edits);
        assert_naive_agrees(&edits, &expected);
        for _ in 0..4 {
            let mut mixed = edits.clone();
            rng.shuffle(&mut mixed);
            let mut other = board();
            let mut rest = mixed.as_slice();
            while !rest.is_empty() {
                let (batch, after) = rest.split_at(1 + rng.below(rest.len().min(20)));
                assert_eq!(other.insert(batch.to_vec()).expect("replays"), []);
                rest = after;
            }
            assert_eq!(see(&other, &edits), expected, "seed {seed}");
        }
    }
}

#[test]
fn boards_converge_with_fences_forks_and_hostile_edits_mixed_in() {
    for seed in 100..112 {
        let mut rng = Rng(seed);
        let mut edits = history(&mut rng, 60);
        for edit in &mut edits {
            edit.fenced = edit.author == device(1) && edit.time_ms > 15_000 || rng.below(12) == 0;
        }
        for number in 0..6 {
            let base = edits[rng.below(60)].clone();
            let mut fork = PlacedEdit { id: id(rng.next()), ..base };
            said_mut(&mut fork).intents = match number {
                0 => vec![splice(0, 0, "\u{7}")],
                1 => vec![splice(u64::MAX, DELETE_CHARS_MAX, "far")],
                _ => vec![splice(0, 1, "fork")],
            };
            let after = placed(0, 4, None, &[], vec![put("after", number)]);
            let heads = vec![fork.id];
            edits.push(PlacedEdit {
                id: id(rng.next()),
                edit: Some(BoardEdit { heads, ..said(&after).clone() }),
                ..after
            });
            edits.push(fork);
        }
        let expected = at_once(&edits);
        for standing in [Standing::Counted, Standing::Fenced, Standing::Malformed, Standing::Unfounded] {
            assert!(expected.standings.contains(&Some(standing)), "{standing:?} with seed {seed}");
        }
        for _ in 0..5 {
            let mut order: Vec<usize> = (0..edits.len()).collect();
            rng.shuffle(&mut order);
            assert_eq!(one_by_one(&edits, &order), expected, "seed {seed}");
        }
    }
}

#[test]
fn two_who_write_a_field_first_apart_keep_both_texts() {
    let edits = [
        placed(1, 1, None, &[], vec![splice(0, 0, "ours")]),
        placed(2, 2, None, &[], vec![splice(0, 0, "theirs")]),
    ];
    let text = &assert_every_order(&edits).contents.texts["body"];
    assert!(text == "ourstheirs" || text == "theirsours", "{text}");
}

#[test]
fn a_fenced_edit_counts_once_a_counting_edit_cites_it() {
    let fenced = |edit: PlacedEdit| PlacedEdit { fenced: true, ..edit };
    let edits = [
        placed(1, 1, None, &[], vec![splice(0, 0, "base ")]),
        fenced(placed(2, 2, None, &[1], vec![splice(0, 0, "first ")])),
        fenced(placed(3, 2, Some(2), &[2], vec![splice(0, 0, "second ")])),
        fenced(placed(4, 2, Some(3), &[3], vec![splice(0, 0, "third ")])),
        placed(5, 1, Some(1), &[3], vec![splice(0, 0, "seen ")]),
    ];
    let alone = assert_every_order(&edits[..4]);
    assert_eq!(alone.contents.texts["body"], "base ");
    assert_eq!(alone.standings[1..], [Some(Standing::Fenced); 3]);
    assert_eq!(alone.heads, [id(1)]);
    let cited = assert_every_order(&edits);
    assert_eq!(cited.contents.texts["body"], "seen second first base ");
    assert_eq!(cited.standings[3], Some(Standing::Fenced));

    // Fenced ones that cite each other rescue nobody.
    let mut own = edits.clone();
    own[4].fenced = true;
    assert_eq!(assert_every_order(&own).contents.texts["body"], "base ");
}

#[test]
fn a_fence_that_comes_later_or_goes_is_followed() {
    let edits = [
        placed(1, 1, None, &[], vec![splice(0, 0, "base ")]),
        placed(2, 2, None, &[1], vec![splice(0, 0, "spam ")]),
        placed(3, 1, Some(1), &[1], vec![splice(0, 0, "more ")]),
    ];
    let mut one = board();
    one.insert(edits.to_vec()).expect("replays");
    let before = see(&one, &edits);
    let mut moved = edits.clone();
    moved[1].fenced = true;
    one.insert([moved[1].clone()]).expect("replays");
    assert_eq!(see(&one, &moved), at_once(&moved));
    assert_eq!(one.text("body").as_deref(), Some("more base "));
    one.insert(edits.to_vec()).expect("replays");
    assert_eq!(see(&one, &edits), before);
}

#[test]
fn a1_two_edits_after_the_same_one_never_share_a_sequence_number() {
    let edits = [
        placed(1, 1, None, &[], vec![splice(0, 0, "one ")]),
        placed(2, 1, Some(1), &[1], vec![splice(0, 0, "left ")]),
        placed(3, 1, Some(1), &[1], vec![splice(0, 0, "right ")]),
        placed(4, 1, Some(3), &[3], vec![splice(0, 0, "righter ")]),
        placed(5, 1, None, &[], vec![splice(0, 0, "again ")]),
        placed(6, 2, None, &[2, 4, 5], vec![splice(0, 0, "all ")]),
    ];
    let seen = assert_every_order(&edits);
    assert!(seen.standings.iter().all(|standing| *standing == Some(Standing::Counted)));
    for word in ["one ", "left ", "right ", "righter ", "again ", "all "] {
        assert_eq!(seen.contents.texts["body"].matches(word).count(), 1, "{word}");
    }
}

#[test]
fn hostile_edits_count_for_nothing_and_what_cites_them_neither() {
    let good = placed(1, 1, None, &[], vec![splice(0, 0, "good")]);
    let long = "x".repeat(INSERT_BYTES_MAX + 1);
    let mut twice = placed(20, 2, None, &[1, 1], vec![splice(0, 0, "twice")]);
    let bad = [
        placed(10, 2, None, &[], vec![splice(0, 0, "bell\u{7}")]),
        placed(11, 2, None, &[], vec![splice(0, 0, "\u{202e}evil")]),
        placed(12, 2, None, &[], vec![splice(0, DELETE_CHARS_MAX + 1, "")]),
        placed(13, 2, None, &[], vec![splice(0, u64::MAX, ""), splice(0, u64::MAX, "")]),
        placed(14, 2, None, &[], vec![splice(0, 0, &long)]),
        placed(15, 2, None, &[], vec![put(" key", 1)]),
        placed(16, 2, None, &[], vec![put("", 1)]),
        placed(17, 2, None, &[], vec![]),
        placed(18, 2, None, &[18], vec![splice(0, 0, "self")]),
        placed(19, 2, Some(19), &[], vec![splice(0, 0, "self")]),
        std::mem::replace(&mut twice, good.clone()),
        placed(21, 2, Some(1), &[1], vec![splice(0, 0, "another's line")]),
        placed(22, 2, None, &[], vec![splice(0, 0, "a"); INTENTS_MAX + 1]),
        placed(23, 2, None, &(100..165).collect::<Vec<_>>(), vec![splice(0, 0, "heads")]),
    ];
    for edit in bad {
        let citing = placed(90, 3, None, &[], vec![splice(0, 0, "citing")]);
        let heads = vec![edit.id];
        let citing = PlacedEdit { edit: Some(BoardEdit { heads, ..said(&citing).clone() }), ..citing };
        let next = placed(91, 2, None, &[1], vec![splice(4, 0, "!")]);
        let next = PlacedEdit { previous: Some(edit.id), ..next };
        let seen = assert_every_order(&[good.clone(), edit.clone(), citing, next]);
        assert_eq!(seen.contents.texts["body"], "good!", "{edit:?}");
        let [good, bad, citing, next] = seen.standings[..] else { panic!("four edits") };
        assert_eq!([good, next], [Some(Standing::Counted); 2]);
        assert_eq!(bad, Some(Standing::Malformed), "{edit:?}");
        assert_eq!(citing, Some(Standing::Unfounded));
    }
}

#[test]
fn positions_beyond_the_end_are_cut_off() {
    let edits = [
        placed(1, 1, None, &[], vec![splice(u64::MAX, DELETE_CHARS_MAX, "ab漢")]),
        placed(2, 1, Some(1), &[1], vec![splice(2, DELETE_CHARS_MAX - 1, ""), splice(3, 1, "c")]),
    ];
    assert_eq!(assert_every_order(&edits).contents.texts["body"], "abc");
}

#[test]
fn dangling_and_circular_citations_wait_and_the_surplus_is_deferred() {
    let edits = [
        placed(1, 1, None, &[2], vec![splice(0, 0, "a")]),
        placed(2, 1, None, &[1], vec![splice(0, 0, "b")]),
        placed(3, 2, Some(4), &[], vec![splice(0, 0, "c")]),
    ];
    let seen = assert_every_order(&edits);
    assert_eq!(seen.standings, [Some(Standing::Waiting); 3]);
    assert_eq!(seen.heads, []);

    let dangling = |number| placed(number, 1, None, &[1_000_000], vec![splice(0, 0, "x")]);
    let mut full = board();
    assert_eq!(full.room_for(), WAITING_MAX);
    let count = WAITING_MAX as u64 + 7;
    let mut deferred = full.insert((0..count).map(dangling)).expect("replays");
    assert_eq!((deferred.len(), full.room_for()), (7, 0));
    let kept_max = (0..count).map(id).filter(|id| full.standing(id).is_some()).max();
    assert!(deferred.iter().all(|edit| Some(edit.id) > kept_max), "the lowest ids stay");
    deferred.push(placed(1_000_000, 2, None, &[], vec![splice(0, 0, "root ")]));
    assert_eq!(full.insert(deferred).expect("replays"), []);
    assert_eq!(full.text("body").map(|text| text.len()), Some("root ".len() + WAITING_MAX + 7));
}

/// Edits of one author after one another, the first cites nothing.
fn line(author: u8, count: u64, edit: impl Fn(u64) -> (i64, Vec<BoardIntent>)) -> Vec<PlacedEdit> {
    let number = |at: u64| u64::from(author) << 32 | at;
    (0..count)
        .map(|at| {
            let (time_ms, intents) = edit(at);
            let previous = at.checked_sub(1).map(number);
            PlacedEdit { time_ms, ..placed(number(at), author, previous, previous.as_slice(), intents) }
        })
        .collect()
}

#[test]
fn pace_is_judged_by_the_time_signed_and_never_runs_back() {
    let limit = u64::from(EDITS_PER_MINUTE_MAX);
    // The last of a minute, one too many, one that claims an earlier minute,
    // and one of the next minute that cites what counts.
    let mut edits = line(1, limit + 3, |at| {
        let time_ms = if at == limit + 1 { -5 * MINUTE_MS } else { 59_999 + i64::from(at == limit + 2) };
        (time_ms, vec![splice(0, 0, "x")])
    });
    let limit = usize::try_from(limit).expect("small");
    said_mut(&mut edits[limit + 2]).heads = vec![edits[limit - 1].id];
    said_mut(&mut edits[limit + 1]).heads = vec![edits[limit - 1].id];
    let mut one = board();
    one.insert(edits[..limit].to_vec()).expect("replays");
    assert_eq!(one.next_edit_ms(&device(1)), Some(MINUTE_MS));
    assert_eq!(one.next_edit_ms(&device(2)), None);
    one.insert(edits[limit..].to_vec()).expect("replays");
    let seen = see(&one, &edits);
    let tail = [Standing::Counted, Standing::TooFast, Standing::TooFast, Standing::Counted];
    assert_eq!(seen.standings[limit - 1..], tail.map(Some));
    assert_eq!(one.text("body").map(|text| text.len()), Some(limit + 1));
    let backwards: Vec<usize> = (0..edits.len()).rev().collect();
    assert_eq!(one_by_one(&edits, &backwards), seen);
    let ends =
        line(3, 3, |at| ([i64::MIN, i64::MAX, 0][usize::try_from(at).expect("small")], vec![put("a", 1)]));
    assert_eq!(at_once(&ends).standings, [Some(Standing::Counted); 3]);
}

#[test]
fn a_full_board_closes_at_one_place_in_every_order() {
    let per_edit = INTENTS_MAX as u64;
    let fill = KEYS_MAX as u64 / per_edit;
    let keys = |from: u64| (0..per_edit).map(|key| put(&format!("k{}", from * per_edit + key), 1)).collect();
    // One line fills all keys but the last edit's; a second, apart, wants more.
    let mut edits = line(1, fill, |at| (0, keys(at)));
    assert!(at_once(&edits).standings.iter().all(|standing| *standing == Some(Standing::Counted)));
    edits.extend(line(2, 2, |at| (0, keys(fill + at))));
    edits.extend(line(3, 2, |_| (0, vec![splice(0, 0, "text fits")])));
    // A removed author's edit that only an edit without room cites.
    let fenced = placed(70, 4, None, &[], vec![put("fenced", 1)]);
    edits.push(PlacedEdit { fenced: true, ..fenced });
    let last = edits[usize::try_from(fill).expect("small") - 1].id;
    let mut late = placed(71, 5, None, &[70], vec![put("late", 1)]);
    said_mut(&mut late).heads.push(last);
    said_mut(&mut late).heads.sort_unstable();
    edits.push(late);
    let expected = at_once(&edits);
    assert_eq!(expected.contents.values.len() as u64 % per_edit, 0);
    assert_eq!(expected.standings.last(), Some(&Some(Standing::Full)));
    assert_eq!(expected.standings[edits.len() - 2], Some(Standing::Fenced));
    let mut rng = Rng(5);
    for _ in 0..20 {
        let mut order: Vec<usize> = (0..edits.len()).collect();
        rng.shuffle(&mut order);
        assert_eq!(one_by_one(&edits, &order), expected, "{order:?}");
    }
}

#[test]
fn a_board_takes_as_many_edits_as_it_says() {
    let count = EDITS_MAX as u64 + 1;
    let per_minute = u64::from(EDITS_PER_MINUTE_MAX);
    let time = |at: u64| i64::try_from(at / per_minute).expect("small") * MINUTE_MS;
    let mut edits = line(1, count, |at| (time(at), vec![splice(0, 0, "x")]));
    let last = edits.pop().expect("there");
    let mut one = board();
    one.insert(edits).expect("replays");
    assert_eq!(one.text("body").map(|text| text.len()), Some(EDITS_MAX));
    one.insert([last.clone()]).expect("replays");
    assert_eq!(one.standing(&last.id), Some(Standing::Full));
    assert_eq!(one.text("body").map(|text| text.len()), Some(EDITS_MAX));
    // What is held beyond that is bounded too.
    let spam = (0..HELD_MAX as u64).map(|number| placed(number << 40 | 1, 2, None, &[], vec![]));
    let deferred = one.insert(spam).expect("replays");
    assert_eq!((deferred.len(), one.room_for()), (EDITS_MAX + 1, 0));
}

#[test]
fn edits_keep_their_bounds_at_the_edge() {
    let heads = |count: u64| {
        let mut heads: Vec<_> = (0..count).map(id).collect();
        heads.sort_unstable();
        heads
    };
    let check = |count, intents| BoardEdit { heads: heads(count), intents }.check();
    let most = HEADS_MAX as u64;
    assert_eq!(check(most, vec![put("k", 1)]), Ok(()));
    assert_eq!(check(most + 1, vec![put("k", 1)]), Err(EditError::TooManyHeads(HEADS_MAX + 1)));
    assert_eq!(check(2, vec![]), Ok(()), "a merge");
    assert_eq!(check(1, vec![]), Err(EditError::Empty));
    assert_eq!(check(0, vec![put("k", 1); INTENTS_MAX]), Ok(()));
    assert_eq!(check(0, vec![splice(0, DELETE_CHARS_MAX, &"é".repeat(INSERT_BYTES_MAX / 2))]), Ok(()));
    let long = format!("{}.", "é".repeat(INSERT_BYTES_MAX / 2));
    assert_eq!(check(0, vec![splice(0, 0, &long)]), Err(EditError::TooMuchText(INSERT_BYTES_MAX as u64 + 1)));
    assert_eq!(check(0, vec![splice(0, 0, " \n\t")]), Ok(()), "white space may stand at the edges");
    let mut unordered = BoardEdit { heads: heads(2), intents: vec![put("k", 1)] };
    unordered.heads.reverse();
    assert_eq!(unordered.check(), Err(EditError::HeadsUnordered));

    let edit = BoardEdit { heads: heads(most), intents: vec![splice(1, 2, "é"), put("k", -1)] };
    assert_eq!(BoardEdit::decode(&codec::encode(&edit)), Ok(edit.clone()));
    let mut rng = Rng(3);
    for _ in 0..2_000 {
        let mutant = mutate(&mut rng, &codec::encode(&edit));
        if let Ok(read) = BoardEdit::decode(&mutant) {
            let _ = read.check();
            assert_eq!(codec::encode(&read), mutant);
        }
    }
}

#[test]
fn an_edited_text_becomes_the_smallest_splice() {
    let mut one = board();
    let mut previous = None;
    let texts = ["hello", "hello", "hallo", "hallo wörld", "ha\r\nllo\u{7} wörld\r", "x", "", "aaa", "aa"];
    let long = "é\n".repeat(9_000);
    for (at, text) in (0..).zip(texts.into_iter().chain([long.as_str(), "short"])) {
        let clean = text.replace("\r\n", "\n").replace('\r', "\n").replace('\u{7}', "");
        for step in 0.. {
            let intents = one.splice_for("body", text);
            if intents.is_empty() {
                break;
            }
            if let ("hallo", [BoardIntent::Splice { index, delete, insert, .. }]) = (text, &intents[..]) {
                assert_eq!((*index, *delete, insert.as_str()), (1, 1, "a"));
            }
            let edit = one.edit(intents).expect("fits");
            let id = id(at * 100 + step);
            one.insert([PlacedEdit {
                id,
                author: device(1),
                previous,
                time_ms: 0,
                fenced: false,
                edit: Some(edit),
            }])
            .expect("there");
            previous = Some(id);
        }
        assert_eq!(one.text("body").unwrap_or_default(), clean);
    }
}

#[test]
fn more_heads_than_an_edit_may_cite_are_merged_first() {
    let heads = HEADS_MAX as u64 + 1;
    let edits: Vec<_> = (0..heads)
        .map(|at| placed(at, u8::try_from(at).expect("small"), None, &[], vec![splice(0, 0, "x")]))
        .collect();
    let mut one = board();
    one.insert(edits.clone()).expect("replays");
    let refused = one.edit(vec![put("k", 1)]);
    assert_eq!(refused, Err(EditError::TooManyHeads(HEADS_MAX + 1)));
    let merge =
        PlacedEdit { edit: Some(one.merge().expect("many heads")), ..placed(900, 99, None, &[], vec![]) };
    one.insert([merge.clone()]).expect("replays");
    assert_eq!(one.heads().len(), 2);
    assert!(one.edit(vec![put("k", 1)]).is_ok());
    let all: Vec<_> = edits.into_iter().chain([merge]).collect();
    assert_naive_agrees(&all, &see(&one, &all));
}

#[test]
fn compaction_starts_a_new_board_from_plain_contents() {
    let mut old = board();
    old.insert(history(&mut Rng(8), 60)).expect("replays");
    let contents = old.contents();
    assert!(!contents.texts.is_empty() && !contents.values.is_empty());
    let read = BoardContents::decode(&codec::encode(&contents)).expect("plain contents");
    let next = BoardId::from_bytes([10; 16]);
    let start = || Board::with_contents(next, read.clone()).expect("a compacted board");
    let (mut one, mut other) = (start(), start());
    assert_eq!(one.contents(), contents);
    assert_eq!(one.automerge_heads(), other.automerge_heads());
    assert_eq!(one.heads(), []);
    let left = placed(1, 1, None, &[], vec![splice(0, 0, "left "), put("title", 7)]);
    let right = placed(2, 2, None, &[], vec![splice(3, 1, "right ")]);
    one.insert([left.clone(), right.clone()]).expect("replays");
    other.insert([right]).expect("replays");
    other.insert([left]).expect("replays");
    assert_eq!(one.contents(), other.contents());
    assert_eq!(one.automerge_heads(), other.automerge_heads());
    assert_eq!(one.value("title"), Some(BoardValue::Integer(7)));

    let mut hostile = contents;
    hostile.texts.insert("body".into(), "\u{1b}[2J".into());
    assert_eq!(hostile.check(), Err(ContentsError::Unclean));
    hostile.texts.insert("body".into(), "x".repeat(2 << 20));
    assert_eq!(hostile.check(), Err(ContentsError::TooLong));
    hostile.texts = (0..=64).map(|at| (format!("field {at}"), String::new())).collect();
    assert_eq!(hostile.check(), Err(ContentsError::TooMany));
}

/// `cargo test -p exo-model --test board -- --ignored --nocapture speed`
#[test]
#[ignore = "prints how long boards take"]
#[allow(clippy::print_stdout, reason = "its purpose")]
fn speed_of_boards() {
    use std::time::Instant;
    let words = |at: u64| {
        (i64::try_from(at).expect("small") * 1_000, vec![splice(at * 7_919 % (at + 1), 0, "some words ")])
    };
    for count in [1_000, 4_000, EDITS_MAX as u64] {
        let edits = line(1, count, words);
        let mut one = board();
        let start = Instant::now();
        for edit in edits.iter().cloned() {
            one.insert([edit]).expect("replays");
        }
        println!(
            "{count} edits of one line, one by one: {:?} each",
            start.elapsed() / u32::try_from(count).expect("small")
        );
        let start = Instant::now();
        let mut all = board();
        all.insert(edits.clone()).expect("replays");
        println!("{count} edits of one line, at once: {:?}", start.elapsed());
        if count < EDITS_MAX as u64 {
            let start = Instant::now();
            one.insert(line(2, 500, words)).expect("replays");
            println!("  500 more from someone who was offline all along: {:?}", start.elapsed());
            let start = Instant::now();
            one.insert([placed(7, 3, None, &[(1 << 32) + count / 2], vec![splice(0, 0, "late")])])
                .expect("replays");
            println!("  one more from half-way back: {:?}", start.elapsed());
        }
    }
    let edits = history(&mut Rng(1), 3_000);
    for (what, batch) in [("at once", 3_000), ("in batches of 10", 10), ("one by one", 1)] {
        let mut mixed = board();
        let start = Instant::now();
        for batch in edits.chunks(batch) {
            mixed.insert(batch.to_vec()).expect("replays");
        }
        println!("3,000 edits of five authors, {what}: {:?}", start.elapsed());
    }
    // Forty devices that conspire to build each edit on two others.
    let start = Instant::now();
    let mut edits: Vec<PlacedEdit> = Vec::new();
    for at in 0..2_000_u64 {
        let cites: Vec<u64> = [40, 67].iter().filter_map(|back| at.checked_sub(*back)).collect();
        let author = u8::try_from(at % 40).expect("small");
        edits.push(placed(at, author, at.checked_sub(40), &cites, vec![splice(0, 0, "some words ")]));
    }
    let mut one = board();
    one.insert(edits).expect("replays");
    println!("2,000 edits of forty conspiring devices: {:?}", start.elapsed());
}
