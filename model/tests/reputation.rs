//! Reputation under attack: rings of Sybils, slander, a new key for an old
//! rogue; and the weights beside a maximum flow computed another way.

#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use exo_model::amount::Amount;
use exo_model::id::PersonId;
use exo_model::trust::evidence::{EVIDENCE_MAX, WITNESS_MAX};
use exo_model::trust::flow::{Flow, HOP_DIVISOR};
use exo_model::trust::reputation::Rule;
use exo_model::trust::{
    Evidence, Failures, Moderation, ONE, Reason, Reputation, SLANDER_PER_LINK_MAX, Settled, Severity,
    SpotChecks, TrustLevel, Verification, Vouch, VouchKind, WEIGHT_PER_LINK_MAX,
};
use seeded::Rng;

/// Wall time of every story, ms since the Unix epoch.
const NOW: i64 = 1_790_000_000_000;

const ME: u32 = 0;
/// Sybils are numbered from here.
const SYBILS: u32 = 1_000_000;
const WORK: u64 = Amount::PER_WORK_UNIT.unsigned_abs();

fn person(number: u32) -> PersonId {
    // Scattered, so that the order of ids says nothing.
    let mut rng = Rng(u64::from(number));
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&rng.next().to_be_bytes());
    }
    PersonId::from_bytes(bytes)
}

/// A number below `bound`, for people.
fn pick(rng: &mut Rng, bound: u32) -> u32 {
    u32::try_from(rng.below(bound as usize)).expect("below a u32")
}

fn vouch(from: u32, to: u32, kind: VouchKind) -> Vouch {
    Vouch { from: person(from), to: person(to), kind, time_ms: NOW }
}

fn settled(payer: u32, payee: u32, token_mib: u64) -> Settled {
    Settled { payer: person(payer), payee: person(payee), token_mib, last_ms: NOW }
}

fn failures(asker: u32, provider: u32, count: u64) -> Failures {
    Failures { provider: person(provider), asker: person(asker), count, last_ms: NOW }
}

fn checks(checker: u32, subject: u32, passed: u64, failed: u64) -> SpotChecks {
    SpotChecks { subject: person(subject), checker: person(checker), passed, failed, last_ms: NOW }
}

fn moderation(by: u32, subject: u32, severity: Severity) -> Moderation {
    Moderation { subject: person(subject), by: person(by), severity, time_ms: NOW }
}

fn value(reputation: &Reputation, number: u32) -> u64 {
    u64::from(reputation.score(&person(number)).value_milli())
}

/// Every statement that makes `to` look as good as can be to `from`.
fn praise(evidence: &mut Evidence, from: u32, to: u32) {
    evidence.vouches.push(vouch(from, to, VouchKind::MetInPerson));
    evidence.settled.push(settled(from, to, u64::MAX));
    evidence.spot_checks.push(checks(from, to, u64::MAX, 0));
}

/// Every statement that makes `to` look as bad as can be to `from`.
fn slander(evidence: &mut Evidence, from: u32, to: u32) {
    evidence.failures.push(failures(from, to, u64::MAX));
    evidence.spot_checks.push(checks(from, to, 0, u64::MAX));
    evidence.moderation.push(moderation(from, to, Severity::Removed));
}

