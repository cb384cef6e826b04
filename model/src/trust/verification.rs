//! How sure I can be that a key belongs to the person I think of.
//!
//! Derived from vouches, as seen from me: nobody can raise their own level or
//! a friend's in my eyes by vouching among themselves, because only vouches
//! of people whom I verified myself are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::evidence::{Vouch, VouchKind};
use crate::id::PersonId;

/// How a person has been verified, as seen from me; the later, the surer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verification {
    /// Somebody let them in; that is all I know.
    Invited,
    /// So many people whom I verified myself vouch for them (I count too,
    /// where I vouch without having compared anything).
    VouchedBy(u32),
    /// I compared safety words with them.
    SafetyWords,
    /// I met them and scanned their code.
    MetInPerson,
}

impl Verification {
    /// Everybody who is more than [`Verification::Invited`], as seen from `me`.
    /// Vouches do not age here: who was met was met. A caller leaves out what
    /// was withdrawn.
    pub fn all(me: PersonId, vouches: &[Vouch]) -> BTreeMap<PersonId, Self> {
        let mut mine: BTreeMap<PersonId, VouchKind> = BTreeMap::new();
        for vouch in vouches.iter().filter(|vouch| vouch.from == me && vouch.to != me) {
            let kind = mine.entry(vouch.to).or_insert(vouch.kind);
            *kind = vouch.kind.max(*kind);
        }
        // A set of pairs, so that one person's vouch counts once.
        let counted: BTreeSet<(PersonId, PersonId)> = vouches
            .iter()
            .filter(|vouch| vouch.to != me && vouch.from != vouch.to)
            .filter(|vouch| {
                vouch.from == me || mine.get(&vouch.from).is_some_and(|kind| *kind > VouchKind::Plain)
            })
            .map(|vouch| (vouch.to, vouch.from))
            .collect();
        let mut found = BTreeMap::new();
        for (person, _) in counted {
            let entry = found.entry(person).or_insert(Self::VouchedBy(0));
            *entry = match (*entry, mine.get(&person)) {
                (_, Some(VouchKind::MetInPerson)) => Self::MetInPerson,
                (_, Some(VouchKind::SafetyWords)) => Self::SafetyWords,
                (Self::VouchedBy(count), _) => Self::VouchedBy(count.saturating_add(1)),
                (other, _) => other,
            };
        }
        found
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invited => f.write_str("invited"),
            Self::VouchedBy(count) => write!(f, "vouched for by {count}"),
            Self::SafetyWords => f.write_str("safety words compared"),
            Self::MetInPerson => f.write_str("met in person"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(number: u8) -> PersonId {
        PersonId::from_bytes([number; 32])
    }

    fn vouch(from: u8, to: u8, kind: VouchKind) -> Vouch {
        Vouch { from: person(from), to: person(to), kind, time_ms: 0 }
    }

    #[test]
    fn my_own_check_stands_above_what_others_say() {
        use VouchKind::{MetInPerson, Plain, SafetyWords};
        let vouches = [
            vouch(0, 1, SafetyWords),
            vouch(0, 1, MetInPerson),
            vouch(0, 2, SafetyWords),
            vouch(0, 3, Plain),
            vouch(1, 3, Plain),
            vouch(1, 4, MetInPerson),
            vouch(2, 4, Plain),
            vouch(2, 4, MetInPerson),
            vouch(3, 5, MetInPerson),
            vouch(4, 5, MetInPerson),
            vouch(1, 0, MetInPerson),
            vouch(0, 0, MetInPerson),
            vouch(6, 6, MetInPerson),
        ];
        let all = Verification::all(person(0), &vouches);
        let expected = [
            (person(1), Verification::MetInPerson),
            (person(2), Verification::SafetyWords),
            (person(3), Verification::VouchedBy(2)),
            (person(4), Verification::VouchedBy(2)),
        ];
        assert_eq!(all, BTreeMap::from(expected), "5 is vouched for only by people whom I did not verify");
        assert!(Verification::VouchedBy(u32::MAX) < Verification::SafetyWords);
        assert!(Verification::Invited < Verification::VouchedBy(1));
    }
}
