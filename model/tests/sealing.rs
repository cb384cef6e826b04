//! Sealing: golden values computed by another implementation (Python's
//! `cryptography`, `PyNaCl` and `blake3`), and attacks. What is changed in any
//! byte does not open; E5, a rotator who seals garbage, is noticed.

#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::HEXLOWER;
use exo_model::CommunityId;
use exo_model::codec::{DecodeError, decode, encode};
use exo_model::id::KeyId;
use exo_model::port::Entropy;
use exo_model::sealing::{
    BlobCipher, BlobError, BlobLayout, Cipher, DIRECT_BYTES_MAX, DIRECT_RECIPIENTS_MAX, DamagedContent,
    EpochKey, OpenError, SEAL_OVERHEAD, SealContext, SealError, SealForError, SealedFor, SealedKey,
    SealingKey, SealingPublicKey, fresh_nonce, open, open_key, seal, seal_key,
};
use exo_model::signature::SecretKey;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Serializable as _};
use minicbor::bytes::ByteSlice;
use seeded::{Rng, mutate};

/// Seeded bytes, different at each call.
struct Seeded(AtomicU64);

impl Seeded {
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 32))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new().update(&count.to_le_bytes()).finalize_xof().fill(bytes);
    }
}

impl TryRng for &Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for &Seeded {}

fn ascending<const N: usize>(first: u8) -> [u8; N] {
    let mut bytes = [first; N];
    for (byte, offset) in bytes.iter_mut().zip(0..) {
        *byte += offset;
    }
    bytes
}

fn device() -> SealingKey {
    SealingKey::of_device(&SecretKey::from_bytes(&[5; 32]))
}

fn recipient(number: u8) -> SealingKey {
    SealingKey::from_bytes(&[number; 32])
}

fn epoch() -> EpochKey {
    EpochKey::from_bytes(&ascending(64))
}

const CONTEXT: SealContext<'_> =
    SealContext { community: CommunityId::from_bytes([3; 32]), audience: b"channel 8" };

/// Every way to change one bit of every byte.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len()).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 8);
        changed
    })
}

#[test]
fn golden_keys() {
    assert_eq!(
        device().public().to_hex(),
        "d32131944fce94484f559ff80996f6f492e376dd9f589ffca2c3d4f4f8d6346e"
    );
    assert_eq!(epoch().id().to_hex(), "19d508f8299f02b7f6d50865520eecd2");
}

#[test]
fn golden_content() {
    let sealed = seal(&epoch(), b"aad", &ascending(100), b"hello, Ben");
    assert_eq!(
        HEXLOWER.encode(&sealed),
        "6465666768696a6b6c6d6e6f707172737475767778797a7b611b0b44c3dc2895b4996a733d3f845047d3292a43f5b07e8416"
    );
    assert_eq!(open(&epoch(), b"aad", &sealed).as_deref(), Ok(&b"hello, Ben"[..]));
}

#[test]
fn golden_sealed_key() {
    let bytes = HEXLOWER
        .decode(
            b"835820d32131944fce94484f559ff80996f6f492e376dd9f589ffca2c3d4f4f8d6346e5820e62492d40ab10d0f43fdaa\
              89e1f2107e1e2d059d23a1f00c487a7e62b5c6e67d5830ff03e347ca13c0e9acba3b086089af99e1121d9bac7eeb48eb04\
              ff9ca250d347a60e394d1918c8b8bf682df6607eeb8e",
        )
        .expect("hexadecimal");
    let sealed: SealedKey = decode(&bytes, 128).expect("canonical");
    let opened = open_key(&sealed, &epoch().id(), &device(), &CONTEXT).expect("sealed by another program");
    assert_eq!(opened.as_bytes(), epoch().as_bytes());

    struct Constant;
    impl Entropy for Constant {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0x77);
        }
    }
    let again = seal_key(&epoch(), &device().public(), &CONTEXT, &Constant).expect("a usable key");
    assert_eq!(encode(&again), bytes);
}

