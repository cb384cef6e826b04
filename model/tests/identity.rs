//! Persons and their devices: phrases against BIP-39's own vectors, golden
//! values computed by another implementation (Python's `cryptography`,
//! `mnemonic` and `blake3`), and certificates with every field forged.

use data_encoding::HEXLOWER;
use exo_model::certificate::{CertificateError, DeviceCertificate, DeviceClaims, Enroller, PhraseRevocation};
use exo_model::codec::{decode, encode};
use exo_model::id::{PersonId, SealingPublicKey};
use exo_model::phrase::{PHRASE_BYTES_MAX, PHRASE_WORDS, PhraseError, RecoveryPhrase};
use exo_model::port::Signer as _;
use exo_model::safety_words::{SafetyCode, safety_words};
use exo_model::sealing::SealingKey;
use exo_model::signature::{SecretKey, Signature};
use exo_model::{CommunityId, DeviceId};

/// BIP-39's English test vectors of 24 words (github.com/trezor/python-mnemonic,
/// `vectors.json`): entropy and words.
const BIP_39: [(&str, &str); 8] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
         abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
    ),
    (
        "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
        "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal \
         winner thank year wave sausage worth title",
    ),
    (
        "8080808080808080808080808080808080808080808080808080808080808080",
        "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic \
         avoid letter advice cage absurd amount doctor acoustic bless",
    ),
    (
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
    ),
    (
        "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
        "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis \
         maple dilemma loan word shrug inflict delay length",
    ),
    (
        "9f6a2878b2520799a44ef18bc7df394e7061a224d2c33cd015b157d746869863",
        "panda eyebrow bullet gorilla call smoke muffin taste mesh discover soft ostrich alcohol speed nation flash \
         devote level hobby quick inner drive ghost inside",
    ),
    (
        "066dca1a2bb7e8a1db2832148ce9933eea0f3ac9548d793112d9a95c9407efad",
        "all hour make first leader extend hole alien behind guard gospel lava path output census museum junior \
         mass reopen famous sing advance salt reform",
    ),
    (
        "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
        "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol \
         group space point ten exist slush involve unfold",
    ),
];

fn phrase() -> RecoveryPhrase {
    let mut bytes = [0; 32];
    for (byte, value) in bytes.iter_mut().zip(0..) {
        *byte = value;
    }
    RecoveryPhrase::from_entropy(&bytes)
}

#[test]
fn bip_39_vectors() {
    for (entropy, words) in BIP_39 {
        let entropy = HEXLOWER.decode(entropy.as_bytes()).expect("hexadecimal");
        let phrase = RecoveryPhrase::from_entropy(&entropy.try_into().expect("32 bytes"));
        assert_eq!(phrase.words().join(" "), words);
        let read: RecoveryPhrase = words.parse().expect("a phrase");
        assert_eq!(read.person(), phrase.person());
    }
}

#[test]
fn golden_person() {
    let phrase = phrase();
    assert_eq!(
        phrase.words().join(" "),
        "abandon amount liar amount expire adjust cage candy arch gather drum bullet absurd math era live bid \
         rhythm alien crouch range attend journey unaware"
    );
    assert_eq!(phrase.person().to_hex(), "241f66b89b6033df8a0e61a44350f67c31aa5b8aa914f304d0d76a6ee7334d3b");
    assert_eq!(
        phrase.recovery_key().public().to_hex(),
        "170606f21c72c4214d350f5c84ed70a67ebd1d2da53930b71efbe34076554c35"
    );
}

#[test]
fn phrases_are_read_as_people_type_them() {
    let words = phrase().words();
    let numbered: String =
        words.iter().zip(1..).map(|(word, number)| format!("{number}. {word},\r\n")).collect();
    let short: Vec<&str> = words.iter().map(|word| word.get(..4).unwrap_or(word)).collect();
    for text in [words.join(" ").to_uppercase(), numbered, short.join("\t"), words.join("-")] {
        let read: RecoveryPhrase = text.parse().expect("a phrase");
        assert_eq!(read.person(), phrase().person(), "{text}");
    }
}

#[test]
fn a_wrong_phrase_is_refused_with_the_place() {
    let error = |text: &str| text.parse::<RecoveryPhrase>().expect_err("no phrase");
    let with = |at: usize, word: &'static str| {
        let mut words = phrase().words();
        words[at] = word;
        error(&words.join(" "))
    };
    assert_eq!(with(6, "cagge"), PhraseError::UnknownWord { number: 7 });
    assert_eq!(with(23, "una"), PhraseError::UnknownWord { number: 24 });
    assert_eq!(with(0, "ábandon"), PhraseError::UnknownWord { number: 1 });
    assert_eq!(with(1, "zoo"), PhraseError::Checksum);
    let mut swapped = phrase().words();
    swapped.swap(1, 2);
    assert_eq!(error(&swapped.join(" ")), PhraseError::Checksum);
    assert_eq!(error(""), PhraseError::WordCount { count: 0 });
    assert_eq!(error(&phrase().words()[1..].join(" ")), PhraseError::WordCount { count: 23 });
    assert_eq!(error(&["zoo"; 200].join(" ")), PhraseError::WordCount { count: 200 });
    assert_eq!(error(&"x".repeat(PHRASE_BYTES_MAX + 1)), PhraseError::TooLong);
    // Errors end up in logs: no word of the phrase is in them.
    for shown in [with(6, "cagge").to_string(), format!("{:?}", with(6, "cagge"))] {
        assert!(!shown.contains("cagge"), "{shown}");
    }
}

