//! What strangers' bytes pass through: one function for each parser.
//!
//! One file for two users: `cargo fuzz` runs each function on its own, without
//! end; `model/tests/fuzz.rs` runs all of them on seeded mutants, in two
//! seconds, with every `cargo test`. A function panics where a parser does, or
//! where something decodes that does not encode to the same bytes again.

use exo_model::board::{BoardContents, BoardEdit};
use exo_model::certificate::DeviceCertificate;
use exo_model::codec::{decode, encode};
use exo_model::conversation::{self, Conversation};
use exo_model::envelope::{ENVELOPE_BYTES_MAX, ENVELOPE_VERSION, Envelope, HEADS_MAX, LAMPORT_MAX};
use exo_model::event::{BoardEvent, CharterEvent, DisputeEvent, KeyEvent, LibraryEvent, ModerationEvent};
use exo_model::export::{EXPORT_VERSION, Exporter, Importer, MAGIC};
use exo_model::feed::document::audit;
use exo_model::feed::equivocation::EquivocationProof;
use exo_model::feed::{FeedPosition, Run, chunk, gate};
use exo_model::id::{CommunityId, DeviceId, KeyId};
use exo_model::invite::{JoinRequest, TICKET_PREFIX, Ticket, verify_proof};
use exo_model::phrase::RecoveryPhrase;
use exo_model::private::PrivateState;
use exo_model::profile::{PROFILE_PREFIX, PublicProfile};
use exo_model::roll::{KeeperAnchor, Listing, Roll};
use exo_model::sealing::{SealContext, SealedFor, SealedKey, SealingKey, open_key};
use exo_model::{ChangeHash, Community, Event};

/// A parser under test; says whether it took the bytes.
pub(crate) type Target = fn(&[u8]) -> bool;

/// All of them, by the name of their fuzz target.
pub(crate) const TARGETS: [(&str, Target); 20] = [
    ("run", run),
    ("envelope", envelope),
    ("event", event),
    ("ticket", ticket),
    ("ticket_contents", ticket_contents),
    ("join_request", join_request),
    ("public_profile", public_profile),
    ("certificate", certificate),
    ("sealed_key", sealed_key),
    ("sealed_for", sealed_for),
    ("board_edit", board_edit),
    ("board_contents", board_contents),
    ("import", import),
    ("import_frames", import_frames),
    ("conversation", conversation),
    ("private_state", private_state),
    ("community_snapshot", community_snapshot),
    ("phrase", phrase),
    ("equivocation_proof", equivocation_proof),
    ("keeper_anchor", keeper_anchor),
];

/// Most bytes a frame of the wire has.
const FRAME_MAX: usize = 1 << 20;

/// A run, and what the gate makes of it.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(run) = decode::<Run>(bytes, FRAME_MAX) else { return false };
    assert!(encode(&run) == bytes);
    // Any hash will do for an end that the signature cannot be after.
    let known = match run.first_seq.checked_sub(1) {
        Some(seq) if seq > 0 => FeedPosition { seq, hash: ChangeHash::from_bytes([1; 32]) },
        _ => FeedPosition::START,
    };
    let Ok(accepted) = gate::admit(run.clone(), &known) else { return true };
    assert!(accepted.changes() == run.changes && accepted.signature() == run.signature);
    if known == FeedPosition::START {
        let end = audit(&run.feed, accepted.changes()).expect("Automerge reads what the gate accepts");
        assert_eq!(end, accepted.end().hash);
    }
    true
}

/// An envelope.
pub(crate) fn envelope(bytes: &[u8]) -> bool {
    let Ok(envelope) = Envelope::decode(bytes) else { return false };
    assert!(envelope.encode() == bytes && bytes.len() <= ENVELOPE_BYTES_MAX);
    assert!(envelope.version == ENVELOPE_VERSION && envelope.lamport <= LAMPORT_MAX);
    assert!(envelope.heads.as_ref().is_none_or(|heads| heads.len() <= HEADS_MAX));
    event(&envelope.body);
    true
}