#[test]
fn golden_blob() {
    let plain: Vec<u8> = (0..65_546_u32).map(|i| u8::try_from(i * 7 % 251).expect("below 251")).collect();
    let layout = BlobLayout::of_plain(65_546).expect("in bounds");
    let cipher = BlobCipher::new(&epoch(), &[9; 32], layout);
    let mut sealed = Vec::new();
    cipher.seal_chunk(0, &plain[..65_536], &mut sealed).expect("a whole chunk");
    cipher.seal_chunk(1, &plain[65_536..], &mut sealed).expect("the rest");
    assert_eq!(
        blake3::hash(&sealed).to_hex().as_str(),
        "33c5d0d70842b7ac3915a3d1b054ca235e12f9e75c8f8750f8cf8e6cc925b53f"
    );
}

#[test]
fn every_flipped_byte_of_a_content_is_noticed() {
    let key = epoch();
    let sealed = seal(&key, b"aad", &[1; 24], b"Meet at noon.");
    assert_eq!(sealed.len(), 13 + SEAL_OVERHEAD);
    for changed in flipped(&sealed) {
        assert_eq!(open(&key, b"aad", &changed), Err(DamagedContent));
    }
    for len in 0..sealed.len() {
        assert_eq!(open(&key, b"aad", &sealed[..len]), Err(DamagedContent));
    }
    assert_eq!(open(&key, b"aae", &sealed), Err(DamagedContent));
    assert_eq!(open(&EpochKey::from_bytes(&[0; 32]), b"aad", &sealed), Err(DamagedContent));
    assert_eq!(open(&key, b"", &seal(&key, b"", &[1; 24], b"")).as_deref(), Ok(&b""[..]));
}

#[test]
fn one_cipher_serves_many_contents() {
    let (cipher, entropy, mut rng) = (Cipher::new(&epoch()), Seeded::new(1), Rng(5));
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let len = rng.below(300);
        let (aad, plaintext) = (rng.bytes(9), rng.bytes(len));
        sealed.clear();
        opened.clear();
        cipher.seal_into(&aad, &fresh_nonce(&entropy), &plaintext, &mut sealed);
        cipher.open_into(&aad, &sealed, &mut opened).expect("as sealed");
        assert_eq!(opened, plaintext);
        assert_eq!(open(&epoch(), &aad, &sealed), Ok(plaintext));
    }
}

#[test]
fn a_sealed_key_opens_for_its_recipient_in_its_place_only() {
    let entropy = Seeded::new(2);
    let sealed = seal_key(&epoch(), &device().public(), &CONTEXT, &entropy).expect("a usable key");
    let id = epoch().id();
    assert!(open_key(&sealed, &id, &device(), &CONTEXT).is_ok());
    let refusal = |key: &SealingKey, id: &KeyId, context: &SealContext<'_>| {
        open_key(&sealed, id, key, context).expect_err("not the same")
    };
    assert_eq!(refusal(&recipient(6), &id, &CONTEXT), OpenError::NotAddressed);
    assert_eq!(refusal(&device(), &KeyId::from_bytes([0; 16]), &CONTEXT), OpenError::Damaged);
    let elsewhere = SealContext { audience: b"channel 9", ..CONTEXT };
    assert_eq!(refusal(&device(), &id, &elsewhere), OpenError::Damaged);
    let abroad = SealContext { community: CommunityId::from_bytes([4; 32]), ..CONTEXT };
    assert_eq!(refusal(&device(), &id, &abroad), OpenError::Damaged);
    // Handed to someone else under their name.
    let renamed = SealedKey { recipient: recipient(6).public(), ..sealed };
    let error = open_key(&renamed, &id, &recipient(6), &CONTEXT).expect_err("not for them");
    assert_eq!(error, OpenError::Damaged);
}

#[test]
fn every_flipped_byte_of_a_sealed_key_is_noticed() {
    let entropy = Seeded::new(3);
    let sealed = seal_key(&epoch(), &device().public(), &CONTEXT, &entropy).expect("a usable key");
    let mut decoded = 0;
    for changed in flipped(&encode(&sealed)) {
        let Ok(changed) = decode::<SealedKey>(&changed, 128) else { continue };
        decoded += 1;
        assert!(open_key(&changed, &epoch().id(), &device(), &CONTEXT).is_err());
    }
    // Those whose heads are left alone are read.
    assert!(decoded >= 32 + 32 + 48, "{decoded}");
}

