//! Removals, rings of them, co-signatures, and fences.

use exo_model::charter::role::Role;
use exo_model::event::CharterEvent as E;

use crate::reference::charter::RefStanding::{Counts, Lost, NotEntitled, Void};
use crate::story::{Story, device, members, person, role_of};

#[test]
fn of_two_admins_who_remove_each_other_the_less_senior_goes() {
    for (senior_hash, junior_hash) in [(1, 2), (2, 1)] {
        let mut story = Story::with(&[Role::Admin, Role::Admin]);
        let now = story.now();
        story.next_hash = Some(senior_hash);
        let by_senior = story.remove(1, 2, &[], &now);
        story.next_hash = Some(junior_hash);
        let by_junior = story.remove(2, 1, &[], &now);
        let state = story.expect(&[(by_senior, Counts), (by_junior, Void)]);
        assert_eq!(members(&state), [0, 1]);
    }
}

#[test]
fn rank_goes_before_seniority() {
    // 2 is senior as an admin when 3 (an owner, admitted later) removes 2, and
    // 2, who has not heard that 3 is owner, removes 3.
    let mut story = Story::with(&[Role::Member, Role::Admin, Role::Member]);
    let before = story.now();
    let made_owner = story.role(0, 3, Role::Owner, &before);
    let by_admin = story.remove(2, 3, &[], &before);
    let by_owner = story.remove(3, 2, &[], &[made_owner]);
    let state = story.expect(&[(by_owner, Counts), (by_admin, Void)]);
    assert_eq!(members(&state), [0, 1, 3]);
}

#[test]
fn of_three_admins_in_a_ring_the_most_senior_prevails() {
    let mut story = Story::with(&[Role::Admin, Role::Admin, Role::Admin]);
    let now = story.now();
    let one = story.remove(1, 2, &[], &now);
    let two = story.remove(2, 3, &[], &now);
    let three = story.remove(3, 1, &[], &now);
    // k = 2: each finds the third, who is not the subject.
    let sign_one = story.sign(3, one, &[three]);
    let sign_two = story.sign(1, two, &[one]);
    let sign_three = story.sign(2, three, &[two]);
    let state = story.expect(&[
        (one, Counts),
        (sign_one, Counts),
        // 2 wrote under nothing that 1's removal cites.
        (two, Void),
        (sign_three, Void),
        (three, NotEntitled),
        (sign_two, NotEntitled),
    ]);
    assert_eq!(members(&state), [0, 1, 3]);
}

#[test]
fn an_equal_rank_takes_k_of_n_signatures() {
    // k = ⌊(n − 1)/2⌋ + 1, the author's among them.
    for (n, k) in [(2, 1), (3, 2), (4, 2), (5, 3), (6, 3)] {
        for signatures in 1..=n - 1 {
            let mut story = Story::with(&vec![Role::Admin; n]);
            let now = story.now();
            let removal = story.remove(1, 2, &[], &now);
            for signer in 3..2 + signatures as u64 {
                story.sign(signer, removal, &[]);
            }
            let standing = if signatures >= k { Counts } else { NotEntitled };
            let state = story.expect(&[(removal, standing)]);
            assert_eq!(members(&state).len(), n + usize::from(signatures < k), "{signatures} of {n}");
        }
    }
}

#[test]
fn owners_need_two_signatures_at_least() {
    // n counts the founder, who removes 1 (an owner); further owners sign.
    for (n, k) in [(2, 2), (3, 2), (4, 2), (5, 3)] {
        for signatures in 1..n {
            let mut story = Story::with(&vec![Role::Owner; n - 1]);
            let now = story.now();
            let removal = story.remove(0, 1, &[], &now);
            for signer in 2..1 + signatures as u64 {
                story.sign(signer, removal, &[]);
            }
            story.expect(&[(removal, if signatures >= k { Counts } else { NotEntitled })]);
        }
    }
}

#[test]
fn neither_the_subject_nor_another_rank_nor_one_person_twice_signs() {
    let mut story =
        Story::with(&[Role::Admin, Role::Admin, Role::Admin, Role::Admin, Role::Admin, Role::Moderator]);
    let now = story.now();
    let removal = story.remove(1, 2, &[], &now);
    let by_subject = story.sign(2, removal, &[]);
    let by_owner = story.sign(0, removal, &[]);
    let by_moderator = story.sign(6, removal, &[]);
    let by_author = story.sign(1, removal, &[]);
    let first = story.sign(3, removal, &[]);
    let again = story.sign(3, removal, &[]);
    let state = story.expect(&[
        (by_owner, NotEntitled),
        (by_moderator, NotEntitled),
        (by_author, NotEntitled),
        (by_subject, NotEntitled),
        (first, Counts),
        (again, Counts),
        (removal, NotEntitled),
    ]);
    assert_eq!(members(&state).len(), 7);
    story.sign(4, removal, &[]);
    story.expect(&[(removal, Counts)]);
}