/// The reasons of every score make up its value.
fn contributions_add_up(reputation: &Reputation) {
    for (id, score) in reputation.scores() {
        let sum: i32 = score.reasons().iter().map(Reason::milli).sum();
        assert_eq!(sum, i32::from(score.value_milli()), "{id}: {:?}", score.reasons());
        assert!(score.value_milli() <= 1_000 && !score.reasons().is_empty());
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Ring,
    Star,
    Clique,
    Random,
}

/// A region of `k` Sybils who praise each other in some shape.
fn region(evidence: &mut Evidence, rng: &mut Rng, shape: Shape, k: u32) {
    for i in 0..k {
        let sybil = SYBILS + i;
        match shape {
            Shape::Ring => praise(evidence, sybil, SYBILS + (i + 1) % k),
            // The linked ones stand in the middle: the best there is with two hops.
            Shape::Star => (0..k.min(3)).for_each(|centre| praise(evidence, SYBILS + centre, sybil)),
            Shape::Clique => (0..k).for_each(|other| praise(evidence, sybil, SYBILS + other)),
            Shape::Random => (0..4).for_each(|_| {
                let other = SYBILS + pick(rng, k);
                praise(evidence, sybil, other);
            }),
        }
    }
}

/// Ten friends who know each other a little; returns the evidence.
fn honest_circle(rng: &mut Rng) -> Evidence {
    let kinds = [VouchKind::Plain, VouchKind::SafetyWords, VouchKind::MetInPerson];
    let mut evidence = Evidence::default();
    for friend in 1..=10 {
        evidence.vouches.push(vouch(ME, friend, kinds[rng.below(3)]));
        for other in 1..=12 {
            if rng.below(3) == 0 {
                evidence.vouches.push(vouch(friend, other, kinds[rng.below(3)]));
                evidence.settled.push(settled(friend, other, rng.next() % (8_192 * WORK)));
            }
        }
    }
    evidence
}

/// `g` links of the strongest kind from honest people within one hop of me,
/// myself among them, to distinct pairs; returns how many there are.
fn link(evidence: &mut Evidence, rng: &mut Rng, g: u32, k: u32) -> u64 {
    let mut links = BTreeSet::new();
    for i in 0..g {
        let honest = if i == 0 { ME } else { pick(rng, 11) };
        let sybil = if i < 3 { i % k } else { pick(rng, k) };
        if links.insert((honest, sybil)) {
            praise(evidence, honest, SYBILS + sybil);
        }
    }
    links.len() as u64
}

#[test]
fn l06_sybil_ring_of_any_size_weighs_at_most_c_times_its_links() {
    let mut biggest = 0;
    for seed in 0..12u32 {
        for shape in [Shape::Ring, Shape::Star, Shape::Clique, Shape::Random] {
            for k in [1, 7, 60, 900] {
                let k = if matches!(shape, Shape::Clique) { k.min(60) } else { k };
                let mut rng = Rng(u64::from(seed));
                let mut evidence = honest_circle(&mut rng);
                region(&mut evidence, &mut rng, shape, k);
                let g = link(&mut evidence, &mut rng, seed % 6, k);
                let reputation = Reputation::of(person(ME), &evidence, NOW);
                let weight: u64 = (0..k).map(|i| reputation.weight(&person(SYBILS + i))).sum();
                let scores: u64 = (0..k).map(|i| value(&reputation, SYBILS + i)).sum();
                assert!(
                    weight <= WEIGHT_PER_LINK_MAX * g,
                    "seed {seed} {shape:?} {k}: {weight} for {g} links"
                );
                assert!(scores * 1_000 <= weight, "scores are never more than the weights");
                assert_eq!(g > 0, weight > 0, "links carry, their absence does not");
                contributions_add_up(&reputation);
                biggest = biggest.max(weight / g.max(1));
            }
        }
    }
    assert!(biggest > WEIGHT_PER_LINK_MAX * 9 / 10, "the attack comes close to the bound: {biggest}");
}

#[test]
fn l06_sybil_ring_of_ten_thousand_is_worth_no_more_than_one_of_ten() {
    let total = |shape, k, links: &[(u32, u32)]| {
        let mut evidence = Evidence::default();
        evidence.vouches.push(vouch(ME, 1, VouchKind::MetInPerson));
        region(&mut evidence, &mut Rng(6), shape, k);
        links.iter().for_each(|(honest, sybil)| praise(&mut evidence, *honest, SYBILS + sybil));
        let reputation = Reputation::of(person(ME), &evidence, NOW);
        (0..k).map(|i| reputation.weight(&person(SYBILS + i))).sum::<u64>()
    };
    for shape in [Shape::Ring, Shape::Star, Shape::Random] {
        assert_eq!(total(shape, 10_000, &[]), 0, "{shape:?}: strangers praise each other in vain");
        let from_friend = total(shape, 10_000, &[(1, 5)]);
        assert_eq!(from_friend, total(shape, 10, &[(1, 5)]), "{shape:?}: the third hop carries nothing");
        assert!(from_friend <= ONE / HOP_DIVISOR);
    }
    let (small, large) = (total(Shape::Star, 10, &[(ME, 0)]), total(Shape::Star, 10_000, &[(ME, 0)]));
    assert!(small <= large && large <= WEIGHT_PER_LINK_MAX, "{small} {large}");
    // What the bound forbids: the same star with each target's flow on its own.
    let one_by_one = 10_000 * (ONE / HOP_DIVISOR);
    assert!(one_by_one > 1_000 * WEIGHT_PER_LINK_MAX);
}

#[test]
fn l06_sybil_ring_flood_of_statements_pushes_no_honest_evidence_out() {
    let mut evidence = Evidence::default();
    evidence.vouches.push(vouch(ME, 1, VouchKind::MetInPerson));
    evidence.vouches.push(vouch(1, 2, VouchKind::MetInPerson));
    evidence.vouches.push(vouch(ME, SYBILS, VouchKind::Plain));
    let before = value(&Reputation::of(person(ME), &evidence, NOW), 2);
    for i in 0..u32::try_from(EVIDENCE_MAX).expect("small") + 10 {
        let from = if i % 2 == 0 { SYBILS } else { SYBILS + 1 + i };
        evidence.vouches.push(Vouch { time_ms: i64::MAX, ..vouch(from, SYBILS + i, VouchKind::MetInPerson) });
    }
    let after = Reputation::of(person(ME), &evidence, NOW);
    assert_eq!((before, value(&after, 2)), (300, 300));
    let reached = after.scores().filter(|(id, _)| ![ME, 1, 2].map(person).contains(id)).count();
    assert!((1..=WITNESS_MAX + 1).contains(&reached), "{reached}");
}

#[test]
fn l07_slander_by_strangers_changes_nothing() {
    let mut evidence = honest_circle(&mut Rng(7));
    let before = Reputation::of(person(ME), &evidence, NOW);
    for i in 0..500 {
        (1..=12).for_each(|victim| slander(&mut evidence, SYBILS + i, victim));
    }
    region(&mut evidence, &mut Rng(7), Shape::Ring, 500);
    let after = Reputation::of(person(ME), &evidence, NOW);
    for victim in 1..=12 {
        assert!(value(&before, victim) > 0);
        assert_eq!(before.score(&person(victim)), after.score(&person(victim)));
    }
}

#[test]
fn l07_slander_over_g_links_costs_at_most_c_times_g() {
    let mut dearest = 0;
    for seed in 0..40u32 {
        let mut rng = Rng(u64::from(seed));
        let without = honest_circle(&mut rng);
        let mut linked = without.clone();
        let g = link(&mut linked, &mut rng, 1 + seed % 4, 50);
        region(&mut linked, &mut rng, Shape::Star, 50);
        let mut slandered = linked.clone();
        (0..50).for_each(|i| (1..=12).for_each(|victim| slander(&mut slandered, SYBILS + i, victim)));
        let [without, linked, slandered] =
            [without, linked, slandered].map(|e| Reputation::of(person(ME), &e, NOW));
        contributions_add_up(&slandered);
        for victim in 1..=12 {
            let cost = (value(&linked, victim)).saturating_sub(value(&slandered, victim));
            assert!(cost * 1_000 <= SLANDER_PER_LINK_MAX * g + 1_000, "seed {seed}: {cost} for {g} links");
            // The links also draw on what their givers pass on: still within c·g.
            let cost_in_all = (value(&without, victim)).saturating_sub(value(&slandered, victim));
            assert!(cost_in_all * 1_000 <= WEIGHT_PER_LINK_MAX * g, "seed {seed}: {cost_in_all}");
            dearest = dearest.max(cost);
        }
    }
    assert!(dearest > 100, "slander over links is felt: {dearest}");
}

#[test]
fn l07_slander_takes_at_most_half_of_my_own_experience() {
    let mut evidence = Evidence::default();
    praise(&mut evidence, ME, 1);
    let before = value(&Reputation::of(person(ME), &evidence, NOW), 1);
    for liar in 2..400 {
        praise(&mut evidence, ME, liar);
        slander(&mut evidence, liar, 1);
    }
    let reputation = Reputation::of(person(ME), &evidence, NOW);
    let after = value(&reputation, 1);
    assert!(before >= 999 && after >= before / 2, "{before} {after}");
    let reasons = reputation.score(&person(1)).reasons();
    assert!(
        matches!(reasons.last(), Some(Reason::Limit { rule: Rule::OwnExperience, .. })),
        "{:?}",
        reasons.last()
    );
    contributions_add_up(&reputation);

    // And the other way round: what I saw fail is not mended by praise.
    let mut evidence = Evidence::default();
    evidence.spot_checks.push(checks(ME, 1, 0, 1));
    for friend in 2..50 {
        praise(&mut evidence, ME, friend);
        praise(&mut evidence, friend, 1);
    }
    let reputation = Reputation::of(person(ME), &evidence, NOW);
    assert_eq!((value(&reputation, 1), reputation.weight(&person(1))), (0, 0));
    contributions_add_up(&reputation);
}

#[test]
fn l08_whitewash_by_a_new_key_gains_nothing() {
    let (rogue, reborn) = (1, 2);
    let mut evidence = honest_circle(&mut Rng(8));
    evidence.vouches.retain(|v| ![rogue, reborn].map(person).contains(&v.to));
    evidence.settled.retain(|s| ![rogue, reborn].map(person).contains(&s.payee));
    praise(&mut evidence, 3, rogue);
    slander(&mut evidence, ME, rogue);
    // The old key vouches for the new one, and they did business.
    praise(&mut evidence, rogue, reborn);
    let reputation = Reputation::of(person(ME), &evidence, NOW);
    assert_eq!((value(&reputation, rogue), value(&reputation, reborn)), (0, 0));
    let score = reputation.score(&person(reborn));
    assert_eq!(score.reasons(), [Reason::Unknown]);
    assert_eq!(score.reasons()[0].to_string(), "+0.000 nobody you know has worked with them");
    assert_eq!(reputation.verification(&person(reborn)), Verification::Invited);
    for level in TrustLevel::ALL {
        let quota = level.unlocks().quota;
        let requests = |number| quota.requests_per_day_at(reputation.score(&person(number)).value_milli());
        assert_eq!(requests(reborn), quota.newcomer_requests_per_day);
        assert_eq!(requests(rogue), requests(reborn), "{level}: no worse off with the old key");
        assert_eq!(quota.requests_per_day_at(100), quota.requests_per_day);
    }
}

/// The example of `docs/design/trust.md`, line by line.
#[test]
fn why_is_this_0_62() {
    let (ana, bob, cid) = (1, 2, 3);
    let evidence = Evidence {
        vouches: vec![
            vouch(ME, ana, VouchKind::MetInPerson),
            vouch(ME, bob, VouchKind::SafetyWords),
            vouch(ME, cid, VouchKind::Plain),
            vouch(ana, cid, VouchKind::MetInPerson),
        ],
        settled: vec![settled(ME, cid, 32_768 * WORK)],
        moderation: vec![moderation(bob, cid, Severity::Muted)],
        ..Evidence::default()
    };
    let reputation = Reputation::of(person(ME), &evidence, NOW);
    let score = reputation.score(&person(cid));
    assert_eq!(score.to_string(), "0.620");
    let mut lines = String::new();
    for reason in score.reasons() {
        let line = reason.to_string().replace(&person(ana).to_string(), "Ana");
        lines += &format!("    {}\n", line.replace(&person(bob).to_string(), "Bob"));
    }
    let document = include_str!("../../docs/design/trust.md");
    assert!(document.contains(&lines), "docs/design/trust.md should contain:\n{lines}");
    assert_eq!(reputation.verification(&person(cid)), Verification::VouchedBy(2));
    contributions_add_up(&reputation);
}

#[test]
fn scores_fade_and_do_not_depend_on_order_or_copies() {
    let mut rng = Rng(11);
    let mut evidence = honest_circle(&mut rng);
    region(&mut evidence, &mut rng, Shape::Random, 40);
    link(&mut evidence, &mut rng, 3, 40);
    (0..9).for_each(|i| slander(&mut evidence, SYBILS + i, 1 + i));
    // The same evidence twice, with people who vouch for themselves, shuffled.
    let mut copied = evidence.clone();
    copied.vouches.extend(evidence.vouches.clone());
    copied.vouches.extend((0..20).map(|i| vouch(i, i, VouchKind::MetInPerson)));
    copied.settled.extend(evidence.settled.clone());
    copied.spot_checks.extend(evidence.spot_checks.clone());
    copied.failures.extend(evidence.failures.clone());
    copied.moderation.extend(evidence.moderation.clone());
    let expected = Reputation::of(person(ME), &evidence, NOW);
    for _ in 0..5 {
        rng.shuffle(&mut copied.vouches);
        rng.shuffle(&mut copied.settled);
        rng.shuffle(&mut copied.failures);
        rng.shuffle(&mut copied.spot_checks);
        rng.shuffle(&mut copied.moderation);
        assert_eq!(Reputation::of(person(ME), &copied, NOW), expected);
    }
    let two_years = 720 * 86_400_000;
    let one = Evidence { vouches: vec![vouch(ME, 1, VouchKind::MetInPerson)], ..Evidence::default() };
    let at = |now| value(&Reputation::of(person(ME), &one, now), 1);
    assert_eq!([at(NOW - two_years), at(NOW), at(NOW + two_years), at(i64::MAX)], [600, 600, 300, 0]);
}

#[test]
fn numbers_from_the_edge_of_their_range_break_nothing() {
    let mut rng = Rng(12);
    let (counts, times) = ([0, 1, u64::MAX - 1, u64::MAX], [i64::MIN, -1, 0, NOW, i64::MAX]);
    for _ in 0..200 {
        let mut evidence = Evidence::default();
        for _ in 0..60 {
            let (from, to) = (person(pick(&mut rng, 6)), person(pick(&mut rng, 6)));
            let (count, more) = (counts[rng.below(4)], counts[rng.below(4)]);
            let time_ms = times[rng.below(5)];
            let (kind, severity) = (VouchKind::MetInPerson, Severity::Removed);
            match rng.below(5) {
                0 => evidence.vouches.push(Vouch { from, to, kind, time_ms }),
                1 => evidence.settled.push(Settled {
                    payer: from,
                    payee: to,
                    token_mib: count,
                    last_ms: time_ms,
                }),
                2 => evidence.failures.push(Failures { provider: to, asker: from, count, last_ms: time_ms }),
                3 => {
                    let checks = SpotChecks {
                        subject: to,
                        checker: from,
                        passed: count,
                        failed: more,
                        last_ms: time_ms,
                    };
                    evidence.spot_checks.push(checks);
                }
                _ => evidence.moderation.push(Moderation { subject: to, by: from, severity, time_ms }),
            }
        }
        contributions_add_up(&Reputation::of(person(ME), &evidence, times[rng.below(5)]));
    }
}

/// Ford and Fulkerson on a dense matrix, shortest paths first; slow and plain.
fn max_flow(capacity: &mut [Vec<u64>], source: usize, sink: usize) -> u64 {
    let mut total = 0;
    loop {
        let mut before = vec![usize::MAX; capacity.len()];
        before[source] = source;
        let mut queue = VecDeque::from([source]);
        while let Some(at) = queue.pop_front() {
            for next in 0..capacity.len() {
                if before[next] == usize::MAX && capacity[at][next] > 0 {
                    before[next] = at;
                    queue.push_back(next);
                }
            }
        }
        if before[sink] == usize::MAX {
            return total;
        }
        let mut path = vec![sink];
        while path[path.len() - 1] != source {
            path.push(before[path[path.len() - 1]]);
        }
        let narrowest = path.windows(2).map(|step| capacity[step[1]][step[0]]).min().expect("a path");
        for step in path.windows(2) {
            capacity[step[1]][step[0]] -= narrowest;
            capacity[step[0]][step[1]] += narrowest;
        }
        total += narrowest;
    }
}

/// The network of `flow`'s picture: me, each person as seen directly (1 + i),
/// what they pass on (1 + n + i), each person as reached over others
/// (1 + 2n + i), and a sink that takes from `targets` only.
fn network(n: usize, direct: &[u64], trust: &[Vec<u64>], targets: &[usize]) -> u64 {
    let sink = 1 + 3 * n;
    let mut capacity = vec![vec![0; sink + 1]; sink + 1];
    for a in 0..n {
        capacity[0][1 + a] = 2 * direct[a];
        capacity[1 + a][1 + n + a] = direct[a];
        for b in (0..n).filter(|b| *b != a) {
            capacity[1 + n + a][1 + 2 * n + b] = direct[a].min(trust[a][b]) / HOP_DIVISOR;
        }
    }
    for target in targets {
        capacity[1 + target][sink] = direct[*target];
        capacity[1 + 2 * n + target][sink] = u64::MAX / 4;
    }
    max_flow(&mut capacity, 0, sink)
}

#[test]
fn weights_are_a_maximum_flow() {
    let mut shared = 0;
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let n = 2 + rng.below(7);
        let amount = |rng: &mut Rng| if rng.below(3) == 0 { 0 } else { rng.next() % (ONE + 1) };
        let direct: Vec<u64> = (0..n).map(|_| amount(&mut rng)).collect();
        let trust: Vec<Vec<u64>> = (0..n).map(|_| (0..n).map(|_| amount(&mut rng)).collect()).collect();
        let id = |i: usize| person(u32::try_from(i).expect("small"));
        let first: BTreeMap<_, _> = (0..n).map(|i| (id(i), direct[i])).collect();
        let edges: BTreeMap<_, _> = (0..n)
            .flat_map(|a| (0..n).map(move |b| (a, b)))
            .map(|(a, b)| ((id(a), id(b)), trust[a][b]))
            .collect();
        let flow = Flow::over(&first, &edges);
        let uncapped = |b: usize| direct[b] + (0..n).map(|a| flow.passed(&id(a), &id(b))).sum::<u64>();

        let everybody: Vec<usize> = (0..n).collect();
        let whole: u64 = everybody.iter().map(|b| uncapped(*b)).sum();
        assert_eq!(
            whole,
            network(n, &direct, &trust, &everybody),
            "seed {seed}: no more and no less than the flow"
        );
        for b in 0..n {
            assert_eq!(flow.weight(&id(b)), uncapped(b).min(ONE));
            let alone = network(n, &direct, &trust, &[b]);
            assert!(uncapped(b) <= alone, "seed {seed}: {b} gets what no flow could carry");
            shared += usize::from(uncapped(b) < alone);
        }
        // Any part of the people gets at most what a flow to them could carry.
        let part: Vec<usize> = everybody.into_iter().filter(|_| rng.below(2) == 0).collect();
        assert!(part.iter().map(|b| uncapped(*b)).sum::<u64>() <= network(n, &direct, &trust, &part));
    }
    assert!(shared > 50, "the limit on what a node passes on was met: {shared}");
}