/// E5: a rotator announces one key and seals another to a single member.
#[test]
fn e5_a_seal_that_holds_another_key_is_noticed() {
    let (announced, other) = (epoch().id(), [0x0b; 32]);
    let info = encode(&("exo/seal/1", CONTEXT.community, <&ByteSlice>::from(CONTEXT.audience)));
    let aad = [announced.as_bytes().as_slice(), device().public().as_bytes()].concat();
    let forge = |plaintext: &[u8]| {
        type Kem = hpke::kem::X25519HkdfSha256;
        let to = <Kem as hpke::Kem>::PublicKey::from_bytes(device().public().as_bytes()).expect("a key");
        let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<
            hpke::aead::ChaCha20Poly1305,
            hpke::kdf::HkdfSha256,
            Kem,
        >(
            &hpke::OpModeS::Base, &to, &info, plaintext, &aad, &mut &Seeded::new(4)
        )
        .expect("sealed");
        let ciphertext = ciphertext.try_into().expect("32 bytes and a tag");
        SealedKey { recipient: device().public(), enc: enc.to_bytes().into(), ciphertext }
    };
    assert!(open_key(&forge(epoch().as_bytes()), &announced, &device(), &CONTEXT).is_ok());
    let error = open_key(&forge(&other), &announced, &device(), &CONTEXT).expect_err("another key");
    assert_eq!(error, OpenError::WrongKey);
}

/// E1: all old keys and all later traffic open nothing new.
#[test]
fn e1_a_removed_member_opens_nothing_of_the_next_epoch() {
    let (entropy, removed, kept) = (Seeded::new(5), recipient(1), recipient(2));
    let (old, new) = (EpochKey::generate(&entropy), EpochKey::generate(&entropy));
    assert_ne!(old.id(), new.id());
    let seal_of_new = seal_key(&new, &kept.public(), &CONTEXT, &entropy).expect("a usable key");
    let content = seal(&new, b"", &fresh_nonce(&entropy), b"after the removal");
    assert!(open(&old, b"", &content).is_err());
    for recipient in [kept.public(), removed.public()] {
        let tried = SealedKey { recipient, ..seal_of_new.clone() };
        assert!(open_key(&tried, &new.id(), &removed, &CONTEXT).is_err());
    }
    let opened = open_key(&seal_of_new, &new.id(), &kept, &CONTEXT).expect("entitled");
    assert_eq!(open(&opened, b"", &content).as_deref(), Ok(&b"after the removal"[..]));
}

#[test]
fn nothing_is_sealed_to_a_point_without_a_secret() {
    let nobody = SealingPublicKey::from_bytes([0; 32]);
    let entropy = Seeded::new(6);
    assert_eq!(seal_key(&epoch(), &nobody, &CONTEXT, &entropy), Err(SealError(nobody)));
    let recipients = BTreeSet::from([nobody, device().public()]);
    let error = SealedFor::seal(b"report", &recipients, &CONTEXT, &entropy).expect_err("nobody");
    assert_eq!(error, SealForError::Recipient(SealError(nobody)));
}

fn people(count: u8) -> BTreeSet<SealingPublicKey> {
    (0..count).map(|number| recipient(number).public()).collect()
}

#[test]
fn a_direct_content_opens_for_each_recipient_and_nobody_else() {
    let sealed = SealedFor::seal(b"report", &people(3), &CONTEXT, &Seeded::new(7)).expect("in bounds");
    let read = SealedFor::decode(&encode(&sealed)).expect("canonical");
    assert_eq!(read, sealed);
    assert_eq!(read.recipients().collect::<BTreeSet<_>>(), people(3));
    for number in 0..3 {
        assert_eq!(read.open(&recipient(number), &CONTEXT).as_deref(), Ok(&b"report"[..]));
    }
    assert_eq!(read.open(&recipient(9), &CONTEXT), Err(OpenError::NotAddressed));
    let elsewhere = SealContext { audience: b"", ..CONTEXT };
    assert_eq!(read.open(&recipient(0), &elsewhere), Err(OpenError::Damaged));
}

