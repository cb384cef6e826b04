//! Invites, coming back, bans, leaving, roles, and succession.

use exo_model::charter::role::Role;
use exo_model::charter::settings::Setting;
use exo_model::event::CharterEvent as E;
use exo_model::trust::TrustLevel;

use crate::reference::charter::RefStanding::{Counts, Lost, NotEntitled, NotReady, Void};
use crate::story::{Story, invite_key, members, person, role_of};

#[test]
fn m07_an_invite_used_too_often_serves_the_first_in_the_order() {
    for (ana, ben) in [(1, 2), (2, 1)] {
        let mut story = Story::with(&[Role::Member, Role::Member]);
        let now = story.now();
        let issued = story.invite(0, 3, 1, Role::Member, &now);
        story.next_hash = Some(ana);
        let one = story.admit(1, 5, 3, &[], &[issued]);
        story.next_hash = Some(ben);
        let other = story.admit(2, 6, 3, &[], &[issued]);
        let after = story.profile(6, "Six", &[other]);
        let (first, second) = if ana < ben { (Counts, Lost) } else { (Lost, Counts) };
        let follows = if ana < ben { NotEntitled } else { Counts };
        let state = story.expect(&[(one, first), (other, second), (after, follows)]);
        assert_eq!(state.invites[&invite_key(3)].used, 1);
        assert_eq!(members(&state).len(), 4);
    }
}

#[test]
fn an_invite_that_is_revoked_admits_nobody_who_knows() {
    let mut story = Story::with(&[Role::Moderator, Role::Member]);
    let now = story.now();
    let issued = story.invite(1, 3, 5, Role::Member, &now);
    let by_member = story.says(2, &[issued], E::InviteRevoked { key: invite_key(3) });
    let revoked = story.says(0, &[issued], E::InviteRevoked { key: invite_key(3) });
    let apart = story.admit(2, 5, 3, &[], &[issued]);
    let knowing = story.admit(2, 6, 3, &[], &[revoked]);
    let unknown = story.admit(2, 7, 44, &[], &[issued]);
    story.expect(&[
        (by_member, NotEntitled),
        (revoked, Counts),
        (apart, Counts),
        (knowing, NotEntitled),
        (unknown, NotEntitled),
    ]);
}

#[test]
fn who_may_invite_and_for_what() {
    let mut story = Story::with(&[Role::Moderator, Role::Member, Role::Member]);
    let now = story.now();
    let as_admin = story.invite(0, 1, 1, Role::Admin, &now);
    let by_member = story.invite(2, 2, 1, Role::Guest, &now);
    let trusting = |key| E::InviteIssued {
        key: invite_key(key),
        uses: 1,
        expires_ms: 0,
        role: Role::Member,
        trust: TrustLevel::Known,
    };
    // The moderator is trusted as public, the owner may set trust levels.
    let above_own = story.says(1, &now, trusting(3));
    let by_owner = story.says(0, &now, trusting(4));
    let opened = story.says(0, &now, E::SettingChanged { setting: Setting::MembersInvite(true) });
    let by_setting = story.invite(2, 5, 1, Role::Member, &[opened]);
    let again = story.invite(3, 5, 9, Role::Member, &[by_setting]);
    story.expect(&[
        (as_admin, NotEntitled),
        (by_member, NotEntitled),
        (above_own, NotEntitled),
        (by_owner, Counts),
        (by_setting, Counts),
        (again, Lost),
    ]);
}

#[test]
fn a_proof_fits_one_newcomer_and_one_name() {
    let mut story = Story::founded();
    let now = story.now();
    let admitted = story.admit(0, 1, 0, &[], &now);
    let mut stolen = story.acts[admitted].event.clone();
    if let E::Admitted { name, .. } = &mut stolen {
        *name = "Eve".to_owned();
    }
    story.acts.pop();
    let mut fresh = Story::founded();
    let act = fresh.says(0, &now, stolen);
    fresh.expect(&[(act, NotEntitled)]);
}

