//! A1, L4: what proves that a device signed two lines, and what does not.

use exo_model::codec::{decode, encode};
use exo_model::decide::{Intent, Refusal};
use exo_model::feed::equivocation::{
    BRANCH_BYTES_MAX, BRANCH_CHANGES_MAX, Branch, EquivocationProof, NoProof,
};
use exo_model::feed::gate;
use exo_model::feed::{Change, FeedId, FeedPosition, Stream};
use exo_model::port::Signer as _;
use exo_model::signature::{SecretKey, Signature};
use exo_model::{CommunityId, DeviceId};

use super::{end_of, first_segment, opening, signed};
use crate::home::{Person, found};
use crate::samples::{NOW, author, change, feed, hash, proofs};

/// The branch of `feed` at the change `count` of these, the rest of which
/// leads to the signature.
fn branch(feed: &FeedId, from: FeedPosition, changes: &[Change], count: usize) -> Branch {
    let end = end_of(feed, from, changes);
    Branch {
        at: end_of(feed, from, &changes[..count]),
        then: changes[count..].to_vec(),
        signature: author().sign(&feed.signed_message(&end)),
    }
}

fn line(first: &[u8], len: usize) -> Vec<Change> {
    let rest = (1..len).map(|n| change(NOW, &n.to_be_bytes()));
    std::iter::once(change(NOW, first)).chain(rest).collect()
}

fn fork(feed: FeedId, lens: [usize; 2]) -> Result<EquivocationProof, NoProof> {
    let [one, other] = [(b"one", lens[0]), (b"two", lens[1])]
        .map(|(first, len)| branch(&feed, FeedPosition::START, &line(first, len), 1));
    EquivocationProof::of_fork(feed, one, other)
}

#[test]
fn a01_two_signed_lines_of_any_length_prove_themselves() {
    let feed = feed(Stream::Charter);
    for lens in [[1, 1], [1, 5], [7, 2], [1 + BRANCH_CHANGES_MAX, 1 + BRANCH_CHANGES_MAX]] {
        let proof = fork(feed, lens).expect("a fork");
        assert_eq!((proof.verify(), *proof.feed(), proof.overrun_end()), (Ok(()), feed, None), "{lens:?}");
        assert_eq!(decode(&encode(&proof), 32 * 1024), Ok(proof), "and fits an event");
    }
    assert_eq!(fork(feed, [2 + BRANCH_CHANGES_MAX, 1]), Err(NoProof::TooLong));
    // The order in which they are found changes nothing.
    let [one, other] = [b"one", b"two"].map(|first| branch(&feed, FeedPosition::START, &line(first, 1), 1));
    let there = EquivocationProof::of_fork(feed, one.clone(), other.clone());
    assert_eq!(there, EquivocationProof::of_fork(feed, other, one));
}

#[test]
fn l04_honest_lines_prove_nothing() {
    let feed = feed(Stream::Charter);
    let changes = line(b"one", 4);
    let at = |count| branch(&feed, FeedPosition::START, &changes, count);
    for (one, other) in [(1, 1), (1, 2), (3, 4), (4, 4)] {
        assert_eq!(EquivocationProof::of_fork(feed, at(one), at(other)), Err(NoProof::NotApart));
    }
    // One line seen twice, once by an earlier signature: still one line.
    let shorter = branch(&feed, FeedPosition::START, &changes[..2], 1);
    assert_eq!(EquivocationProof::of_fork(feed, at(1), shorter), Err(NoProof::NotApart));
    // Nothing is before the first change.
    let start = |first| branch(&feed, FeedPosition::START, &line(first, 1), 0);
    assert!(EquivocationProof::of_fork(feed, start(b"one"), start(b"two")).is_err());
}

#[test]
fn long_branches_are_refused_before_anything_is_hashed() {
    let feed = feed(Stream::Charter);
    let half = vec![1; BRANCH_BYTES_MAX / 2];
    let fill = |first: &[u8], extra: usize| {
        let second = [half.as_slice(), &vec![2; extra]].concat();
        let changes = [change(NOW, first), change(NOW, &half), change(NOW, &second)];
        branch(&feed, FeedPosition::START, &changes, 1)
    };
    assert!(EquivocationProof::of_fork(feed, fill(b"one", 0), fill(b"two", 0)).is_ok());
    assert_eq!(EquivocationProof::of_fork(feed, fill(b"one", 1), fill(b"two", 0)), Err(NoProof::TooLong));
}

/// A segment of three, its next one, and a fourth change of the first.
fn overrun() -> EquivocationProof {
    let (first, end) = first_segment();
    let next =
        signed(first.feed.with_segment(1), FeedPosition::START, vec![opening(Some(end)), change(NOW, b"x")]);
    assert!(gate::admit(next.clone(), &FeedPosition::START).is_ok(), "the next segment is an honest one");
    EquivocationProof::Overrun {
        feed: first.feed,
        beyond: branch(&first.feed, end.end, &[change(NOW, b"late")], 1),
        opening: next.changes,
        signature: next.signature,
    }
}

#[test]
fn a01_a_segment_that_goes_on_after_the_next_began_proves_itself() {
    let proof = overrun();
    assert_eq!((proof.verify(), proof.overrun_end()), (Ok(()), Some(3)));
    assert_eq!(proof.feed().segment, 0);
    assert_eq!(decode(&encode(&proof), 32 * 1024), Ok(proof));
}

