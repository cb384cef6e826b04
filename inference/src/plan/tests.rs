use super::*;
use crate::sample::mix;
use exo_model::id::BlobHash;
use exo_model::weights::ByteRange;

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 32])
}

/// A model whose header takes 10 bytes, embedding `embedding`, each layer its
/// entry, head `head`; one byte of keys and values per token and layer.
fn manifest(embedding: u64, layers: &[u64], head: u64, tied: bool) -> ModelManifest {
    let mut at = 10;
    let mut next = |len: u64| {
        at += len;
        vec![ByteRange { start: at - len, end: at }]
    };
    let embedding = next(embedding);
    let layers = layers.iter().map(|&len| next(len)).collect();
    let mut head = next(head);
    if tied {
        head.extend(&embedding);
    }
    ModelManifest {
        file: BlobHash::from_bytes([0; 32]),
        size_bytes: at,
        name: String::new(),
        architecture: "llama".into(),
        licence: String::new(),
        context_length: 1_000,
        hidden_size: 8,
        kv_bytes_per_token_layer: 1,
        header: ByteRange { start: 0, end: 10 },
        embedding,
        layers,
        head: merge(head),
    }
}

fn merge(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    exo_model::weights::merge_ranges(ranges)
}

fn candidate(number: u8, offered_bytes: u64, us_per_layer: u32) -> Candidate {
    Candidate { device: device(number), offered_bytes, us_per_layer }
}

fn request<'a>(
    manifest: &'a ModelManifest,
    candidates: &'a [Candidate],
    rtt: &'a RttTable,
) -> PlanRequest<'a> {
    PlanRequest { manifest, requester: device(1), candidates, rtt, context_tokens: 10 }
}

fn stages(plan: &Plan) -> Vec<(u8, u32, u32)> {
    let brief = |stage: &StagePlan| (stage.device.as_bytes()[0], stage.layers.start(), stage.layers.end());
    plan.stages.iter().map(brief).collect()
}

#[test]
fn one_machine_that_can_hosts_everything() {
    let manifest = manifest(50, &[100; 4], 50, false);
    let rtt = RttTable::default();
    // 500 of weights + 40 of keys and values + 20 %.
    let candidates = [candidate(1, 648, 1_000), candidate(2, 10_000, 999)];
    let found = plan(&request(&manifest, &candidates, &rtt)).unwrap();
    assert_eq!((stages(&found), found.estimated_us_per_token), (vec![(1, 0, 4)], 4_000));
    // One byte less and the layers go to where there is room.
    let candidates = [candidate(1, 647, 1_000), candidate(2, 10_000, 999)];
    let found = plan(&request(&manifest, &candidates, &rtt)).unwrap();
    assert_eq!(stages(&found), [(2, 0, 4)]);
    assert_eq!(found.estimated_us_per_token, 4 * 999 + u64::from(RTT_UNKNOWN_US));
    assert!((found.estimated_ms_per_token() - 103.996).abs() < 1e-9);
}

#[test]
fn a_far_fast_machine_loses_to_a_near_slow_one() {
    let manifest = manifest(10, &[100; 10], 10, false);
    let mut rtt = RttTable::default();
    rtt.set(device(2), device(1), 500);
    rtt.set(device(1), device(3), 60_000);
    let candidates = [candidate(2, 5_000, 3_000), candidate(3, 5_000, 1_000)];
    let found = plan(&request(&manifest, &candidates, &rtt)).unwrap();
    assert_eq!((stages(&found), found.estimated_us_per_token), (vec![(2, 0, 10)], 30_500));
}

#[test]
fn equal_plans_are_told_apart_by_stages_then_ids_then_earlier_layers() {
    let manifest = manifest(10, &[100; 4], 10, false);
    let mut rtt = RttTable::default();
    for (a, b) in [(1, 2), (1, 3), (2, 3)] {
        rtt.set(device(a), device(b), 0);
    }
    let big = [candidate(3, 5_000, 7), candidate(2, 5_000, 7)];
    let found = plan(&request(&manifest, &big, &rtt)).unwrap();
    assert_eq!(stages(&found), [(2, 0, 4)]);
    // Each has room for three layers: one cut, as late as possible.
    let small = [candidate(3, 420, 7), candidate(2, 420, 7)];
    let found = plan(&request(&manifest, &small, &rtt)).unwrap();
    assert_eq!(stages(&found), [(2, 0, 3), (3, 3, 4)]);
}