#[test]
fn who_was_removed_comes_back_on_an_invite_that_knew() {
    let mut story = Story::with(&[Role::Member, Role::Moderator]);
    let now = story.now();
    let removal = story.remove(2, 1, &[], &now);
    let old_invite = story.admit_with(2, 1, 10, 0, &[removal], &[removal]);
    let state = story.expect(&[(removal, Counts), (old_invite, NotEntitled)]);
    assert_eq!(members(&state), [0, 2], "the invite did not know of the removal");

    let invite = story.invite(2, 4, 1, Role::Guest, &[removal]);
    let same_device = story.admit(2, 1, 4, &[removal], &[invite]);
    let unlifted = story.admit_with(2, 1, 11, 4, &[], &[invite]);
    let state = story.expect(&[(same_device, NotEntitled), (unlifted, NotEntitled)]);
    assert_eq!(members(&state), [0, 2]);
    // What did not count has not used the invite up.
    let back = story.admit_with(2, 1, 12, 4, &[removal], &[invite]);
    let state = story.expect(&[(back, Counts)]);
    assert_eq!(members(&state), [0, 1, 2]);

    let mut story = Story::with(&[Role::Member, Role::Moderator]);
    let now = story.now();
    let promoted = story.role(0, 1, Role::Moderator, &now);
    let removal = story.remove(0, 1, &[], &[promoted]);
    let invite = story.invite(2, 4, 1, Role::Guest, &[removal]);
    let back = story.admit_with(2, 1, 12, 4, &[removal], &[invite]);
    let acts = story.profile(12, "Back", &[back]);
    let state = story.expect(&[(back, Counts), (acts, Counts)]);
    assert_eq!(role_of(&state, 1), Some(Role::Guest), "with the invite's role");
    assert_eq!(state.members[&person(1)].devices.len(), 1, "and new devices");
    assert_eq!(state.members[&person(1)].admitted_by, Some(person(2)));
}

#[test]
fn a_ban_is_lifted_by_the_rank_that_set_it() {
    for (lifter, is_lifted) in [(3, false), (2, true), (0, true)] {
        let mut story = Story::with(&[Role::Admin, Role::Admin, Role::Moderator, Role::Member]);
        let now = story.now();
        let ban = story.ban(1, 4, &now);
        let invite = story.invite(3, 4, 1, Role::Member, &[ban]);
        let back = story.admit_with(lifter, 4, 40, 4, &[ban], &[invite]);
        // Who may not lift it may not leave it out either.
        let unlifted = story.admit_with(lifter, 4, 41, 4, &[], &[invite]);
        let standing = if is_lifted { Counts } else { NotEntitled };
        let state = story.expect(&[(ban, Counts), (back, standing), (unlifted, NotEntitled)]);
        assert_eq!(members(&state).contains(&4), is_lifted, "by {lifter}");
    }
}

#[test]
fn only_what_an_admission_knew_can_it_lift() {
    let mut story = Story::with(&[Role::Admin, Role::Member]);
    let now = story.now();
    let first = story.remove(1, 2, &[], &now);
    let unknown = story.remove(0, 2, &[], &now);
    let invite = story.invite(1, 4, 2, Role::Member, &[first]);
    let too_much = story.admit_with(1, 2, 20, 4, &[first, unknown], &[invite]);
    let state = story.expect(&[(too_much, NotEntitled)]);
    assert_eq!(members(&state), [0, 1]);

    // It counts with what it knew, and what it did not know still stands…
    let back = story.admit_with(1, 2, 21, 4, &[first], &[invite]);
    let state = story.expect(&[(too_much, NotEntitled), (back, Counts)]);
    assert_eq!(members(&state), [0, 1]);
    assert_eq!(state.outside[&person(2)].iter().copied().collect::<Vec<_>>(), [story.acts[unknown].id]);

    // …until one that knows it comes after.
    let invite = story.invite(0, 5, 1, Role::Member, &[back, unknown]);
    let again = story.admit_with(0, 2, 22, 5, &[unknown], &[invite]);
    let state = story.expect(&[(back, Counts), (again, Counts)]);
    assert_eq!(members(&state), [0, 1, 2]);
}

#[test]
fn who_leaves_is_gone_and_comes_back_like_others() {
    let mut story = Story::with(&[Role::Member, Role::Moderator]);
    let now = story.now();
    let before = story.profile(1, "Ana", &now);
    let left = story.leave(1, &[before], &[before]);
    let after = story.profile(1, "Ghost", &[left]);
    let state = story.expect(&[(before, Counts), (left, Counts), (after, Void)]);
    assert_eq!(members(&state), [0, 2]);

    let invite = story.invite(2, 4, 1, Role::Member, &[left]);
    let back = story.admit_with(2, 1, 10, 4, &[left], &[invite]);
    let state = story.expect(&[(back, Counts)]);
    assert_eq!(members(&state), [0, 1, 2]);
}

