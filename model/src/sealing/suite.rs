//! HPKE (RFC 9180), base mode, with one fixed suite: DHKEM(X25519,
//! HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.

use std::convert::Infallible;

use ::hpke::aead::ChaCha20Poly1305;
use ::hpke::kdf::HkdfSha256;
use ::hpke::kem::X25519HkdfSha256;
use ::hpke::rand_core::{TryCryptoRng, TryRng};
use ::hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use crate::id::SealingPublicKey;
use crate::port::Entropy;

pub(super) type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Both halves of the key with these bytes.
pub(super) fn key_pair(bytes: &[u8; 32]) -> (PrivateKey, SealingPublicKey) {
    let secret = PrivateKey::from_bytes(bytes)
        .unwrap_or_else(|error| unreachable!("every 32 bytes are an X25519 secret: {error}"));
    let public = X25519HkdfSha256::sk_to_pk(&secret).to_bytes().into();
    (secret, SealingPublicKey::from_bytes(public))
}

/// Seals `plaintext` to `recipient`: the encapsulated key and the ciphertext.
/// `None` where `recipient` is a point that no secret key belongs to.
pub(super) fn seal(
    recipient: &SealingPublicKey,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    entropy: &dyn Entropy,
) -> Option<([u8; 32], Vec<u8>)> {
    let recipient = PublicKey::from_bytes(recipient.as_bytes()).ok()?;
    let (enc, ciphertext) =
        ::hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &recipient,
            info,
            plaintext,
            aad,
            &mut Source(entropy),
        )
        .ok()?;
    Some((enc.to_bytes().into(), ciphertext))
}

/// What [`seal`] sealed with the same `info` and `aad`, else `None`.
pub(super) fn open(
    secret: &PrivateKey,
    enc: &[u8; 32],
    info: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let enc = EncappedKey::from_bytes(enc).ok()?;
    ::hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        secret,
        &enc,
        info,
        ciphertext,
        aad,
    )
    .ok()
    .map(Zeroizing::new)
}

/// Our port as the trait that `hpke` draws from.
struct Source<'a>(&'a dyn Entropy);

impl TryRng for Source<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Source<'_> {}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    struct Fixed([u8; 32]);

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0[..bytes.len()]);
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
    }

    fn hex32(text: &str) -> [u8; 32] {
        hex(text).try_into().expect("32 bytes")
    }

    /// RFC 9180, appendix A.2.1, sequence number 0.
    #[test]
    fn rfc_9180_base_mode_vector() {
        let (secret, public) =
            key_pair(&hex32("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"));
        assert_eq!(public.to_hex(), "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let (info, aad) = (b"Ode on a Grecian Urn", b"Count-0");
        let plaintext = b"Beauty is truth, truth beauty";
        let ephemeral = Fixed(hex32("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b"));

        let (enc, ciphertext) = seal(&public, info, aad, plaintext, &ephemeral).expect("a usable key");
        assert_eq!(HEXLOWER.encode(&enc), "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        assert_eq!(
            HEXLOWER.encode(&ciphertext),
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
        );
        let opened = open(&secret, &enc, info, aad, &ciphertext).expect("as sealed");
        assert_eq!(opened.as_slice(), plaintext);
    }

    #[test]
    fn points_of_small_order_are_no_recipients() {
        // RFC 7748, section 6.1: these make the shared secret zero.
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            let point = SealingPublicKey::from_bytes(point);
            assert!(seal(&point, b"", b"", b"secret", &Fixed([7; 32])).is_none());
        }
        let (secret, _) = key_pair(&[5; 32]);
        assert!(open(&secret, &[0; 32], b"", b"", &[0; 48]).is_none());
    }
}