#[test]
fn every_flipped_byte_of_a_direct_content_is_noticed() {
    let sealed = SealedFor::seal(b"report", &people(1), &CONTEXT, &Seeded::new(8)).expect("in bounds");
    for changed in flipped(&encode(&sealed)) {
        let opened = SealedFor::decode(&changed).map(|changed| changed.open(&recipient(0), &CONTEXT));
        assert!(!matches!(opened, Ok(Ok(_))));
    }
}

#[test]
fn mutated_direct_contents_never_panic_nor_open_changed() {
    let sealed = SealedFor::seal(b"report", &people(2), &CONTEXT, &Seeded::new(9)).expect("in bounds");
    let (bytes, mut rng) = (encode(&sealed), Rng(10));
    let mut opened_count = 0;
    for _ in 0..20_000 {
        let Ok(mutant) = SealedFor::decode(&mutate(&mut rng, &bytes)) else { continue };
        if let Ok(text) = mutant.open(&recipient(0), &CONTEXT) {
            assert_eq!(text, b"report");
            opened_count += 1;
        }
    }
    // Those in the other recipient's seal do not concern this one.
    assert!(opened_count > 0);
}

#[test]
fn direct_contents_keep_their_limits() {
    let entropy = Seeded::new(11);
    let most = u8::try_from(DIRECT_RECIPIENTS_MAX).expect("small");
    let longest = vec![7; DIRECT_BYTES_MAX];
    let sealed = SealedFor::seal(&longest, &people(most), &CONTEXT, &entropy).expect("at the limit");
    let bytes = encode(&sealed);
    assert!(bytes.len() < exo_model::envelope::ENVELOPE_BYTES_MAX - 1_024, "{}", bytes.len());
    assert_eq!(SealedFor::decode(&bytes).as_ref(), Ok(&sealed));
    let refusal = |text: &[u8], count| {
        SealedFor::seal(text, &people(count), &CONTEXT, &entropy).expect_err("over the limit")
    };
    assert_eq!(refusal(b"", 0), SealForError::Recipients { count: 0 });
    assert_eq!(refusal(b"", most + 1), SealForError::Recipients { count: DIRECT_RECIPIENTS_MAX + 1 });
    let longer = vec![7; DIRECT_BYTES_MAX + 1];
    assert_eq!(refusal(&longer, 1), SealForError::TooLong { len: DIRECT_BYTES_MAX + 1 });
}

#[test]
fn direct_contents_with_doubled_or_unordered_recipients_are_refused() {
    type Parts = (KeyId, minicbor::bytes::ByteVec, Vec<SealedKey>);
    let sealed = SealedFor::seal(b"report", &people(3), &CONTEXT, &Seeded::new(12)).expect("in bounds");
    let (key, ciphertext, seals): Parts = decode(&encode(&sealed), 1 << 20).expect("three fields");
    let with = |seals: Vec<SealedKey>| SealedFor::decode(&encode(&(key, ciphertext.clone(), seals)));
    assert_eq!(with(seals.clone()), Ok(sealed));
    let (mut unordered, mut doubled) = (seals.clone(), seals.clone());
    unordered.swap(0, 1);
    doubled[1] = doubled[0].clone();
    let too_many = vec![seals[0].clone(); DIRECT_RECIPIENTS_MAX + 1];
    for seals in [unordered, doubled, too_many, Vec::new()] {
        assert_eq!(with(seals), Err(DecodeError::NotCanonical));
    }
}