#[test]
fn keepers_may_leave_and_nothing_else() {
    let mut story = Story::with(&[Role::Keeper]);
    let now = story.now();
    let profile = story.profile(1, "K", &now);
    let left = story.leave(1, &[], &now);
    story.expect(&[(profile, NotEntitled), (left, Counts)]);
}

#[test]
fn m06_when_the_last_owner_leaves_the_admins_choose_one() {
    // ⌊n/2⌋ + 1 of n, the author included.
    for (n, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        for signatures in 1..=n {
            let mut story = Story::with(&vec![Role::Admin; n]);
            let now = story.now();
            let left = story.leave(0, &[], &now);
            let heir = n as u64;
            let chosen = story.role(1, heir, Role::Owner, &[left]);
            for signer in 2..1 + signatures as u64 {
                story.sign(signer, chosen, &[]);
            }
            let enough = signatures >= needed;
            let state = story.expect(&[(left, Counts), (chosen, if enough { Counts } else { NotEntitled })]);
            let role = if enough { Role::Owner } else { Role::Admin };
            assert_eq!(role_of(&state, heir), Some(role), "{signatures} of {n}");
        }
    }
}

#[test]
fn succession_is_for_the_highest_rank_and_for_want_of_an_owner() {
    let mut story = Story::with(&[Role::Moderator, Role::Member, Role::Member]);
    let now = story.now();
    let too_early = story.role(1, 1, Role::Owner, &now);
    let left = story.leave(0, &[], &now);
    let by_member = story.role(2, 2, Role::Owner, &[left]);
    let for_member = story.role(1, 2, Role::Owner, &[left]);
    let by_moderator = story.role(1, 1, Role::Owner, &[left]);
    let state = story.expect(&[
        (too_early, NotEntitled),
        (by_member, NotEntitled),
        (for_member, NotEntitled),
        (by_moderator, Counts),
    ]);
    assert_eq!(role_of(&state, 1), Some(Role::Owner));
}

#[test]
fn roles_are_given_downwards() {
    let mut story = Story::with(&[Role::Admin, Role::Admin, Role::Moderator, Role::Member]);
    let now = story.now();
    let to_equal = story.role(1, 4, Role::Admin, &now);
    let by_moderator = story.role(3, 4, Role::Guest, &now);
    let downwards = story.role(1, 4, Role::Moderator, &now);
    let demoted = story.role(1, 2, Role::Member, &now);
    let last_owner = story.role(0, 0, Role::Admin, &now);
    let state = story.expect(&[
        (to_equal, NotEntitled),
        (by_moderator, NotEntitled),
        (downwards, Counts),
        // Two admins: ⌊1/2⌋ + 1 = 1 signature is enough.
        (demoted, Counts),
        (last_owner, NotEntitled),
    ]);
    assert_eq!(role_of(&state, 2), Some(Role::Member));

    let now = story.now();
    let second = story.role(0, 1, Role::Owner, &now);
    let lowered = story.role(0, 0, Role::Member, &[second]);
    let state = story.expect(&[(second, Counts), (lowered, Counts)]);
    assert_eq!((role_of(&state, 0), role_of(&state, 1)), (Some(Role::Member), Some(Role::Owner)));
}

#[test]
fn of_concurrent_roles_the_last_in_the_order_stands() {
    for (hash, other, role) in [(1, 2, Role::Guest), (2, 1, Role::Moderator)] {
        let mut story = Story::with(&[Role::Admin, Role::Admin, Role::Member]);
        let now = story.now();
        story.next_hash = Some(hash);
        story.role(1, 3, Role::Moderator, &now);
        story.next_hash = Some(other);
        story.role(2, 3, Role::Guest, &now);
        assert_eq!(role_of(&story.state(), 3), Some(role));
    }
}

#[test]
fn what_rests_on_something_missing_waits() {
    let mut story = Story::with(&[Role::Member]);
    let now = story.now();
    let missing = story.profile(1, "Ana", &now);
    let resting = story.profile(0, "Founder", &[missing]);
    let id = story.acts[resting].id;
    story.acts.remove(missing);
    let state = story.state();
    assert_eq!(state.standing[&id], NotReady);
    assert_eq!(state.members[&person(0)].name, "Person 0");
}