/// The last word ends in eight bits of checksum: each of the other 255 words
/// with the same first bits is refused.
#[test]
fn another_checksum_never_passes() {
    let mut words = phrase().words();
    let list = bip39::Language::English.word_list();
    let last = list.binary_search(&words[PHRASE_WORDS - 1]).expect("listed");
    for checksum in (0..256).filter(|checksum| *checksum != last & 0xff) {
        words[PHRASE_WORDS - 1] = list[last & !0xff | checksum];
        assert_eq!(words.join(" ").parse::<RecoveryPhrase>().err(), Some(PhraseError::Checksum));
    }
}

#[test]
fn golden_safety_words() {
    let (a, b) = (PersonId::from_bytes([1; 32]), PersonId::from_bytes([2; 32]));
    let code = SafetyCode::between(&b, &a);
    assert_eq!(code.words(), ["brush", "diamond", "nation", "parrot", "card", "hurdle", "horror", "cactus"]);
    assert_eq!(code.digits(), "36098 64591 30657 12866 73677 91541 97853 74942 61422 67865 30306 72976");
    assert_eq!(safety_words(&a, &b), code.words());
    assert_ne!(safety_words(&a, &a), code.words());
}

fn laptop() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

fn phone() -> SecretKey {
    SecretKey::from_bytes(&[6; 32])
}

fn claims(device: &SecretKey, serial: u64) -> DeviceClaims {
    DeviceClaims {
        person: phrase().person(),
        recovery: phrase().recovery_key().public(),
        device: device.device(),
        sealing: SealingKey::of_device(device).public(),
        name: "Ana's laptop".into(),
        serial,
    }
}

fn by_phrase() -> DeviceCertificate {
    let claims = claims(&laptop(), 1);
    let acceptance = claims.accept(Enroller::Phrase, &laptop());
    DeviceCertificate::sign_with_phrase(claims, acceptance, &phrase()).expect("in order")
}

fn by_laptop() -> DeviceCertificate {
    let claims = claims(&phone(), 2);
    let acceptance = claims.accept(Enroller::Device(laptop().device()), &phone());
    DeviceCertificate::sign_with_device(claims, acceptance, &laptop(), &by_phrase().claims).expect("in order")
}

#[test]
fn golden_certificate_and_revocation() {
    let bytes = encode(&by_phrase());
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "4a5a39e0ec30190e66a6cd100b339a3975afcbdaa66b3fb8acaea9d3115b12f7"
    );
    assert_eq!(decode(&bytes, 1_024), Ok(by_phrase()));
    let revocation =
        PhraseRevocation::sign(&phrase(), &CommunityId::from_bytes([3; 32]), laptop().device(), &[6; 32]);
    assert_eq!(
        HEXLOWER.encode(revocation.signature.as_bytes()),
        "95d4463158aa2841c9b456366b4f11cbfa337fca7f9c03de08e3b345ef283bb49b12c8226685626423bc2034ed41f2f6f1b7777807bae1546d6568f241441407"
    );
}

#[test]
fn certificates_verify_with_what_they_need() {
    assert_eq!(by_phrase().verify(None), Ok(()));
    // The phrase needs nobody's word.
    assert_eq!(by_phrase().verify(Some(&claims(&phone(), 9))), Ok(()));
    assert_eq!(by_laptop().verify(Some(&by_phrase().claims)), Ok(()));
    assert_eq!(by_laptop().verify(None), Err(CertificateError::NotEntitled));
}