#[test]
fn missing_memory_is_counted() {
    let manifest = manifest(50, &[100; 4], 50, false);
    let rtt = RttTable::default();
    let error = plan(&request(&manifest, &[], &rtt)).unwrap_err();
    let (needed_bytes, missing_bytes) = (648, 648);
    assert_eq!(error, PlanError::NotEnoughMemory { needed_bytes, offered_bytes: 0, missing_bytes });
    // Two layers with embedding: 270 + 54 = 324; the rest: two with head.
    let one = [candidate(1, 324, 1)];
    let error = plan(&request(&manifest, &one, &rtt)).unwrap_err();
    let missing_bytes = 324;
    assert_eq!(error, PlanError::NotEnoughMemory { needed_bytes, offered_bytes: 324, missing_bytes });
    let enough = [candidate(1, 324, 1), candidate(2, missing_bytes, 1)];
    assert!(plan(&request(&manifest, &enough, &rtt)).is_ok());
    assert!(error.to_string().contains("one more device offering 324 bytes"));
}

#[test]
fn a_tied_head_counts_once_in_a_single_stage_and_twice_in_a_chain() {
    let manifest = manifest(100, &[100; 2], 0, true);
    let all = manifest.all_layers().unwrap();
    assert_eq!(stage_memory_bytes(&manifest, all, 0), 360);
    let rtt = RttTable::default();
    let found = |bytes: &[u64]| {
        let candidates: Vec<_> = (1_u8..).zip(bytes).map(|(n, &bytes)| candidate(n, bytes, 1)).collect();
        let request = PlanRequest { context_tokens: 0, ..request(&manifest, &candidates, &rtt) };
        plan(&request).is_ok()
    };
    assert!(found(&[360]) && !found(&[359]));
    assert!(found(&[240, 240]) && !found(&[240, 239]));
}

#[test]
fn bad_requests_are_refused() {
    let mut empty = manifest(10, &[], 10, false);
    let rtt = RttTable::default();
    assert_eq!(plan(&request(&empty, &[], &rtt)), Err(PlanError::NoLayers));
    empty.layers.push(Vec::new());
    let twice = [candidate(2, 9, 9), candidate(2, 9, 9)];
    assert_eq!(plan(&request(&empty, &twice, &rtt)), Err(PlanError::Repeated(device(2))));
    let many: Vec<_> = (0..=64).map(|n| candidate(n, 1, 1)).collect();
    assert_eq!(plan(&request(&empty, &many, &rtt)), Err(PlanError::TooManyCandidates(65)));
}

/// Every ordered subset and every cut, without any cleverness.
fn brute_force(request: &PlanRequest<'_>) -> Option<(u64, usize, Vec<DeviceId>)> {
    fn go(
        request: &PlanRequest<'_>,
        chosen: &mut Vec<DeviceId>,
        start: u32,
        us: u64,
        best: &mut Option<(u64, usize, Vec<DeviceId>)>,
    ) {
        let total = request.manifest.layer_count();
        let from = chosen.last().copied().unwrap_or(request.requester);
        if start == total {
            let us = us + u64::from(request.rtt.get(from, request.requester)).div_ceil(2);
            let found = (us, chosen.len(), chosen.clone());
            if best.as_ref().is_none_or(|best| found < *best) {
                *best = Some(found);
            }
            return;
        }
        for candidate in request.candidates {
            if chosen.contains(&candidate.device) {
                continue;
            }
            for end in start + 1..=total {
                let layers = LayerRange::new(start, end).unwrap();
                let needed = stage_memory_bytes(request.manifest, layers, request.context_tokens);
                if needed > candidate.offered_bytes {
                    continue;
                }
                let hop = u64::from(request.rtt.get(from, candidate.device)).div_ceil(2);
                let compute = u64::from(end - start) * u64::from(candidate.us_per_layer);
                chosen.push(candidate.device);
                go(request, chosen, end, us + hop + compute, best);
                chosen.pop();
            }
        }
    }
    let mut best = None;
    go(request, &mut Vec::new(), 0, 0, &mut best);
    best
}