/// An event of any family, and the checks that judge its contents.
pub(crate) fn event(bytes: &[u8]) -> bool {
    let Ok(event) = Event::decode(bytes) else { return false };
    assert!(encode(&event) == bytes);
    match &event {
        Event::Charter(act) => charter(act),
        Event::Library(LibraryEvent::ModelAdded { manifest }) => judged(manifest.check()),
        Event::Talk(words) => judged(conversation::check(words)),
        Event::Board(BoardEvent::Started { contents }) => judged(contents.check()),
        Event::Board(BoardEvent::Edited { edit }) => judged(edit.check()),
        Event::Keys(KeyEvent::EpochStarted { fence, .. }) => judged(fence.is_well_formed()),
        Event::Keys(KeyEvent::ListedForKeepers { entries, .. }) => judged(Listing::read(entries)),
        Event::Moderation(ModerationEvent::ReportFiled { account, .. }) => open(account),
        Event::Ledger(_) | Event::Cluster(_) | Event::Keys(_) | Event::Private(_) => {}
    }
    true
}

/// Judging must not panic; what comes of it is for other tests.
fn judged<T>(_: T) {}

fn charter(act: &CharterEvent) {
    match act {
        CharterEvent::Founded { founder: certificate, .. }
        | CharterEvent::Admitted { certificate, .. }
        | CharterEvent::DeviceAdded { certificate } => judged(certificate.verify(None)),
        CharterEvent::Left { fence } | CharterEvent::Removed { fence, .. } => {
            assert!(!fence.is_well_formed() || fence.entries().iter().all(|entry| entry.seq > 0));
        }
        CharterEvent::EquivocationProven { proof, .. } => judged(proof.verify()),
        CharterEvent::Dispute(DisputeEvent::EvidenceAdded { evidence, .. }) => open(evidence),
        _ => {}
    }
}

/// An invite ticket as text. Capitals and white space are the reader's own.
pub(crate) fn ticket(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(ticket) = text.parse::<Ticket>() else { return false };
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    assert_eq!(ticket.to_string(), plain);
    true
}

/// What a ticket says under a right checksum, which is no secret.
pub(crate) fn ticket_contents(bytes: &[u8]) -> bool {
    let checksum = blake3::hash(bytes);
    let contents = [bytes, &checksum.as_bytes()[..4]].concat();
    let text = format!("{TICKET_PREFIX}{}", data_encoding::BASE32_NOPAD.encode(&contents).to_lowercase());
    let Ok(ticket) = text.parse::<Ticket>() else { return false };
    assert_eq!(ticket.to_string(), text);
    assert!(exo_model::text::is_clean_name(&ticket.community_name));
    let _ = ticket.key();
    true
}

/// A community's profile as strangers get it; few mutants pass its signature.
pub(crate) fn public_profile(bytes: &[u8]) -> bool {
    let text = format!("{PROFILE_PREFIX}{}", data_encoding::BASE32_NOPAD.encode(bytes).to_lowercase());
    let Ok(profile) = text.parse::<PublicProfile>() else { return false };
    assert_eq!(profile.to_string(), text);
    assert!(exo_model::text::is_clean_name(&profile.name));
    true
}

/// What a newcomer sends.
pub(crate) fn join_request(bytes: &[u8]) -> bool {
    let Ok(request) = decode::<JoinRequest>(bytes, FRAME_MAX) else { return false };
    assert!(encode(&request) == bytes);
    let JoinRequest { community, certificate, name, invite, proof } = request;
    let _ = verify_proof(&community, &certificate, &name, &invite, &proof);
    let _ = certificate.verify(None);
    true
}

/// A device's certificate.
pub(crate) fn certificate(bytes: &[u8]) -> bool {
    let Ok(certificate) = decode::<DeviceCertificate>(bytes, FRAME_MAX) else { return false };
    assert!(encode(&certificate) == bytes);
    let _ = certificate.verify(None);
    let _ = certificate.verify(Some(&certificate.claims));
    true
}

/// Whom seals are tried with: the first recipient of the seeds.
fn reader() -> SealingKey {
    SealingKey::from_bytes(&[8; 32])
}

const CONTEXT: SealContext<'static> =
    SealContext { community: CommunityId::from_bytes([0xc0; 32]), audience: b"sample" };

/// An epoch key sealed to one recipient.
pub(crate) fn sealed_key(bytes: &[u8]) -> bool {
    let Ok(sealed) = decode::<SealedKey>(bytes, FRAME_MAX) else { return false };
    assert!(encode(&sealed) == bytes);
    let _ = open_key(&sealed, &KeyId::from_bytes([0; 16]), &reader(), &CONTEXT);
    true
}

/// Words sealed to a few recipients.
pub(crate) fn sealed_for(bytes: &[u8]) -> bool {
    let Ok(sealed) = SealedFor::decode(bytes) else { return false };
    assert!(encode(&sealed) == bytes && sealed.is_well_formed());
    open(&sealed);
    true
}