/// One change of every field; each is noticed, whoever enrolled.
#[test]
fn every_field_of_a_certificate_is_covered() {
    let other_key = SealingPublicKey::from_bytes([9; 32]);
    let changes: [&dyn Fn(&mut DeviceCertificate); 10] = [
        &|c| c.claims.person = PersonId::from_bytes([9; 32]),
        &|c| c.claims.recovery = other_key,
        &|c| c.claims.device = SecretKey::from_bytes(&[7; 32]).device(),
        &|c| c.claims.sealing = other_key,
        &|c| c.claims.name = "Eve's laptop".into(),
        &|c| c.claims.serial += 1,
        &|c| c.enroller = Enroller::Device(SecretKey::from_bytes(&[7; 32]).device()),
        &|c| c.signature = c.acceptance,
        &|c| c.acceptance = c.signature,
        &|c| c.acceptance = Signature::from_bytes([0; 64]),
    ];
    for (certificate, enrolled) in [(by_phrase(), None), (by_laptop(), Some(by_phrase().claims))] {
        for (number, change) in changes.iter().enumerate() {
            let mut changed = certificate.clone();
            change(&mut changed);
            assert_ne!(changed, certificate, "change {number}");
            assert!(changed.verify(enrolled.as_ref()).is_err(), "change {number}");
        }
        for (at, _) in encode(&certificate).iter().enumerate() {
            let mut bytes = encode(&certificate);
            bytes[at] ^= 1 << (at % 8);
            let verdict = decode::<DeviceCertificate>(&bytes, 1_024).map(|c| c.verify(enrolled.as_ref()));
            assert!(!matches!(verdict, Ok(Ok(()))), "byte {at}");
        }
    }
}

/// Enrolling a stranger's device: its acceptance cannot be made, nor taken
/// from what it accepted elsewhere.
#[test]
fn a_strangers_device_cannot_be_enrolled() {
    let eve = RecoveryPhrase::from_entropy(&[0xee; 32]);
    let ours = by_phrase();
    let mut stolen =
        DeviceClaims { person: eve.person(), recovery: eve.recovery_key().public(), ..ours.claims.clone() };
    let signed = |claims: &DeviceClaims, acceptance| {
        DeviceCertificate::sign_with_phrase(claims.clone(), acceptance, &eve).expect_err("not Eve's")
    };
    assert_eq!(signed(&stolen, ours.acceptance), CertificateError::Acceptance);
    assert_eq!(signed(&stolen, ours.signature), CertificateError::Acceptance);
    // Signed by a key of Eve's in the device's place.
    let forged = stolen.accept(Enroller::Phrase, &eve.person_key());
    assert_eq!(signed(&stolen, forged), CertificateError::Acceptance);
    stolen.person = ours.claims.person;
    assert_eq!(signed(&stolen, ours.acceptance), CertificateError::OtherPhrase);
}

#[test]
fn a_device_enrols_for_its_own_person_only_and_keeps_the_recovery_key() {
    let enrolled = by_phrase().claims;
    let attempt = |change: &dyn Fn(&mut DeviceClaims), signer: &SecretKey, enrolled: &DeviceClaims| {
        let mut claims = claims(&phone(), 2);
        change(&mut claims);
        let acceptance = claims.accept(Enroller::Device(signer.device()), &phone());
        DeviceCertificate::sign_with_device(claims, acceptance, signer, enrolled).err()
    };
    assert_eq!(attempt(&|_| {}, &laptop(), &enrolled), None);
    let not_entitled = Some(CertificateError::NotEntitled);
    assert_eq!(attempt(&|c| c.person = PersonId::from_bytes([9; 32]), &laptop(), &enrolled), not_entitled);
    let recovery = SealingKey::from_bytes(&[9; 32]).public();
    assert_eq!(attempt(&|c| c.recovery = recovery, &laptop(), &enrolled), not_entitled);
    assert_eq!(attempt(&|_| {}, &SecretKey::from_bytes(&[9; 32]), &enrolled), not_entitled);
    assert_eq!(attempt(&|c| c.serial = 1, &laptop(), &enrolled), Some(CertificateError::Serial));
    assert_eq!(
        attempt(&|c| c.name = "a\u{202e}b".into(), &laptop(), &enrolled),
        Some(CertificateError::Name)
    );
    assert_eq!(attempt(&|c| c.name = "x".repeat(65), &laptop(), &enrolled), Some(CertificateError::Name));
}

#[test]
fn every_field_of_a_revocation_is_covered() {
    let (community, fence) = (CommunityId::from_bytes([3; 32]), [6; 32]);
    let revocation = PhraseRevocation::sign(&phrase(), &community, laptop().device(), &fence);
    assert!(revocation.verify(&community, &fence).is_ok());
    assert!(revocation.verify(&CommunityId::from_bytes([4; 32]), &fence).is_err());
    assert!(revocation.verify(&community, &[7; 32]).is_err());
    let other = DeviceId::from_bytes([9; 32]);
    assert!(PhraseRevocation { device: other, ..revocation }.verify(&community, &fence).is_err());
    let eve = RecoveryPhrase::from_entropy(&[0xee; 32]).person();
    assert!(PhraseRevocation { person: eve, ..revocation }.verify(&community, &fence).is_err());
    let bytes = encode(&revocation);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let verdict = decode::<PhraseRevocation>(&changed, 256).map(|r| r.verify(&community, &fence));
        assert!(!matches!(verdict, Ok(Ok(()))), "byte {at}");
    }
}
