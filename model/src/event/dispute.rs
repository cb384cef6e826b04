//! Steps of a dispute about a paid job, in the charter.

use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::id::{ChangeHash, PersonId};
use crate::sealing::SealedFor;

/// What a juror finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Finding {
    /// The settlement stands.
    #[n(0)]
    Dismiss,
    /// The payee gives this much back.
    #[n(1)]
    Refund(#[n(0)] Amount),
}

/// One step. Steps name the dispute by the change that opened it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DisputeEvent {
    /// The payer of a lock asks for credit back.
    #[n(0)]
    Opened {
        /// The change that carries the lock.
        #[n(0)]
        lock: ChangeHash,
        /// Who was paid.
        #[n(1)]
        payee: PersonId,
        /// How much is asked back.
        #[n(2)]
        claim: Amount,
        /// In a few words, for the log.
        #[n(3)]
        summary: String,
        /// BLAKE3 of the opener's half of the draw's seed.
        #[cbor(n(4), with = "minicbor::bytes")]
        commitment: [u8; 32],
    },
    /// The other half of the seed: by the payee or, where the payee stays
    /// silent, by an owner who is no party.
    #[n(1)]
    Seeded {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
        /// Random bytes.
        #[cbor(n(1), with = "minicbor::bytes")]
        half: [u8; 32],
    },
    /// The opener shows the committed half: the jurors are drawn.
    #[n(2)]
    Drawn {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
        /// The half that was committed to.
        #[cbor(n(1), with = "minicbor::bytes")]
        half: [u8; 32],
    },
    /// A party shows the jurors something.
    #[n(3)]
    EvidenceAdded {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
        /// For the jurors' devices only.
        #[n(1)]
        evidence: SealedFor,
    },
    /// A drawn juror does not judge; the next in the draw does.
    #[n(4)]
    JurorDeclined {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
    },
    /// A juror's finding.
    #[n(5)]
    Voted {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
        /// The round, from 0; an appeal opens the next.
        #[n(1)]
        round: u8,
        /// What was found.
        #[n(2)]
        finding: Finding,
    },
    /// An owner who is no party ends a round that waits for someone.
    #[n(6)]
    RoundClosed {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
        /// The round.
        #[n(1)]
        round: u8,
    },
    /// A party asks for a second round before other jurors.
    #[n(7)]
    Appealed {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
    },
    /// The opener lets it rest.
    #[n(8)]
    Withdrawn {
        /// Which dispute.
        #[n(0)]
        dispute: ChangeHash,
    },
}
