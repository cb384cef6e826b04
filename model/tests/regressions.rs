//! Faults that were found once and must not come back, where no other file is
//! their place.

mod home;
mod samples;

use exo_model::amount::Amount;
use exo_model::charter::{ActStanding, Role, Standing};
use exo_model::codec::{DecodeError, decode, encode};
use exo_model::decide::Intent;
use exo_model::event::ledger::Account;
use exo_model::feed::equivocation::{Branch, EquivocationProof, NoProof};
use exo_model::feed::{Change, FeedPosition, Run, SEGMENT_CHANGES_MAX, Stream, gate};
use exo_model::id::{ChangeHash, ChannelId, InviteKey};
use exo_model::invite::{Contact, Ticket};
use exo_model::signature::{SecretKey, Signature};
use exo_model::trust::TrustLevel;
use home::{Person, found, meet};
use samples::{NOW, change, feed};

/// Two members admit on a one-use invite; the loser's ledger cites an act that
/// turns out to be without effect, and must not be closed for good by that.
#[test]
fn whoever_cited_an_act_that_lost_still_spends() {
    let mut a = found("Ana", &Person::new(1));
    let many = a.invite(2);
    let mut b = a.admit("Ben", &Person::new(2), &many);
    let mut c = a.admit("Cleo", &Person::new(3), &many);
    let once = a.invite(1);
    meet(&mut [&mut a, &mut b, &mut c]);
    let races = [(&mut b, 4), (&mut c, 5)].map(|(host, newcomer)| {
        let person = Person::new(newcomer);
        let admission = host.act(Intent::Admit(once.request(person.certify(&person.key, 1), "New".into())));
        let to = Account::Community;
        host.act(Intent::Transfer { to, amount: Amount::from_token_mib(1), note: String::new() });
        admission
    });
    meet(&mut [&mut a, &mut b, &mut c]);
    let standing = |act| a.community.charter().standing(act);
    let lost = races.iter().filter(|act| standing(act) == Some(Standing::Judged(ActStanding::Lost)));
    assert_eq!(lost.count(), 1);
    for home in [&mut b, &mut c] {
        let to = Account::Community;
        let again =
            home.try_act(Intent::Transfer { to, amount: Amount::from_token_mib(1), note: String::new() });
        assert!(again.is_ok(), "{}: {again:?}", home.name);
    }
}

#[test]
fn decide_refuses_a_second_invite_of_one_key_and_a_second_channel_of_one_id() {
    let mut a = found("Ana", &Person::new(1));
    let invite = |uses| Intent::IssueInvite {
        key: InviteKey::from_bytes([3; 32]),
        uses,
        expires_ms: i64::MAX,
        role: Role::Member,
        trust: TrustLevel::Known,
    };
    a.act(invite(1));
    assert!(a.try_act(invite(5)).is_err());
    let channel = |name: &str| Intent::CreateChannel {
        channel: ChannelId::from_bytes([3; 16]),
        name: name.into(),
        closed: false,
        guests: false,
    };
    a.act(channel("one"));
    assert!(a.try_act(channel("other")).is_err());
}

#[test]
fn the_fullest_ticket_reads_back() {
    let contact = Contact {
        device: exo_model::DeviceId::from_bytes([9; 32]),
        addresses: vec!["[2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535".into(); 16],
    };
    let secret = SecretKey::from_bytes(&[9; 32]);
    let ticket = Ticket::new(samples::COMMUNITY, "Garden".into(), &secret, 1, vec![contact; 8]);
    let text = ticket.to_string();
    assert_eq!(text.parse::<Ticket>().map(|read| read.to_string()), Ok(text));
}

#[test]
fn one_value_has_one_form() {
    let run = Run {
        feed: feed(Stream::Charter),
        first_seq: 1,
        changes: vec![change(1, b"x")],
        signature: Signature::from_bytes([1; 64]),
    };
    let bytes = encode(&run);
    assert_eq!(decode::<Run>(&bytes, 1 << 20), Ok(run));
    let indefinite = [&[0x9f], &bytes[1..], &[0xff]].concat();
    let one_field_more = [&[0x85], &bytes[1..], &[0xf6]].concat();
    let long_head = [&[0x98, 4], &bytes[1..]].concat();
    let trailing = [&bytes[..], &[0xf6]].concat();
    for form in [indefinite, one_field_more, long_head, trailing] {
        assert_eq!(decode::<Run>(&form, 1 << 20), Err(DecodeError::NotCanonical));
    }
    assert!(matches!(decode::<Run>(&bytes, bytes.len() - 1), Err(DecodeError::TooLong { .. })));
}

/// A place at the end of all numbers is a place that no feed has.
#[test]
fn the_gate_counts_to_the_last_number() {
    for seq in [u64::MAX - 1, u64::MAX] {
        let known = FeedPosition { seq, ..FeedPosition::START };
        let signature = Signature::from_bytes([1; 64]);
        let changes = vec![change(NOW, b"x")];
        let run = Run { feed: feed(Stream::Charter), first_seq: u64::MAX, changes, signature };
        assert!(gate::admit(run, &known).is_err());
    }
}

/// A proof may name any number as its place; none makes the check overflow.
#[test]
fn a03_proofs_at_impossible_places_are_none() {
    let feed = feed(Stream::Charter);
    let branch = |seq, n: u8, changes: usize| Branch {
        at: FeedPosition { seq, hash: ChangeHash::from_bytes([n; 32]) },
        then: vec![Change { time_ms: 1, payload: vec![n] }; changes],
        signature: Signature::from_bytes([n; 64]),
    };
    for seq in [0, SEGMENT_CHANGES_MAX + 1, u64::MAX - 1, u64::MAX] {
        for changes in [0, 1, 64] {
            let proof = EquivocationProof::Fork {
                feed,
                left: branch(seq, 1, changes),
                right: branch(seq, 2, changes),
            };
            assert_eq!(proof.verify(), Err(NoProof::TooLong), "at {seq} with {changes}");
        }
    }
}