#[test]
fn l04_a_segment_that_ended_where_it_says_proves_nothing() {
    let (first, _) = first_segment();
    for count in 1..=3 {
        let EquivocationProof::Overrun { feed, opening, signature, .. } = overrun() else {
            panic!("overrun")
        };
        let beyond = branch(&first.feed, FeedPosition::START, &first.changes, count);
        let proof = EquivocationProof::Overrun { feed, beyond, opening, signature };
        assert_eq!(proof.verify(), Err(NoProof::NotApart), "change {count} of three");
    }
    let EquivocationProof::Overrun { feed, beyond, signature, .. } = overrun() else { panic!("overrun") };
    for opening in [Vec::new(), vec![opening(None)], vec![change(NOW, b"no envelope")]] {
        let (beyond, feed) = (beyond.clone(), feed);
        let proof = EquivocationProof::Overrun { feed, beyond, opening, signature };
        assert_eq!(proof.verify(), Err(NoProof::NotApart));
    }
    let EquivocationProof::Overrun { beyond, opening, signature, .. } = overrun() else { panic!("overrun") };
    let feed = first.feed.with_segment(u32::MAX);
    let last = EquivocationProof::Overrun { feed, beyond, opening, signature };
    assert_eq!(last.verify(), Err(NoProof::NotApart), "no segment comes after the last");
}

fn feeds(feed: FeedId) -> Vec<FeedId> {
    vec![
        FeedId { community: CommunityId::from_bytes([1; 32]), ..feed },
        FeedId { device: SecretKey::from_bytes(&[6; 32]).device(), ..feed },
        FeedId { device: DeviceId::from_bytes([0; 32]), ..feed },
        FeedId { stream: Stream::Library, ..feed },
        feed.with_segment(feed.segment + 1),
    ]
}

fn branches(branch: &Branch) -> Vec<Branch> {
    let mut flipped = *branch.signature.as_bytes();
    flipped[1] ^= 1;
    let at = branch.at;
    let mut twisted = vec![
        Branch { at: FeedPosition { seq: at.seq + 1, ..at }, ..branch.clone() },
        Branch { at: FeedPosition { seq: 0, ..at }, ..branch.clone() },
        Branch { at: FeedPosition { hash: hash(1), ..at }, ..branch.clone() },
        Branch { then: [branch.then.as_slice(), &[change(NOW, b"more")]].concat(), ..branch.clone() },
        Branch { signature: Signature::from_bytes(flipped), ..branch.clone() },
    ];
    twisted.extend((0..branch.then.len()).flat_map(|at| {
        let mut gone = branch.clone();
        gone.then.remove(at);
        let mut later = branch.clone();
        later.then[at].time_ms += 1;
        let mut other = branch.clone();
        other.then[at].payload.push(0);
        [gone, later, other]
    }));
    twisted
}

#[test]
fn l04_no_field_of_a_fork_can_be_changed() {
    let EquivocationProof::Fork { feed, left, right } = fork(feed(Stream::Charter), [3, 2]).expect("a fork")
    else {
        panic!("a fork")
    };
    let mut twisted = Vec::new();
    for feed in feeds(feed) {
        twisted.push((feed, left.clone(), right.clone()));
    }
    twisted.extend(branches(&left).into_iter().map(|left| (feed, left, right.clone())));
    twisted.extend(branches(&right).into_iter().map(|right| (feed, left.clone(), right)));
    twisted.push((feed, right.clone(), left.clone()));
    twisted.push((feed, left.clone(), left.clone()));
    twisted.push((feed, left.clone(), Branch { signature: left.signature, ..right.clone() }));
    assert!(twisted.len() > 20);
    for (feed, left, right) in twisted {
        let proof = EquivocationProof::Fork { feed, left, right };
        assert!(proof.verify().is_err(), "{proof:?}");
    }
}

#[test]
fn l04_no_field_of_an_overrun_can_be_changed() {
    let EquivocationProof::Overrun { feed, beyond, opening, signature } = overrun() else {
        panic!("overrun")
    };
    let mut twisted: Vec<_> =
        feeds(feed).into_iter().map(|feed| (feed, beyond.clone(), opening.clone(), signature)).collect();
    twisted.extend(branches(&beyond).into_iter().map(|beyond| (feed, beyond, opening.clone(), signature)));
    let line = Branch { at: FeedPosition::START, then: opening.clone(), signature };
    twisted.extend(
        branches(&line)
            .into_iter()
            .filter(|other| other.then != opening || other.signature != signature)
            .map(|line| (feed, beyond.clone(), line.then, line.signature)),
    );
    twisted.push((feed, beyond.clone(), opening, beyond.signature));
    assert!(twisted.len() > 15);
    for (feed, beyond, opening, signature) in twisted {
        let proof = EquivocationProof::Overrun { feed, beyond, opening, signature };
        assert!(proof.verify().is_err(), "{proof:?}");
    }
}

/// A proof is about one device of one community, and replayed elsewhere it
/// takes nobody out.
#[test]
fn l04_a_proof_from_elsewhere_is_of_no_use_here() {
    let mut a = found("Ana", &Person::new(1));
    for proof in proofs() {
        assert_eq!(proof.verify(), Ok(()), "true where it was made");
        let refused = a.try_act(Intent::ProveEquivocation(Box::new(proof)));
        assert!(refused.is_err(), "{:?}", refused.map_err(|refusal: Refusal| refusal.to_string()));
    }
}
