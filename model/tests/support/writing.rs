//! Changes by hand: any body under a proper seal, and many events in one run.

use exo_model::codec::encode;
use exo_model::envelope::{ENVELOPE_VERSION, Envelope, sealed_context};
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{Change, FeedId, FeedPosition, Run, Stream, chunk};
use exo_model::port::Signer as _;
use exo_model::sealing::fresh_nonce;
use exo_model::{ChangeHash, Event};

use crate::home::Home;

/// Where a member's feed ends.
pub(crate) fn end(home: &Home, feed: &FeedId) -> FeedPosition {
    home.store.get(feed).and_then(|runs| runs.last()).map_or(FeedPosition::START, AcceptedRun::end)
}

/// An envelope around any body, sealed for the place `seq` as its stream asks.
/// Heads are stated where `heads` says so, else inherited.
pub(crate) fn sealed_at(
    home: &Home,
    feed: &FeedId,
    seq: u64,
    lamport: u64,
    heads: bool,
    body: &[u8],
) -> Envelope {
    let key = feed.stream.audience().map(|audience| home.community.writing_key(&audience).expect("an epoch"));
    let heads = heads.then(|| home.community.heads());
    let mut out = body.to_vec();
    if let Some(key) = key {
        let cipher = home.community.keyring().cipher(&key).expect("held");
        let context = sealed_context(feed, seq, lamport, heads.as_deref(), Some(key));
        out.clear();
        cipher.seal_into(&context, &fresh_nonce(home.entropy()), body, &mut out);
    }
    Envelope { version: ENVELOPE_VERSION, lamport, body: out, heads, key, previous: None }
}

/// An envelope around any body for the next place of a feed.
pub(crate) fn sealed(home: &Home, feed: &FeedId, body: &[u8]) -> Envelope {
    sealed_at(home, feed, end(home, feed).seq + 1, home.community.next_lamport(), true, body)
}

/// Signs changes as the author's next ones, and keeps them.
pub(crate) fn append(home: &mut Home, feed: FeedId, payloads: Vec<Vec<u8>>) -> Vec<ChangeHash> {
    let known = end(home, &feed);
    home.now_ms += 1;
    let time_ms = home.now_ms;
    let changes: Vec<_> = payloads.into_iter().map(|payload| Change { time_ms, payload }).collect();
    let last = changes.iter().fold(known, |end, change| FeedPosition {
        seq: end.seq + 1,
        hash: chunk::change_hash(&feed.device, &end, change),
    });
    let signature = home.key.sign(&feed.signed_message(&last));
    let run = Run { feed, first_seq: known.seq + 1, changes, signature };
    let run = gate::admit(run, &known).expect("one's own changes");
    let hashes = run.hashes().to_vec();
    home.keep(run);
    hashes
}

/// Writes many events as one run, whether they will count or not.
pub(crate) fn write_all(
    home: &mut Home,
    stream: Stream,
    events: impl IntoIterator<Item = Event>,
) -> Vec<ChangeHash> {
    let feed = FeedId::new(home.community.id(), home.device(), stream);
    let (first, lamport) = (end(home, &feed).seq + 1, home.community.next_lamport());
    let payloads = (0..).zip(events).map(|(nth, event)| {
        sealed_at(home, &feed, first + nth, lamport + nth, nth == 0, &encode(&event)).encode()
    });
    let payloads = payloads.collect();
    append(home, feed, payloads)
}
