//! Vouchers: what a payer owes from one lock so far, signed.

use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::codec;
use crate::id::{ChangeHash, CommunityId, DeviceId};
use crate::port::Signer;
use crate::signature::{self, BadSignature, Signature};

/// A payer's signed promise: the total owed from one lock so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Voucher {
    /// The change that carries the lock.
    #[n(0)]
    pub lock: ChangeHash,
    /// Total for the job so far.
    #[n(1)]
    pub amount: Amount,
    /// The payer's signature.
    #[n(2)]
    pub signature: Signature,
}

impl Voucher {
    /// Signs a voucher as the payer.
    pub fn sign(
        payer: &dyn Signer,
        community: &CommunityId,
        lock: ChangeHash,
        payee: &DeviceId,
        amount: Amount,
    ) -> Self {
        let signature = payer.sign(&message(community, &lock, payee, amount));
        Self { lock, amount, signature }
    }

    /// Checks that `payer` signed this for `payee`.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        community: &CommunityId,
        payer: &DeviceId,
        payee: &DeviceId,
    ) -> Result<(), BadSignature> {
        let message = message(community, &self.lock, payee, self.amount);
        signature::verify(payer, &message, &self.signature)
    }
}

/// `("exo/voucher/1", community, lock, payee, amount)`.
fn message(community: &CommunityId, lock: &ChangeHash, payee: &DeviceId, amount: Amount) -> Vec<u8> {
    codec::encode(&("exo/voucher/1", *community, *lock, *payee, amount))
}
