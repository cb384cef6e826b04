//! Generated histories: repeatable, varied, and reduced alike in every order.

use std::collections::{BTreeMap, BTreeSet};

use crate::reference::charter::{CharterAct, RefStanding, reduce};
use crate::reference::generator::{History, Random, Shape, history};
use crate::reference::normal::differences;
use crate::reference::signing::{Keys, RealKeys, ToyKeys};
use exo_model::event::CharterEvent as E;

fn check_order(seed: u64, history: &History, acts: &[CharterAct], keys: &dyn Keys) {
    let terms = history.terms(keys);
    let straight = reduce(&history.acts, &terms).normal_form();
    let shuffled = reduce(acts, &terms).normal_form();
    assert!(straight == shuffled, "seed {seed}:\n{}", differences(&straight, &shuffled).join("\n"));
}

#[test]
fn a_seed_makes_one_history_of_the_size_asked_for() {
    for shape in [Shape::small(7), Shape::medium(), Shape::large()] {
        for seed in 0..50 {
            let (one, again) = (history(seed, &shape, &ToyKeys), history(seed, &shape, &ToyKeys));
            assert!(one.acts == again.acts, "seed {seed}");
            assert_eq!(one.acts.len(), shape.acts, "seed {seed}");
            let ids: BTreeSet<_> = one.acts.iter().map(|act| act.id).collect();
            assert_eq!(ids.len(), one.acts.len(), "seed {seed}");
        }
    }
}

#[test]
fn the_order_of_input_does_not_matter() {
    for seed in 0..40 {
        let made = history(seed, &Shape::medium(), &ToyKeys);
        let mut acts = made.acts.clone();
        Random::new(seed).shuffle(&mut acts);
        acts.extend(made.acts.iter().take(3).cloned());
        check_order(seed, &made, &acts, &ToyKeys);
    }
}

/// What one history in so many must show, or the generator is too tame.
#[test]
fn histories_show_every_kind_and_every_standing() {
    let mut kinds: BTreeMap<String, BTreeMap<RefStanding, usize>> = BTreeMap::new();
    let mut applied = BTreeMap::<usize, usize>::new();
    for seed in 0..600 {
        let made = history(seed, &Shape::medium(), &ToyKeys);
        let state = reduce(&made.acts, &made.terms(&ToyKeys));
        for act in &made.acts {
            let kind = format!("{:?}", act.event);
            let kind = kind.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
            *kinds.entry(kind).or_default().entry(state.standing[&act.id]).or_default() += 1;
        }
        *applied.entry(state.applied.len()).or_default() += 1;
    }
    // All kinds but steps of disputes.
    assert_eq!(kinds.len(), 24, "{:?}", kinds.keys());
    for (kind, standings) in &kinds {
        let counts = standings.get(&RefStanding::Counts).copied().unwrap_or_default();
        assert!(counts > 0, "no {kind} counts: {kinds:?}");
    }
    for kind in ["Removed", "Admitted", "InviteIssued", "DeviceRevoked", "RoleSet"] {
        assert!(kinds[kind].contains_key(&RefStanding::Void), "no {kind} is void");
        assert!(kinds[kind].contains_key(&RefStanding::NotEntitled), "no {kind} lacks the right");
    }
    for kind in ["Admitted", "InviteIssued", "ChannelCreated", "Allotted"] {
        assert!(kinds[kind].contains_key(&RefStanding::Lost), "no {kind} is lost: {kinds:?}");
    }
    assert!(kinds.values().any(|standings| standings.contains_key(&RefStanding::NotReady)));
    assert!(applied.keys().any(|fences| *fences > 5));
}

#[test]
fn real_proofs_convince_the_model() {
    let keys = RealKeys::default();
    let mut verdicts = BTreeSet::new();
    for seed in 0..60 {
        let made = history(seed, &Shape::medium(), &keys);
        for act in &made.acts {
            if let E::EquivocationProven { proof, .. } = &act.event {
                let ours = crate::reference::signing::is_fork_proof(&keys, made.community, proof);
                assert_eq!(proof.verify().is_ok(), ours, "seed {seed}");
                verdicts.insert(ours);
            }
        }
    }
    assert_eq!(verdicts.len(), 2, "true and forged ones");
}

/// Figures, not checks: `cargo test -p exo-model --test reference_sanity -- --ignored --nocapture speed`
#[test]
#[allow(clippy::print_stdout, reason = "figures for people")]
#[ignore = "prints how long generating and reducing take"]
fn speed() {
    for (name, shape) in [("small", Shape::small(7)), ("medium", Shape::medium()), ("large", Shape::large())]
    {
        let start = std::time::Instant::now();
        let made: Vec<_> = (0..300).map(|seed| history(seed, &shape, &ToyKeys)).collect();
        let generated = start.elapsed() / 300;
        let start = std::time::Instant::now();
        for history in &made {
            std::hint::black_box(reduce(&history.acts, &history.terms(&ToyKeys)));
        }
        println!("{name}: generated in {generated:?}, reduced in {:?}", start.elapsed() / 300);
    }
}