#[test]
fn a_removal_is_seen_only_with_its_signatures() {
    let mut story = Story::with(&[Role::Admin, Role::Admin, Role::Admin]);
    let now = story.now();
    let tip = story.profile(2, "Ben", &now);
    let removal = story.remove(1, 2, &[tip], &[tip]);
    let early = story.invite(3, 7, 1, Role::Member, &[removal]);
    let signed = story.sign(3, removal, &[early]);
    // Who wrote before the signature could not know 2 as removed…
    let promoted_before = story.role(0, 2, Role::Moderator, &[removal]);
    // …who wrote after it could.
    let promoted_after = story.role(0, 2, Role::Moderator, &[signed]);
    let state = story.expect(&[(removal, Counts), (promoted_before, Counts), (promoted_after, NotEntitled)]);
    assert_eq!(members(&state), [0, 1, 3]);
}

#[test]
fn nobody_removes_the_last_owner_or_someone_above() {
    let mut story = Story::with(&[Role::Admin, Role::Moderator, Role::Member, Role::Member]);
    let now = story.now();
    let owner = story.remove(1, 0, &[], &now);
    let above = story.remove(2, 1, &[], &now);
    let by_member = story.remove(3, 4, &[], &now);
    let oneself = story.remove(1, 1, &[], &now);
    let below = story.remove(2, 4, &[], &now);
    let state = story.expect(&[
        (owner, NotEntitled),
        (above, NotEntitled),
        (by_member, NotEntitled),
        (oneself, NotEntitled),
        (below, Counts),
    ]);
    assert_eq!(members(&state), [0, 1, 2, 3]);
}

#[test]
fn a_removed_admin_gains_nothing_by_writing_under_old_heads() {
    let mut story = Story::with(&[Role::Admin, Role::Member]);
    let old = story.now();
    let kept = story.profile(1, "Ben", &old);
    let removal = story.remove(0, 1, &[kept], &[kept]);
    let invite = story.invite(1, 9, 5, Role::Member, &old);
    let by_himself = story.admit(1, 8, 9, &[], &[invite]);
    let by_another = story.admit(2, 9, 9, &[], &[invite]);
    let of_the_invited = story.profile(9, "Eve", &[by_another]);
    let promoted = story.role(1, 2, Role::Moderator, &old);
    let cites_all = story.profile(2, "Cleo", &[by_himself, of_the_invited, removal]);
    let state = story.expect(&[
        (kept, Counts),
        (invite, Void),
        (by_himself, Void),
        (promoted, Void),
        (by_another, NotEntitled),
        (of_the_invited, NotEntitled),
        (cites_all, Counts),
    ]);
    assert_eq!(members(&state), [0, 2]);
    assert_eq!(role_of(&state, 2), Some(Role::Member));
}

#[test]
fn a_fence_never_cuts_what_its_event_cites() {
    let mut story = Story::with(&[Role::Admin]);
    let now = story.now();
    let first = story.profile(1, "Ben", &now);
    let cited = story.admit(1, 2, 0, &[], &[first]);
    let unseen = story.profile(1, "Benny", &[cited]);
    let removal = story.remove(0, 1, &[first], &[cited]);
    let state = story.expect(&[(first, Counts), (cited, Counts), (unseen, Void), (removal, Counts)]);
    assert_eq!(members(&state), [0, 2]);
}

#[test]
fn a_feed_that_a_fence_does_not_name_is_void_whole() {
    let mut story = Story::with(&[Role::Admin]);
    let now = story.now();
    let unseen = story.profile(1, "Ben", &now);
    story.remove(0, 1, &[], &now);
    story.expect(&[(unseen, Void)]);
}

#[test]
fn of_several_fences_the_lowest_holds() {
    let mut story = Story::with(&[Role::Admin, Role::Admin]);
    let now = story.now();
    let acts: Vec<_> = (0..3).map(|no| story.profile(2, &format!("Ben {no}"), &now)).collect();
    // Neither cites what it names.
    story.remove(0, 2, &[acts[1]], &now);
    story.remove(1, 2, &[acts[0]], &now);
    story.expect(&[(acts[0], Counts), (acts[1], Void), (acts[2], Void)]);
}

