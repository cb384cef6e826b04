//! Contents under an epoch key: XChaCha20-Poly1305, nonce in front.

use std::fmt;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};

use super::keys::{EpochKey, derive};
use crate::port::Entropy;

/// Length of a nonce: long enough to be drawn at random for ever.
pub const NONCE_LEN: usize = 24;
/// Length of the tag behind the ciphertext.
pub const TAG_LEN: usize = 16;
/// What sealing adds to a content.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

const CONTENT_CONTEXT: &str = "exo-studio exo/content-key/1";

/// The content does not open with this key, here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content is damaged, or sealed with another key: fetch it again from another member")]
pub struct DamagedContent;

/// A nonce nobody used before: the author of every content draws one.
pub fn fresh_nonce(entropy: &dyn Entropy) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    nonce
}

/// Seals `plaintext`; `aad` is not stored and must be the same to open it.
/// For many contents of one key, keep a [`Cipher`].
pub fn seal(key: &EpochKey, aad: &[u8], nonce: &[u8; NONCE_LEN], plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(plaintext.len() + SEAL_OVERHEAD);
    Cipher::new(key).seal_into(aad, nonce, plaintext, &mut sealed);
    sealed
}

/// Opens what [`seal`] sealed.
///
/// # Errors
/// [`DamagedContent`] where a bit differs, in the content, `aad` or the key.
pub fn open(key: &EpochKey, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DamagedContent> {
    let mut plaintext = Vec::with_capacity(sealed.len().saturating_sub(SEAL_OVERHEAD));
    Cipher::new(key).open_into(aad, sealed, &mut plaintext)?;
    Ok(plaintext)
}

/// An epoch key made ready for contents; wiped when dropped.
#[derive(Clone)]
pub struct Cipher(XChaCha20Poly1305);

impl Cipher {
    /// Readies `key`.
    pub fn new(key: &EpochKey) -> Self {
        Self::with_key(&derive(CONTENT_CONTEXT, key.as_bytes()))
    }

    pub(super) fn with_key(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Appends nonce, ciphertext and tag to `out`. A nonce must never serve
    /// two contents: see [`fresh_nonce`].
    pub fn seal_into(&self, aad: &[u8], nonce: &[u8; NONCE_LEN], plaintext: &[u8], out: &mut Vec<u8>) {
        out.reserve(plaintext.len() + SEAL_OVERHEAD);
        out.extend_from_slice(nonce);
        self.seal_bare(aad, nonce, plaintext, out);
    }

    /// Appends the content to `out`, or nothing.
    ///
    /// # Errors
    /// [`DamagedContent`].
    pub fn open_into(&self, aad: &[u8], sealed: &[u8], out: &mut Vec<u8>) -> Result<(), DamagedContent> {
        let (nonce, body) = sealed.split_first_chunk().ok_or(DamagedContent)?;
        self.open_bare(aad, nonce, body, out)
    }

    /// Without the nonce in front, for nonces that follow from the place.
    pub(super) fn seal_bare(&self, aad: &[u8], nonce: &[u8; NONCE_LEN], plaintext: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = self
            .0
            .encrypt_inout_detached(&XNonce::from(*nonce), aad, InOutBuf::from(&mut out[start..]))
            .unwrap_or_else(|_| unreachable!("contents are far below the cipher's 256 GiB"));
        out.extend_from_slice(&tag);
    }

    pub(super) fn open_bare(
        &self,
        aad: &[u8],
        nonce: &[u8; NONCE_LEN],
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), DamagedContent> {
        let (ciphertext, tag) = body.split_last_chunk::<TAG_LEN>().ok_or(DamagedContent)?;
        let start = out.len();
        out.extend_from_slice(ciphertext);
        let opened = self.0.decrypt_inout_detached(
            &XNonce::from(*nonce),
            aad,
            InOutBuf::from(&mut out[start..]),
            &Tag::from(*tag),
        );
        if opened.is_err() {
            out.truncate(start);
            return Err(DamagedContent);
        }
        Ok(())
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(…)")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn range<const N: usize>(first: u8) -> [u8; N] {
        let mut next = first;
        [(); N].map(|()| {
            next += 1;
            next - 1
        })
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn xchacha20_poly1305_draft_vector() {
        let cipher = Cipher::with_key(&range(0x80));
        let aad = HEXLOWER.decode(b"50515253c0c1c2c3c4c5c6c7").expect("hexadecimal");
        let nonce = range(0x40);
        let text: &[u8] = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
            the future, sunscreen would be it.";
        let mut sealed = Vec::new();
        cipher.seal_into(&aad, &nonce, text, &mut sealed);
        let expected = concat!(
            "404142434445464748494a4b4c4d4e4f5051525354555657",
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb",
            "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452",
            "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9",
            "21f9664c97637da9768812f615c68b13b52e",
            "c0875924c1c7987947deafd8780acf49",
        );
        assert_eq!(HEXLOWER.encode(&sealed), expected);
        let mut opened = Vec::new();
        cipher.open_into(&aad, &sealed, &mut opened).expect("as sealed");
        assert_eq!(opened, text);
    }

    #[test]
    fn a_refused_content_leaves_nothing_behind() {
        let cipher = Cipher::with_key(&[1; 32]);
        let mut sealed = Vec::new();
        cipher.seal_into(b"here", &[2; NONCE_LEN], b"secret", &mut sealed);
        let mut out = b"before".to_vec();
        assert_eq!(cipher.open_into(b"there", &sealed, &mut out), Err(DamagedContent));
        assert_eq!(out, b"before");
        cipher.open_into(b"here", &sealed, &mut out).expect("as sealed");
        assert_eq!(out, b"beforesecret");
    }
}
