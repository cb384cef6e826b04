//! Order: acts that did not know each other give one verdict, in whatever
//! order the charter puts them.

use std::collections::BTreeSet;

use exo_model::charter::role::Role;
use exo_model::dispute::Status;
use exo_model::event::DisputeEvent;
use exo_model::{ChangeHash, PersonId};

use crate::court::{
    Court, OPENER, OWNER, PAYEE, appealed, change, closed, declined, person, voted, withdrawn,
};
use crate::seeded::{Rng, permutations};

/// The middle of all findings, in plain sight.
fn middle(findings: &[i64]) -> i64 {
    let mut sorted = findings.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) / 2]
}

#[test]
fn every_order_of_three_votes_gives_one_verdict() {
    for pattern in 0..27 {
        let findings = [pattern / 9, pattern / 3 % 3, pattern % 3].map(|at: usize| [0, 40, 100][at]);
        permutations(&[0, 1, 2], &mut |order| {
            let (mut court, id) = Court::drawn(12);
            let (jurors, blind) = (court.seated(id, 0), court.known.clone());
            for at in order {
                court.step_knowing(jurors[*at], voted(id, 0, findings[*at]), &blind).unwrap();
            }
            assert_eq!(court.refund(id), Some(middle(&findings)), "{findings:?} {order:?}");

            // One after the other, each knowing the others: the same, though
            // the last may come too late to be counted.
            let (mut court, id) = Court::drawn(12);
            for at in order {
                let _ = court.vote(id, jurors[*at], findings[*at]);
            }
            assert_eq!(court.refund(id), Some(middle(&findings)), "{findings:?} {order:?}");
        });
    }
}

#[test]
fn every_order_of_five_votes_gives_one_verdict() {
    let (mut start, id) = Court::drawn(12);
    let first = start.seated(id, 0);
    start.vote(id, first[0], 10).unwrap();
    start.vote(id, first[1], 10).unwrap();
    start.step(PAYEE, appealed(id)).unwrap();
    let jurors = start.seated(id, 1);
    for findings in
        [[0, 0, 50, 60, 70], [10, 20, 30, 40, 50], [0, 0, 0, 100, 100], [5, 5, 5, 5, 5], [9, 1, 9, 1, 4]]
    {
        permutations(&[0, 1, 2, 3, 4], &mut |order| {
            let (mut court, blind) = (start.clone(), start.known.clone());
            for at in order {
                court.step_knowing(jurors[*at], voted(id, 1, findings[*at]), &blind).unwrap();
            }
            assert_eq!(court.refund(id), Some(middle(&findings)));
        });
    }
}

/// A second owner, so that closings can miss each other.
const CO_OWNER: PersonId = person(10);

/// One act of a random history.
#[derive(Clone, Debug)]
struct Act {
    id: ChangeHash,
    author: PersonId,
    event: DisputeEvent,
    past: BTreeSet<ChangeHash>,
}

/// Acts of people who each know all of their own and some of the others'.
fn history(rng: &mut Rng, start: &Court, dispute: ChangeHash) -> Vec<Act> {
    let second = start.bench(dispute, 1);
    let people: Vec<_> =
        [start.bench(dispute, 0), second, vec![OPENER, PAYEE, OWNER, OWNER, CO_OWNER, CO_OWNER]].concat();
    let mut acts: Vec<Act> = Vec::new();
    for n in 0..14 {
        let author = people[rng.below(people.len())];
        let mut past = start.known.clone();
        for other in &acts {
            if other.author == author || rng.below(3) == 0 {
                past.extend(other.past.iter().copied().chain([other.id]));
            }
        }
        let event = match (author, rng.below(8)) {
            (OWNER | CO_OWNER, 0..4) => closed(dispute, 0),
            (OWNER | CO_OWNER, 4..6) => closed(dispute, 1),
            (OPENER, 0) => withdrawn(dispute),
            (OPENER | PAYEE, _) => appealed(dispute),
            (_, 0) => declined(dispute),
            (_, kind) => {
                let round = u8::from(start.bench(dispute, 1).contains(&author));
                voted(dispute, round, [0, 10, 50][kind % 3])
            }
        };
        acts.push(Act { id: change(1_000_000 + n), author, event, past });
    }
    acts
}

/// Some order that extends what authors knew.
fn extension(rng: &mut Rng, acts: &[Act], start: &Court) -> Vec<Act> {
    let (mut left, mut done, mut order) = (acts.to_vec(), start.known.clone(), Vec::new());
    while !left.is_empty() {
        let ready: Vec<_> = (0..left.len()).filter(|at| left[*at].past.is_subset(&done)).collect();
        let act = left.remove(ready[rng.below(ready.len())]);
        done.insert(act.id);
        order.push(act);
    }
    order
}

fn outcome(
    start: &Court,
    id: ChangeHash,
    order: &[Act],
) -> (Option<(i64, u8)>, Status, BTreeSet<ChangeHash>) {
    let mut court = start.clone();
    for act in order {
        let _ = court.apply(act.id, act.author, &act.event, &act.past);
    }
    let verdict = court.verdict(id).map(|verdict| (verdict.refund.token_mib(), verdict.round));
    (verdict, court.get(id).status(), court.known)
}

#[test]
fn histories_of_consistent_people_give_one_outcome_in_every_order() {
    let mut rng = Rng(23);
    let (mut decided, mut appealed) = (0, 0);
    for _ in 0..600 {
        let (mut start, id) = Court::drawn(9);
        start.roles.insert(CO_OWNER, Role::Owner);
        let acts = history(&mut rng, &start, id);
        let expected = outcome(&start, id, &acts);
        decided += u32::from(expected.0.is_some());
        appealed += u32::from(expected.0.is_some_and(|(_, round)| round == 1));
        for _ in 0..6 {
            let order = extension(&mut rng, &acts, &start);
            assert_eq!(outcome(&start, id, &order), expected, "{acts:#?}\n{order:#?}");
        }
    }
    assert!(
        decided > 60 && appealed > 0,
        "the histories are too dull: {decided} decided, {appealed} on appeal"
    );
}