/// `cargo test -p exo-model --test reputation -- --ignored --nocapture`
#[test]
#[ignore = "prints times; asserts nothing about them"]
#[allow(clippy::print_stdout, reason = "its purpose")]
fn how_long_it_takes() {
    let time = |name: &str, evidence: &Evidence| {
        let start = std::time::Instant::now();
        let scores = Reputation::of(person(ME), evidence, NOW).scores().count();
        let kinds = [evidence.vouches.len(), evidence.settled.len(), evidence.spot_checks.len()];
        println!("{name}: {kinds:?} statements, {scores} scores, {:?}", start.elapsed());
    };
    for shape in [Shape::Ring, Shape::Star, Shape::Random] {
        let mut evidence = honest_circle(&mut Rng(1));
        region(&mut evidence, &mut Rng(1), shape, 10_000);
        link(&mut evidence, &mut Rng(1), 3, 10_000);
        (0..10_000).for_each(|i| slander(&mut evidence, SYBILS + i, 1));
        time(&format!("{shape:?} of 10,000"), &evidence);
        time(&format!("{shape:?} of 10,000 again"), &evidence);
    }
    let mut evidence = Evidence::default();
    for friend in 1..=64 {
        praise(&mut evidence, ME, friend);
        (0..1_024).for_each(|i| praise(&mut evidence, friend, SYBILS + friend * 2_000 + i));
    }
    time("64 friends who each praise 1,024", &evidence);
}