/// A sealed blob of three chunks: its cipher, its text, its sealed chunks.
fn blob() -> (BlobCipher, Vec<u8>, Vec<Vec<u8>>) {
    let plain = Rng(13).bytes(140_000);
    let layout = BlobLayout::of_plain(140_000).expect("in bounds");
    let cipher = BlobCipher::new(&epoch(), &BlobCipher::fresh_salt(&Seeded::new(14)), layout);
    let sealed = plain.chunks(65_536).zip(0..).map(|(chunk, index)| {
        let mut out = Vec::new();
        cipher.seal_chunk(index, chunk, &mut out).expect("as laid out");
        out
    });
    let sealed = sealed.collect();
    (cipher, plain, sealed)
}

#[test]
fn any_chunk_of_a_blob_opens_alone() {
    let (cipher, plain, sealed) = blob();
    assert_eq!(sealed.len(), 3);
    let layout = BlobLayout::of_sealed(sealed.iter().map(|chunk| chunk.len() as u64).sum());
    assert_eq!(layout, Ok(cipher.layout()));
    for index in [2, 0, 1_usize] {
        let mut out = Vec::new();
        cipher.open_chunk(index as u64, &sealed[index], &mut out).expect("as sealed");
        assert_eq!(out, &plain[index * 65_536..plain.len().min((index + 1) * 65_536)]);
    }
}

#[test]
fn swapped_repeated_cut_and_foreign_chunks_do_not_open() {
    let (cipher, plain, sealed) = blob();
    let mut out = Vec::new();
    assert_eq!(cipher.open_chunk(0, &sealed[1], &mut out), Err(BlobError::Damaged { index: 0 }));
    assert_eq!(cipher.open_chunk(1, &sealed[0], &mut out), Err(BlobError::Damaged { index: 1 }));
    assert_eq!(cipher.open_chunk(0, &sealed[2], &mut out), Err(BlobError::Chunk { index: 0 }));
    assert_eq!(cipher.open_chunk(3, &sealed[2], &mut out), Err(BlobError::Chunk { index: 3 }));
    assert_eq!(cipher.open_chunk(u64::MAX, &[], &mut out), Err(BlobError::Chunk { index: u64::MAX }));
    assert_eq!(cipher.seal_chunk(1, &plain[..9], &mut out), Err(BlobError::Chunk { index: 1 }));

    // Cut after the second chunk, which then claims to be the last; and a
    // blob of two chunks that is told to go on.
    let salt = BlobCipher::fresh_salt(&Seeded::new(14));
    let reader = |len| BlobCipher::new(&epoch(), &salt, BlobLayout::of_plain(len).expect("in bounds"));
    assert_eq!(reader(131_072).open_chunk(1, &sealed[1], &mut out), Err(BlobError::Damaged { index: 1 }));
    let mut last = Vec::new();
    reader(131_072).seal_chunk(1, &plain[..65_536], &mut last).expect("a whole chunk");
    assert_eq!(reader(140_000).open_chunk(1, &last, &mut out), Err(BlobError::Damaged { index: 1 }));

    let foreign = BlobCipher::new(&epoch(), &[0; 32], cipher.layout());
    assert_eq!(foreign.open_chunk(0, &sealed[0], &mut out), Err(BlobError::Damaged { index: 0 }));
    let later = BlobCipher::new(&EpochKey::from_bytes(&[1; 32]), &salt, cipher.layout());
    assert_eq!(later.open_chunk(0, &sealed[0], &mut out), Err(BlobError::Damaged { index: 0 }));
    assert!(out.is_empty(), "what does not open leaves nothing");
}

#[test]
fn every_flipped_byte_of_a_small_blob_is_noticed() {
    for len in [0, 100] {
        let cipher =
            BlobCipher::new(&epoch(), &[1; 32], BlobLayout::of_plain(len as u64).expect("in bounds"));
        let (plain, mut sealed, mut out) = (Rng(15).bytes(len), Vec::new(), Vec::new());
        cipher.seal_chunk(0, &plain, &mut sealed).expect("the only chunk");
        for changed in flipped(&sealed) {
            assert_eq!(cipher.open_chunk(0, &changed, &mut out), Err(BlobError::Damaged { index: 0 }));
        }
        cipher.open_chunk(0, &sealed, &mut out).expect("as sealed");
        assert_eq!(out, plain);
    }
}
