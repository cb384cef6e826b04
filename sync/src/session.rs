//! One exchange of `exo/sync/1`, without I/O.
//!
//! Both sides say where their feeds end; each then sends what the other
//! lacks, charter before the rest, and `Done`. The shell around it moves
//! frames and asks the replica to read and ingest; this machine decides what
//! comes next and bounds what a peer may do.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use exo_model::feed::{FeedId, FeedPosition, Run, Stream};
use exo_model::id::{CommunityId, DeviceId};

/// Version of the frames below.
pub const WIRE_VERSION: u32 = 1;
/// Longest frame in bytes: one run of changes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of payload a run is cut at, well under [`FRAME_BYTES_MAX`].
pub const RUN_BYTES_MAX: usize = 512 * 1024;
/// Most feeds a peer may name in one exchange.
pub const HEADS_MAX: usize = 8_192;
/// Most runs a peer may send in one exchange.
pub const RUNS_MAX: u32 = 65_536;

/// Where one feed ends at a peer; the community is the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FeedHead {
    /// Author.
    #[n(0)]
    pub device: DeviceId,
    /// Stream.
    #[n(1)]
    pub stream: Stream,
    /// Segment.
    #[n(2)]
    pub segment: u32,
    /// Last change.
    #[n(3)]
    pub end: FeedPosition,
}

/// What travels on a sync stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Frame {
    /// First frame of each side.
    #[n(0)]
    Hello {
        /// [`WIRE_VERSION`] of the sender.
        #[n(0)]
        version: u32,
        /// Which community's feeds.
        #[n(1)]
        community: CommunityId,
        /// Where the sender's feeds end.
        #[n(2)]
        heads: Vec<FeedHead>,
    },
    /// Changes the other side lacks.
    #[n(1)]
    Changes(#[n(0)] Run),
    /// Nothing more to send.
    #[n(2)]
    Done,
}

/// Who opened the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Speaks first.
    Initiator,
    /// Answers.
    Responder,
}

/// What the shell reports.
#[derive(Debug)]
pub enum Input {
    /// The stream is open.
    Opened,
    /// A frame arrived.
    Frame(Frame),
    /// The answer to [`Effect::Read`].
    Read(Option<Run>),
}

/// What the shell is to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this frame.
    Send(Frame),
    /// Read stored changes of `feed` after `after_seq`; report [`Input::Read`].
    Read {
        /// The feed.
        feed: FeedId,
        /// The last change the peer has.
        after_seq: u64,
    },
    /// Give this run to the gate and the store.
    Ingest(Run),
    /// Both sides are done.
    Finish,
}

/// A peer that does not keep to the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame that does not belong here.
    #[error("unexpected frame")]
    UnexpectedFrame,
    /// Another wire version.
    #[error("the peer speaks sync version {0}, this program version {WIRE_VERSION}")]
    Version(u32),
    /// Another community.
    #[error("the peer asked about another community")]
    Community,
    /// More than allowed.
    #[error("the peer sent too many {0}")]
    TooMany(&'static str),
}

/// The state of one exchange.
#[derive(Debug)]
pub struct SyncSession {
    side: Side,
    community: CommunityId,
    own: BTreeMap<FeedId, FeedPosition>,
    to_send: Vec<(FeedId, u64)>,
    greeted: bool,
    sent_done: bool,
    received_done: bool,
    runs_received: u32,
}

impl SyncSession {
    /// An exchange about `community`, of which `own` feeds are stored here.
    pub fn new(
        side: Side,
        community: CommunityId,
        own: impl IntoIterator<Item = (FeedId, FeedPosition)>,
    ) -> Self {
        Self {
            side,
            community,
            own: own.into_iter().collect(),
            to_send: Vec::new(),
            greeted: false,
            sent_done: false,
            received_done: false,
            runs_received: 0,
        }
    }