#[test]
fn of_fences_that_name_different_lines_the_first_applied_holds() {
    for owner_is_left in [true, false] {
        let mut story = Story::with(&[Role::Admin, Role::Member]);
        let now = story.now();
        let left = story.profile(2, "Ben", &now);
        let nick = E::ProfileSet { name: "Nick".into(), about: String::new() };
        let right = story.says_after(2, None, &now, nick);
        story.expect(&[(left, Counts), (right, Counts)]);
        let (owners, admins) = if owner_is_left { (left, right) } else { (right, left) };
        // Neither voids the other, so rank decides, whatever the hashes say.
        let by_admin = story.remove(1, 2, &[admins], &now);
        let by_owner = story.remove(0, 2, &[owners], &now);
        let state = story.expect(&[(owners, Counts), (admins, Void), (by_admin, Counts), (by_owner, Counts)]);
        assert_eq!(state.fences[&device(2)], [story.acts[by_owner].id, story.acts[by_admin].id]);
    }
}

#[test]
fn a_fence_that_another_takes_away_one_sidedly_comes_after_it() {
    // 0 is the most senior owner and, once removed, back-dates a removal of 3.
    // That would void nothing of 1's, so seniority has no say.
    let mut story = Story::with(&[Role::Owner, Role::Owner, Role::Admin]);
    let now = story.now();
    let of_founder = story.remove(1, 0, &[], &now);
    let signed = story.sign(2, of_founder, &[]);
    let back_dated = story.remove(0, 3, &[], &now);
    let beyond = story.invite(0, 5, 1, Role::Member, &now);
    let state = story.expect(&[(of_founder, Counts), (signed, Counts), (back_dated, Void), (beyond, Void)]);
    assert_eq!(members(&state), [1, 2, 3]);
    assert_eq!(state.applied, [story.acts[of_founder].id]);
}

#[test]
fn what_was_applied_stays_applied() {
    // Of four admins, 1 removes 2, 2 removes 3 and 3 removes 1, and 4 signs
    // all three (k = 2). Each is beaten by one other, so 1 comes first, as the
    // most senior. That voids 2's, and leaves 3's, which takes 1 away too: what
    // 1 applied stays, and the rest of what 1 wrote does not.
    let mut story = Story::with(&[Role::Admin, Role::Admin, Role::Admin, Role::Admin]);
    let now = story.now();
    let one = story.remove(1, 2, &[], &now);
    let two = story.remove(2, 3, &[], &now);
    let three = story.remove(3, 1, &[], &now);
    let beyond = story.invite(1, 5, 1, Role::Member, &now);
    for removal in [one, two, three] {
        story.sign(4, removal, &[]);
    }
    let state = story.expect(&[(one, Counts), (two, Void), (three, Counts), (beyond, Void)]);
    assert_eq!(members(&state), [0, 3, 4]);
    assert_eq!(state.applied, [story.acts[one].id, story.acts[three].id]);
}

#[test]
fn what_was_applied_keeps_the_signatures_it_had() {
    // 1 removes 2 with 4's signature, and 3 removes 4 with 1's. Neither voids
    // the other's event, so the senior goes first; that 4's signature is void
    // afterwards comes too late.
    let mut story = Story::with(&[Role::Admin, Role::Admin, Role::Admin, Role::Admin]);
    let now = story.now();
    let of_two = story.remove(1, 2, &[], &now);
    let by_four = story.sign(4, of_two, &[]);
    let of_four = story.remove(3, 4, &[], &now);
    let by_one = story.sign(1, of_four, &[]);
    let state = story.expect(&[(of_two, Counts), (by_four, Void), (of_four, Counts), (by_one, Counts)]);
    assert_eq!(members(&state), [0, 1, 3]);
    assert_eq!(state.applied, [story.acts[of_two].id, story.acts[of_four].id]);
}

#[test]
fn m02_a_colluder_who_removes_and_brings_back_gains_nothing() {
    let mut story = Story::with(&[Role::Admin, Role::Member]);
    let now = story.now();
    let removal = story.remove(0, 2, &[], &now);
    let theirs = story.remove(1, 2, &[], &now);
    let invite = story.invite(1, 7, 1, Role::Member, &[theirs]);
    let back = story.admit_with(1, 2, 20, 7, &[theirs], &[invite]);
    let act = story.profile(20, "Back", &[back]);
    let state = story.expect(&[(removal, Counts), (theirs, Counts), (back, Counts), (act, Void)]);
    assert_eq!(members(&state), [0, 1]);
    assert_eq!(state.outside[&person(2)].iter().copied().collect::<Vec<_>>(), [story.acts[removal].id]);
}

#[test]
fn admissions_of_one_person_apart_are_one_admission() {
    let mut story = Story::with(&[Role::Member]);
    let now = story.now();
    story.next_hash = Some(1);
    let first = story.admit_with(0, 5, 50, 0, &[], &now);
    story.next_hash = Some(2);
    let second = story.admit_with(1, 5, 51, 0, &[], &now);
    let state = story.expect(&[(first, Counts), (second, Lost)]);
    assert!(state.members[&person(5)].devices.contains_key(&device(50)));
    assert_eq!(state.members[&person(5)].devices.len(), 1);
}