#[test]
fn the_exact_search_agrees_with_brute_force() {
    let mut infeasible = 0;
    for seed in 0..400_u64 {
        let draw = |index: u64, below: u64| mix(seed, index) % below;
        let layers: Vec<u64> = (0..1 + draw(0, 6)).map(|i| 50 + draw(10 + i, 100)).collect();
        let manifest = manifest(draw(1, 200), &layers, draw(2, 200), draw(3, 2) == 0);
        let count = 1 + draw(4, 4);
        let candidates: Vec<_> = (0..count)
            .map(|i| {
                // Few different speeds and distances, so that ties happen.
                let speed = u32::try_from(1 + draw(30 + i, 3)).unwrap() * 100;
                candidate(u8::try_from(i + 1).unwrap(), 100 + draw(20 + i, 700), speed)
            })
            .collect();
        let mut rtt = RttTable::default();
        for a in 1..=5_u8 {
            for b in 1..a {
                let us = draw(100 + u64::from(a) * 8 + u64::from(b), 4) * 101;
                rtt.set(device(a), device(b), u32::try_from(us).unwrap());
            }
        }
        let requester = device(u8::try_from(1 + draw(5, 5)).unwrap());
        let request = PlanRequest { requester, ..request(&manifest, &candidates, &rtt) };
        let found = plan(&request);
        let best = brute_force(&request);
        infeasible += u32::from(best.is_none());
        match (found, best) {
            (Ok(plan), Some((us, stages, devices))) => {
                assert_eq!(plan.estimated_us_per_token, us, "seed {seed}");
                let chosen: Vec<_> = plan.stages.iter().map(|stage| stage.device).collect();
                assert_eq!((chosen.len(), chosen), (stages, devices), "seed {seed}");
                assert_valid(&plan, &request);
            }
            (Err(PlanError::NotEnoughMemory { missing_bytes, .. }), None) => {
                let mut more = candidates.clone();
                more.push(candidate(9, missing_bytes, 1));
                let request = PlanRequest { candidates: &more, ..request };
                assert!(plan_exists(&request), "seed {seed}");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!((20..380).contains(&infeasible), "{infeasible} of 400 were infeasible");
}

fn plan_exists(request: &PlanRequest<'_>) -> bool {
    plan(request).is_ok()
}

fn assert_valid(plan: &Plan, request: &PlanRequest<'_>) {
    let mut next = 0;
    for stage in &plan.stages {
        assert_eq!(stage.layers.start(), next);
        next = stage.layers.end();
        let offered = request.candidates.iter().find(|one| one.device == stage.device).unwrap();
        let needed = stage_memory_bytes(request.manifest, stage.layers, request.context_tokens);
        assert!(needed <= offered.offered_bytes);
    }
    assert_eq!(next, request.manifest.layer_count());
}

#[test]
fn the_order_of_candidates_does_not_matter() {
    let manifest = manifest(10, &[100; 12], 10, false);
    let rtt = RttTable::default();
    let mut candidates: Vec<_> = (1..=6).map(|n| candidate(n, 500, 10)).collect();
    let forward = plan(&request(&manifest, &candidates, &rtt)).unwrap();
    candidates.reverse();
    assert_eq!(plan(&request(&manifest, &candidates, &rtt)).unwrap(), forward);
}

#[test]
fn many_candidates_and_layers_are_planned_by_the_beam() {
    let manifest = manifest(100, &[100; 80], 100, false);
    let mut rtt = RttTable::default();
    for a in 1..=40_u8 {
        for b in 1..a {
            let us = 1_000 + mix(u64::from(a), u64::from(b)) % 20_000;
            rtt.set(device(a), device(b), u32::try_from(us).unwrap());
        }
    }
    // Ten layers each: eight stages or more.
    let candidates: Vec<_> = (1..=40).map(|n| candidate(n, 1_500, 1_000 + u32::from(n))).collect();
    let request = request(&manifest, &candidates, &rtt);
    let found = plan(&request).unwrap();
    assert_valid(&found, &request);
    assert!(found.stages.len() <= 9, "{:?}", stages(&found));
    assert_eq!(plan(&request).unwrap(), found);
}

#[test]
fn eight_candidates_and_eighty_layers_stay_affordable() {
    let manifest = manifest(100, &[100; 80], 100, false);
    let rtt = RttTable::default();
    let candidates: Vec<_> = (1..=8).map(|n| candidate(n, 1_500, 1_000)).collect();
    let request = request(&manifest, &candidates, &rtt);
    let found = plan(&request).unwrap();
    assert_valid(&found, &request);
}