    /// Takes one input and returns what to do.
    ///
    /// # Errors
    /// [`Violation`]: the shell closes the stream.
    pub fn handle(&mut self, input: Input) -> Result<Vec<Effect>, Violation> {
        match input {
            Input::Opened if self.side == Side::Initiator => Ok(vec![Effect::Send(self.hello())]),
            Input::Opened => Ok(Vec::new()),
            Input::Frame(Frame::Hello { version, community, heads }) => {
                self.greet(version, community, &heads)
            }
            Input::Frame(_) if !self.greeted || self.received_done => Err(Violation::UnexpectedFrame),
            Input::Frame(Frame::Changes(run)) => {
                self.runs_received += 1;
                if self.runs_received > RUNS_MAX {
                    return Err(Violation::TooMany("runs"));
                }
                if run.feed.community != self.community {
                    return Err(Violation::Community);
                }
                Ok(vec![Effect::Ingest(run)])
            }
            Input::Frame(Frame::Done) => {
                self.received_done = true;
                Ok(self.finish_if_done())
            }
            Input::Read(run) => Ok(self.send_read(run)),
        }
    }

    fn hello(&self) -> Frame {
        let heads = self
            .own
            .iter()
            .take(HEADS_MAX)
            .map(|(feed, end)| FeedHead {
                device: feed.device,
                stream: feed.stream,
                segment: feed.segment,
                end: *end,
            })
            .collect();
        Frame::Hello { version: WIRE_VERSION, community: self.community, heads }
    }

    fn greet(
        &mut self,
        version: u32,
        community: CommunityId,
        heads: &[FeedHead],
    ) -> Result<Vec<Effect>, Violation> {
        if self.greeted {
            return Err(Violation::UnexpectedFrame);
        }
        if version != WIRE_VERSION {
            return Err(Violation::Version(version));
        }
        if community != self.community {
            return Err(Violation::Community);
        }
        if heads.len() > HEADS_MAX {
            return Err(Violation::TooMany("feeds"));
        }
        self.greeted = true;
        let theirs: BTreeMap<FeedId, FeedPosition> = heads
            .iter()
            .map(|head| {
                let feed =
                    FeedId { community, device: head.device, stream: head.stream, segment: head.segment };
                (feed, head.end)
            })
            .collect();
        // Last first, because it is taken from the end: keys before the
        // charter, that before all that it explains.
        self.to_send = self
            .own
            .iter()
            .filter_map(|(feed, end)| {
                let theirs = theirs.get(feed).copied().unwrap_or(FeedPosition::START);
                // The last change again, where it differs: they can prove the
                // fork then.
                let after = if theirs.seq == end.seq && theirs.hash != end.hash {
                    end.seq.saturating_sub(1)
                } else {
                    theirs.seq
                };
                (after < end.seq).then_some((*feed, after))
            })
            .collect();
        self.to_send.sort_by_key(|(feed, _)| std::cmp::Reverse((feed.stream, feed.device, feed.segment)));

        let mut effects = Vec::new();
        if self.side == Side::Responder {
            effects.push(Effect::Send(self.hello()));
        }
        effects.extend(self.read_next());
        Ok(effects)
    }

    fn read_next(&mut self) -> Vec<Effect> {
        if let Some((feed, after_seq)) = self.to_send.last() {
            return vec![Effect::Read { feed: *feed, after_seq: *after_seq }];
        }
        self.sent_done = true;
        let mut effects = vec![Effect::Send(Frame::Done)];
        effects.extend(self.finish_if_done());
        effects
    }

    fn send_read(&mut self, run: Option<Run>) -> Vec<Effect> {
        let Some(run) = run.filter(|run| !run.changes.is_empty()) else {
            self.to_send.pop();
            return self.read_next();
        };
        let last_seq = run.first_seq + run.changes.len() as u64 - 1;
        if let Some((feed, after)) = self.to_send.last_mut() {
            *after = last_seq;
            if self.own.get(feed).is_none_or(|end| last_seq >= end.seq) {
                self.to_send.pop();
            }
        }
        let mut effects = vec![Effect::Send(Frame::Changes(run))];
        effects.extend(self.read_next());
        effects
    }

    fn finish_if_done(&self) -> Vec<Effect> {
        if self.sent_done && self.received_done { vec![Effect::Finish] } else { Vec::new() }
    }
}
