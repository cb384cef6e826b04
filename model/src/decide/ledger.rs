//! Intents about credits.

use std::sync::Arc;

use super::{Intent, Refusal};
use crate::amount::Amount;
use crate::community::Community;
use crate::event::ledger::Purpose;
use crate::event::{Event, LedgerEvent};
use crate::feed::Stream;
use crate::id::ChangeHash;

/// Posts what the ledger finds to be countable, as soon as something is.
pub(super) fn decide(community: &Community, intent: Intent) -> Result<(Stream, Event), Refusal> {
    let me = community.device();
    let heads: Arc<[ChangeHash]> = community.heads().into();
    let ledger = &community.state().ledger;
    let event = match intent {
        Intent::Lock { job, payee, max } => LedgerEvent::Locked { payee, purpose: Purpose::Job(job), max },
        Intent::Order { payee, purpose, max } => {
            // Orders that cross the withdrawal count, and are declined; ours need not.
            if let Purpose::Order { offer, .. } | Purpose::Booking { offer, .. } = &purpose
                && ledger.offers().get(offer).is_some_and(|offer| offer.withdrawn)
            {
                return Err(Refusal::OfferWithdrawn);
            }
            LedgerEvent::Locked { payee, purpose, max }
        }
        Intent::Settle(voucher) => {
            LedgerEvent::Settled { lock: voucher.lock, amount: voucher.amount, voucher: voucher.signature }
        }
        Intent::Close { lock, voucher } => LedgerEvent::Closed {
            lock,
            amount: voucher.map_or(Amount::ZERO, |voucher| voucher.amount),
            voucher: voucher.map(|voucher| voucher.signature),
        },
        Intent::Count => {
            let events = ledger.countable(&me, &heads, community.charter());
            if events.is_empty() {
                return Err(Refusal::NothingToCount);
            }
            LedgerEvent::Counted { events }
        }
        Intent::Transfer { to, amount, note } => LedgerEvent::Transferred { to, amount, note },
        Intent::Grant { allotment, to, amount, reason, note } => {
            LedgerEvent::Granted { allotment, to, amount, reason, note }
        }
        Intent::PostOffer { kind, title, price } => LedgerEvent::OfferPosted { kind, title, price },
        Intent::WithdrawOffer(offer) => LedgerEvent::OfferWithdrawn { offer },
        Intent::AcceptOrder(lock) => LedgerEvent::OrderAccepted { lock },
        Intent::PostBounty { title, amount } => LedgerEvent::BountyPosted { title, amount },
        Intent::AwardBounty { bounty, to } => LedgerEvent::BountyAwarded { bounty, to },
        Intent::WithdrawBounty(bounty) => LedgerEvent::BountyWithdrawn { bounty },
        _ => return Err(Refusal::NotEntitled),
    };
    ledger.check(&me, &heads, &event, community.charter())?;
    Ok((Stream::Ledger, event.into()))
}
