//! What a dishonest device can sign: other heads, other keys, two lines.

use exo_model::ChangeHash;
use exo_model::codec;
use exo_model::envelope::{Envelope, sealed_context};
use exo_model::event::Event;
use exo_model::feed::equivocation::{Branch, EquivocationProof};
use exo_model::feed::gate;
use exo_model::feed::{self, FeedId, FeedPosition, Stream};
use exo_model::id::KeyId;
use exo_model::sealing::{SEAL_OVERHEAD, fresh_nonce};

use super::Home;

impl Home {
    /// Writes an event as though only these heads were known, sealed with any
    /// key that is held.
    pub(crate) fn write_under(
        &mut self,
        stream: Stream,
        event: &Event,
        heads: &[ChangeHash],
        key: KeyId,
    ) -> ChangeHash {
        self.now_ms += 1;
        let (feed, position) = self.next_place(stream);
        let mut envelope = Envelope {
            version: exo_model::envelope::ENVELOPE_VERSION,
            lamport: self.community.next_lamport(),
            body: Vec::new(),
            heads: Some(heads.to_vec()),
            key: Some(key),
            previous: None,
        };
        let context = sealed_context(
            &feed,
            position.seq + 1,
            envelope.lamport,
            envelope.heads.as_deref(),
            envelope.key,
        );
        let body = codec::encode(event);
        let cipher = self.community.keyring().cipher(&key).expect("held");
        let mut sealed = Vec::with_capacity(body.len() + SEAL_OVERHEAD);
        cipher.seal_into(&context, &fresh_nonce(self.entropy()), &body, &mut sealed);
        envelope.body = sealed;
        self.write_payload(feed, &position, envelope.encode())
    }

    /// The same in a stream that is not sealed.
    pub(crate) fn write_plain_under(
        &mut self,
        stream: Stream,
        event: &Event,
        heads: &[ChangeHash],
    ) -> ChangeHash {
        let envelope = Envelope {
            version: exo_model::envelope::ENVELOPE_VERSION,
            lamport: self.community.next_lamport(),
            body: codec::encode(event),
            heads: Some(heads.to_vec()),
            key: None,
            previous: None,
        };
        self.write_bytes(stream, envelope.encode())
    }

    /// Signs any bytes as the next change of a stream.
    pub(crate) fn write_bytes(&mut self, stream: Stream, payload: Vec<u8>) -> ChangeHash {
        self.now_ms += 1;
        let (feed, position) = self.next_place(stream);
        self.write_payload(feed, &position, payload)
    }

    fn write_payload(&mut self, feed: FeedId, position: &FeedPosition, payload: Vec<u8>) -> ChangeHash {
        let change = feed::Change { time_ms: self.now_ms, payload };
        let run =
            gate::admit(feed::author(&self.key, feed, position, change), position).expect("well-formed");
        let hash = run.end().hash;
        self.keep(run);
        hash
    }

    fn next_place(&self, stream: Stream) -> (FeedId, FeedPosition) {
        let feed = self.feed(stream);
        (feed, self.position(&feed))
    }

    /// This device's feed in a stream.
    pub(crate) fn feed(&self, stream: Stream) -> FeedId {
        FeedId::new(self.community.id(), self.device(), stream)
    }

    /// The line of a feed up to its last change, as a branch that ends with
    /// the change at `seq`.
    pub(crate) fn branch(&self, feed: &FeedId, seq: u64) -> Branch {
        let runs = &self.store[feed];
        let at = runs.iter().map(|run| run.end()).find(|end| end.seq == seq).expect("signed one by one");
        let signature = runs.iter().find(|run| run.end() == at).expect("the same").signature();
        Branch { at, then: Vec::new(), signature }
    }

    /// The proof that this home and another hold two lines of one feed.
    pub(crate) fn proof_against(&self, feed: &FeedId, other: &Self, seq: u64) -> EquivocationProof {
        EquivocationProof::of_fork(*feed, self.branch(feed, seq), other.branch(feed, seq)).expect("two lines")
    }

    /// Reads another home's line of a feed in place of one's own.
    pub(crate) fn adopt_line(&mut self, feed: &FeedId, other: &Self) {
        let runs = other.store[feed].clone();
        let mut reopen = self.community.reopen(feed, &runs).reopen;
        self.store.insert(*feed, runs);
        while let Some(feed) = reopen.pop_first() {
            let runs = self.store.get(&feed).cloned().unwrap_or_default();
            reopen.extend(self.community.reopen(&feed, &runs).reopen);
        }
        self.read_again();
    }
}