fn open(sealed: &SealedFor) {
    let opened = sealed.open(&reader(), &CONTEXT);
    assert!(opened.is_err() || sealed.is_well_formed());
}

/// An edit of a board.
pub(crate) fn board_edit(bytes: &[u8]) -> bool {
    let Ok(edit) = BoardEdit::decode(bytes) else { return false };
    assert!(encode(&edit) == bytes);
    let _ = edit.check();
    true
}

/// What a board starts with.
pub(crate) fn board_contents(bytes: &[u8]) -> bool {
    let Ok(contents) = BoardContents::decode(bytes) else { return false };
    assert!(encode(&contents) == bytes);
    let _ = contents.check();
    true
}

/// A whole exported community.
pub(crate) fn import(bytes: &[u8]) -> bool {
    let Ok(importer) = Importer::new(bytes) else { return false };
    let (mut exporter, mut again) = Exporter::new(importer.community());
    for frame in importer {
        let Ok(frame) = frame else { return false };
        again.extend(exporter.segment(&frame).expect("what was read in order is written in order"));
    }
    again.extend(exporter.finish());
    assert!(again == bytes);
    true
}

/// What lies in an export under a right digest, which is no secret.
pub(crate) fn import_frames(bytes: &[u8]) -> bool {
    let head = [MAGIC.as_slice(), &[EXPORT_VERSION], &[0xc0; CommunityId::LEN]].concat();
    let mut export = [head.as_slice(), bytes, &[0; 4]].concat();
    let digest = blake3::hash(&export);
    export.extend_from_slice(digest.as_bytes());
    import(&export)
}

/// A conversation's snapshot.
pub(crate) fn conversation(bytes: &[u8]) -> bool {
    let Ok(conversation) = Conversation::decode(bytes) else { return false };
    assert!(conversation.encode() == bytes);
    let _ = (conversation.hash(), conversation.len());
    true
}

/// A snapshot of a person's own facts.
pub(crate) fn private_state(bytes: &[u8]) -> bool {
    let Ok(state) = PrivateState::decode(bytes) else { return false };
    assert!(state.encode() == bytes);
    let _ = (state.hash(), state.threads(None, 100).len(), state.folders().len());
    true
}

/// What a replica remembers of its community.
pub(crate) fn community_snapshot(bytes: &[u8]) -> bool {
    let device = DeviceId::from_bytes([1; 32]);
    let restored = |bytes: &[u8]| {
        let sealing = SealingKey::from_bytes(&[2; 32]);
        let mut community = Community::new(CommunityId::from_bytes([0xc0; 32]), device, sealing);
        community.restore(bytes, |_, _| true).ok().map(|_| community.snapshot())
    };
    let Some(snapshot) = restored(bytes) else { return false };
    assert!(restored(&snapshot).as_ref() == Some(&snapshot), "its own comes back");
    true
}

/// A recovery phrase as typed.
pub(crate) fn phrase(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(phrase) = text.parse::<RecoveryPhrase>() else { return false };
    let again: RecoveryPhrase = phrase.words().join(" ").parse().expect("its own words");
    assert_eq!(again.words(), phrase.words());
    true
}

/// A proof that a device signed two lines.
pub(crate) fn equivocation_proof(bytes: &[u8]) -> bool {
    let Ok(proof) = decode::<EquivocationProof>(bytes, FRAME_MAX) else { return false };
    assert!(encode(&proof) == bytes);
    if proof.verify().is_ok() {
        // Of an honest feed there is none: two hashes at one place, or an end
        // that is not the end.
        match &proof {
            EquivocationProof::Fork { left, right, .. } => assert!(left.at.hash < right.at.hash),
            EquivocationProof::Overrun { beyond, .. } => assert!(proof.overrun_end() < Some(beyond.at.seq)),
        }
    }
    let _ = chunk::key(proof.overrun_end().unwrap_or(0));
    true
}

/// What a keeper is told of who takes part.
pub(crate) fn keeper_anchor(bytes: &[u8]) -> bool {
    let Ok(anchor) = KeeperAnchor::decode(bytes) else { return false };
    assert!(anchor.encode() == bytes);
    let listing = anchor.listing().expect("read before");
    assert!(Listing::read(&listing.entries().collect::<Vec<_>>()) == Some(listing.clone()));
    assert!(anchor.tree(&Roll::default()).expect("read before").listing() == listing);
    true
}
