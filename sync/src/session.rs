//! One exchange of `exo/sync/1`, without I/O.
//!
//! Both sides greet with one hash over where all their lines end. Where it
//! differs they [narrow down](narrow) in which feeds; each sends what the other
//! lacks as soon as that is known, what is most wanted first, and then `Done`.
//! Where the author of a feed signed two lines, the side that notices asks for
//! the one it lacks and says what it has; from the answer it sees where the
//! lines part, and sends its own. The shell around it moves frames and asks the
//! replica to compare, read and ingest; this machine decides what comes next and
//! bounds what a peer may do.
//!
//! Version 2 of the protocol named all ends at once, in a `Hello`. Who greets
//! like that is answered like that; who hangs up on a greeting of today is
//! greeted like that.

mod compare;
mod ends;
mod narrow;
mod queue;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use minicbor::{Decode, Encode};

use exo_model::feed::{FeedId, FeedPosition, Run, Stream};
use exo_model::id::{ChangeHash, CommunityId, DeviceId};

pub use compare::{Comparison, Known, LineIndex, Scope, Sending, Told, Wanted, compare};
pub use ends::{Ends, Fingerprint, Place, PlaceRange};
pub use narrow::{CLAIMS_PER_FRAME, Claim, ENDS_PER_FRAME, Says};

use narrow::Narrowing;
use queue::{Next, Queue};

/// The version of the protocol that this program speaks.
pub const WIRE_VERSION: u32 = 3;
/// The oldest version that it still speaks.
pub const WIRE_VERSION_OLDEST: u32 = 2;
/// Longest frame in bytes: one run of changes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of payload a run is cut at, well under [`FRAME_BYTES_MAX`].
pub const RUN_BYTES_MAX: usize = 512 * 1024;
/// Most lines a peer may name in one exchange; the next one names others.
pub const HEADS_MAX: usize = 8_192;
/// Most runs a peer may send in one exchange; more come with the next.
pub const RUNS_MAX: u32 = 65_536;
/// Most lines a peer may ask for in one exchange; more come with the next.
pub const WANTS_MAX: usize = 64;
/// Lines of one device's feeds that are asked for in one exchange: whoever signs
/// many keeps nobody from asking for others'.
const WANTS_PER_DEVICE: usize = 8;
/// Most positions named with a line that is asked for.
pub const MARKS_MAX: usize = 32;

/// Where one line of a feed ends at a peer; the community is the session's.
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

impl FeedHead {
    /// Where a line of `feed` ends.
    pub const fn new(feed: &FeedId, end: FeedPosition) -> Self {
        Self { device: feed.device, stream: feed.stream, segment: feed.segment, end }
    }

    /// Where the feed stands.
    pub const fn place(&self) -> Place {
        Place { stream: self.stream, device: self.device, segment: self.segment }
    }

    /// The feed, in the session's community.
    pub const fn feed(&self, community: CommunityId) -> FeedId {
        FeedId { community, device: self.device, stream: self.stream, segment: self.segment }
    }
}

/// Feeds from one to another in their order, around its end if need be: those
/// of which a greeting names all lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Window {
    /// The first feed.
    #[n(0)]
    pub first: FeedId,
    /// The last one.
    #[n(1)]
    pub last: FeedId,
}

impl Window {
    /// Whether a feed lies within.
    pub fn contains(&self, feed: &FeedId) -> bool {
        if self.first <= self.last {
            (self.first..=self.last).contains(feed)
        } else {
            *feed >= self.first || *feed <= self.last
        }
    }
}

/// A run with the change it follows: where lines part, its number alone does
/// not say which one that is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LineRun {
    /// The hash of the change before the first; zeros where there is none.
    #[n(0)]
    pub after: ChangeHash,
    /// The changes.
    #[n(1)]
    pub run: Run,
}

impl LineRun {
    /// The last change that the run follows.
    pub const fn start(&self) -> FeedPosition {
        FeedPosition { seq: self.run.first_seq.saturating_sub(1), hash: self.after }
    }

    fn last_seq(&self) -> u64 {
        self.start().seq.saturating_add(self.run.changes.len() as u64)
    }
}

/// What travels on a sync stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Frame {
    /// First frame of each side in version 2.
    #[n(0)]
    Hello {
        /// Version of the sender: 2.
        #[n(0)]
        version: u32,
        /// Which community's feeds.
        #[n(1)]
        community: CommunityId,
        /// Where the sender's lines end; several of one feed where it parts.
        #[n(2)]
        heads: Vec<FeedHead>,
        /// The feeds that these are all lines of; none for all feeds.
        #[n(3)]
        window: Option<Window>,
    },
    /// Changes the other side lacks.
    #[n(1)]
    Changes(#[n(0)] LineRun),
    /// Nothing more to send, but what is asked for.
    #[n(2)]
    Done,
    /// Asks for a line of a feed that parts. Comes before `Done`.
    #[n(3)]
    Want {
        /// Where it ends at the other side.
        #[n(0)]
        line: FeedHead,
        /// Positions of the feed that the sender has.
        #[n(1)]
        marks: Vec<FeedPosition>,
    },
    /// All there is of a line that was asked for has been sent.
    #[n(4)]
    Answered(#[n(0)] FeedHead),
    /// First frame of each side since version 3.
    #[n(5)]
    Greeting(#[n(0)] Greeting),
    /// A turn of narrowing down where the sides differ.
    #[n(6)]
    Claims(#[n(0)] Vec<Claim>),
    /// Everything that the other side sent is dealt with, and stored unless
    /// something was put off. Since version 3 the last frame of whoever received
    /// changes.
    #[n(7)]
    Stored {
        /// Whether nothing was put off.
        #[n(0)]
        all: bool,
    },
}

/// What a side begins with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Greeting {
    /// The oldest version that the sender speaks.
    #[n(0)]
    pub oldest: u32,
    /// The newest one; both speak the newest that both know.
    #[n(1)]
    pub newest: u32,
    /// Which community's feeds.
    #[n(2)]
    pub community: CommunityId,
    /// [`Ends::root`] of the sender.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub root: [u8; 32],
    /// What the sender would like to have before the rest.
    #[n(4)]
    pub wanted: Option<Stream>,
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
    /// The answer to the oldest [`Effect::Compare`] that is open.
    Compared(Comparison),
    /// The answer to [`Effect::Read`].
    Read(Option<LineRun>),
    /// Something that was to be ingested was put off.
    PutOff,
}

/// What the shell is to do, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this frame.
    Send(Frame),
    /// [`compare`] what the peer has with what is stored; report
    /// [`Input::Compared`].
    Compare(Known),
    /// Read stored changes after `after_seq` on the line of `feed` through
    /// `tip`; report [`Input::Read`].
    Read {
        /// The feed.
        feed: FeedId,
        /// A change on the line.
        tip: FeedPosition,
        /// The last change the peer has.
        after_seq: u64,
    },
    /// Give this run to the gate and the store.
    Ingest(LineRun),
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
    #[error(
        "the peer speaks sync version {0}, this program versions {WIRE_VERSION_OLDEST} to {WIRE_VERSION}: the \
         older of the two needs an update"
    )]
    Version(u32),
    /// A claim about something outside its range.
    #[error("the peer claims something outside the range it speaks of")]
    Range,
    /// Another community.
    #[error("the peer asked about another community")]
    Community,
    /// More than allowed.
    #[error("the peer sent too many {0}")]
    TooMany(&'static str),
}

/// Why something is compared.
#[derive(Debug)]
enum Question {
    /// The peer said what it has.
    Told,
    /// The peer asked for this line.
    Want(FeedHead),
    /// Some of a feed came of which the peer was asked for a line: it has what
    /// that follows.
    Base,
}

/// What is exchanged with a peer.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who opened the stream.
    pub side: Side,
    /// Where the lines end that are stored here.
    pub own: Arc<Ends>,
    /// What this side would like to have before the rest.
    pub wanted: Option<Stream>,
    /// The version to begin with: [`WIRE_VERSION`], or less with a peer that is
    /// known to be older.
    pub version: u32,
    /// Where a greeting of version 2 begins, if it cannot name everything.
    pub turn: usize,
}

impl Terms {
    /// As usual, with a peer of which nothing is known.
    pub const fn new(side: Side, own: Arc<Ends>) -> Self {
        Self { side, own, wanted: None, version: WIRE_VERSION, turn: 0 }
    }
}

/// How far both sides have told each other what they have.
#[derive(Debug)]
enum Stage {
    /// The peer has not greeted yet.
    Waiting,
    /// It goes on.
    Narrowing(Box<Narrowing>),
    /// Everything is told.
    Told,
}

/// The state of one exchange.
#[derive(Debug)]
pub struct SyncSession {
    terms: Terms,
    community: CommunityId,
    stage: Stage,
    questions: VecDeque<Question>,
    queue: Queue,
    /// Lines that the peer was asked for, by feed.
    wanted: BTreeMap<FeedId, Vec<FeedPosition>>,
    /// How many of each device.
    asked: BTreeMap<DeviceId, usize>,
    /// Feeds of which a line was asked for and nothing came yet.
    unbased: BTreeSet<FeedId>,
    sent_done: bool,
    received_done: bool,
    /// Whether all is dealt with that came, and what went.
    dealt_with: [bool; 2],
    /// Whether all that came could be stored.
    stored_all: bool,
    /// Whether the other side says the same.
    peer_stored_all: bool,
    runs_received: u32,
    wants_received: usize,
}

impl SyncSession {
    /// An exchange about the community of the lines that are stored here.
    pub fn new(terms: Terms) -> Self {
        Self {
            community: terms.own.community(),
            terms,
            stage: Stage::Waiting,
            questions: VecDeque::new(),
            queue: Queue::default(),
            wanted: BTreeMap::new(),
            asked: BTreeMap::new(),
            unbased: BTreeSet::new(),
            sent_done: false,
            received_done: false,
            dealt_with: [false; 2],
            stored_all: true,
            peer_stored_all: true,
            runs_received: 0,
            wants_received: 0,
        }
    }

    /// Whether the peer still owes frames. Once it does not, its stream may
    /// end.
    pub fn expects_frames(&self) -> bool {
        !self.received_done || !self.wanted.is_empty() || self.awaits_stored()
    }

    /// Whether the other side has now everything that was here when the exchange
    /// began, so far as it could be said.
    pub fn peer_has_all(&self) -> bool {
        self.sent_done && self.peer_stored_all && self.is_new() && !self.awaits_stored()
    }

    /// Whether the exchange is in today's version.
    const fn is_new(&self) -> bool {
        self.terms.version == WIRE_VERSION
    }

    /// Whether the peer has yet to say that it stored what was sent.
    const fn awaits_stored(&self) -> bool {
        self.is_new() && self.queue.has_sent() && !self.dealt_with[1]
    }

    /// Takes one input and returns what to do.
    ///
    /// # Errors
    /// [`Violation`]: the shell closes the stream.
    pub fn handle(&mut self, input: Input) -> Result<Vec<Effect>, Violation> {
        match input {
            Input::Opened if self.terms.side == Side::Initiator => Ok(vec![Effect::Send(self.first_frame())]),
            Input::Opened => Ok(Vec::new()),
            Input::Frame(Frame::Hello { version, community, heads, window }) => {
                self.greet_as_of_old(version, community, &heads, window)
            }
            Input::Frame(Frame::Greeting(greeting)) => self.greet(&greeting),
            Input::Frame(_) if !self.is_greeted() || !self.expects_frames() => {
                Err(Violation::UnexpectedFrame)
            }
            Input::Frame(Frame::Changes(run)) => self.receive(run),
            Input::Frame(Frame::Answered(line)) => self.receive_answered(&line),
            Input::Frame(Frame::Stored { all }) => self.receive_stored(all),
            Input::PutOff => {
                self.stored_all = false;
                Ok(Vec::new())
            }
            Input::Frame(Frame::Want { .. } | Frame::Done | Frame::Claims(_)) if self.received_done => {
                Err(Violation::UnexpectedFrame)
            }
            Input::Frame(Frame::Claims(claims)) => self.receive_claims(claims),
            Input::Frame(Frame::Want { line, marks }) => self.receive_want(line, &marks),
            Input::Frame(Frame::Done) => {
                self.received_done = true;
                Ok(self.proceed())
            }
            Input::Compared(comparison) => Ok(self.take_comparison(comparison)),
            Input::Read(run) => Ok(self.send_read(run)),
        }
    }

    const fn is_greeted(&self) -> bool {
        !matches!(self.stage, Stage::Waiting)
    }

    fn first_frame(&self) -> Frame {
        if self.terms.version < WIRE_VERSION { self.hello() } else { self.greeting() }
    }

    fn greeting(&self) -> Frame {
        Frame::Greeting(Greeting {
            oldest: WIRE_VERSION_OLDEST,
            newest: WIRE_VERSION,
            community: self.community,
            root: self.terms.own.root(),
            wanted: self.terms.wanted,
        })
    }

    /// What this side begins with in version 2: all ends.
    fn hello(&self) -> Frame {
        let (version, community) = (WIRE_VERSION_OLDEST, self.community);
        let mut own: Vec<_> = self.terms.own.iter().collect();
        own.sort_by_key(|(feed, _)| *feed);
        let head = |(feed, end): &(FeedId, FeedPosition)| FeedHead::new(feed, *end);
        if own.len() <= HEADS_MAX {
            let heads = own.iter().map(head).collect();
            return Frame::Hello { version, community, heads, window: None };
        }
        // Whole feeds only: from one on, as many as there is room for.
        let feeds: Vec<_> = own.chunk_by(|one, other| one.0 == other.0).collect();
        let mut window: Option<Window> = None;
        let mut heads = Vec::new();
        for lines in feeds.iter().cycle().skip(self.terms.turn % feeds.len()).take(feeds.len()) {
            if heads.len() + lines.len() > HEADS_MAX {
                break;
            }
            let Some((feed, _)) = lines.first() else { continue };
            window = Some(Window { first: window.map_or(*feed, |window| window.first), last: *feed });
            heads.extend(lines.iter().map(head));
        }
        Frame::Hello { version, community, heads, window }
    }

    fn greet_as_of_old(
        &mut self,
        version: u32,
        community: CommunityId,
        heads: &[FeedHead],
        window: Option<Window>,
    ) -> Result<Vec<Effect>, Violation> {
        // Whoever was greeted in version 3 answers in it.
        let is_due = self.terms.side == Side::Responder || self.terms.version == WIRE_VERSION_OLDEST;
        if self.is_greeted() || !is_due {
            return Err(Violation::UnexpectedFrame);
        }
        self.terms.version = WIRE_VERSION_OLDEST;
        if version != WIRE_VERSION_OLDEST {
            return Err(Violation::Version(version));
        }
        self.check_community(community)?;
        if heads.len() > HEADS_MAX {
            return Err(Violation::TooMany("feeds"));
        }
        self.stage = Stage::Told;
        let ends = heads.iter().map(|head| (head.feed(community), head.end)).collect();
        let mut effects = Vec::new();
        if self.terms.side == Side::Responder {
            effects.push(Effect::Send(self.hello()));
        }
        let scope = window.map_or(Scope::Everything, Scope::Window);
        effects.push(self.ask(Question::Told, Known::All(vec![Told { scope, ends }])));
        Ok(effects)
    }

    fn greet(&mut self, greeting: &Greeting) -> Result<Vec<Effect>, Violation> {
        if self.is_greeted() || self.terms.version < WIRE_VERSION {
            return Err(Violation::UnexpectedFrame);
        }
        if greeting.oldest > WIRE_VERSION || greeting.newest < WIRE_VERSION {
            return Err(Violation::Version(greeting.newest));
        }
        self.check_community(greeting.community)?;
        self.queue.prefer(greeting.wanted);
        let mut effects = Vec::new();
        let is_responder = self.terms.side == Side::Responder;
        if is_responder {
            effects.push(Effect::Send(self.greeting()));
        }
        let (own, theirs) = (self.terms.own.root(), greeting.root);
        if own == theirs || own == Ends::ROOT_OF_NOTHING {
            self.stage = Stage::Told;
        } else if theirs == Ends::ROOT_OF_NOTHING {
            self.stage = Stage::Told;
            let nothing = Told { scope: Scope::Everything, ends: Vec::new() };
            effects.push(self.ask(Question::Told, Known::All(vec![nothing])));
        } else {
            let mut narrowing = Box::new(Narrowing::new(self.terms.own.clone()));
            if is_responder {
                effects.push(Effect::Send(Frame::Claims(narrowing.begin())));
            }
            self.stage = Stage::Narrowing(narrowing);
        }
        effects.extend(self.proceed());
        Ok(effects)
    }

    fn check_community(&self, community: CommunityId) -> Result<(), Violation> {
        if community == self.community { Ok(()) } else { Err(Violation::Community) }
    }

    fn receive_claims(&mut self, claims: Vec<Claim>) -> Result<Vec<Effect>, Violation> {
        let Stage::Narrowing(narrowing) = &mut self.stage else { return Err(Violation::UnexpectedFrame) };
        let (told, turn) = narrowing.take(claims)?;
        if narrowing.is_over() {
            self.stage = Stage::Told;
        }
        let mut effects = Vec::new();
        effects.extend(turn.map(|claims| Effect::Send(Frame::Claims(claims))));
        if !told.is_empty() {
            effects.push(self.ask(Question::Told, Known::All(told)));
        }
        effects.extend(self.proceed());
        Ok(effects)
    }

    fn ask(&mut self, question: Question, known: Known) -> Effect {
        self.questions.push_back(question);
        Effect::Compare(known)
    }

    fn receive(&mut self, run: LineRun) -> Result<Vec<Effect>, Violation> {
        self.runs_received += 1;
        if self.runs_received > RUNS_MAX {
            return Err(Violation::TooMany("runs"));
        }
        let feed = run.run.feed;
        self.check_community(feed.community)?;
        let start = run.start();
        let mut effects = vec![Effect::Ingest(run)];
        if self.unbased.remove(&feed) {
            effects.push(self.ask(Question::Base, Known::Some(vec![(feed, start)])));
        }
        Ok(effects)
    }

    fn receive_want(&mut self, line: FeedHead, marks: &[FeedPosition]) -> Result<Vec<Effect>, Violation> {
        self.wants_received += 1;
        if self.wants_received > WANTS_MAX {
            return Err(Violation::TooMany("wants"));
        }
        if marks.len() > MARKS_MAX {
            return Err(Violation::TooMany("positions"));
        }
        let feed = line.feed(self.community);
        let known = marks.iter().map(|mark| (feed, *mark)).collect();
        Ok(vec![self.ask(Question::Want(line), Known::Some(known))])
    }

    fn receive_answered(&mut self, line: &FeedHead) -> Result<Vec<Effect>, Violation> {
        let feed = line.feed(self.community);
        let tips = self.wanted.get_mut(&feed).ok_or(Violation::UnexpectedFrame)?;
        let index = tips.iter().position(|tip| *tip == line.end).ok_or(Violation::UnexpectedFrame)?;
        tips.swap_remove(index);
        if tips.is_empty() {
            self.wanted.remove(&feed);
            self.unbased.remove(&feed);
        }
        Ok(self.proceed())
    }

    fn receive_stored(&mut self, all: bool) -> Result<Vec<Effect>, Violation> {
        if !self.is_new() || !self.sent_done || self.dealt_with[1] {
            return Err(Violation::UnexpectedFrame);
        }
        self.dealt_with[1] = true;
        self.peer_stored_all = all;
        Ok(self.finish_if_done())
    }

    fn take_comparison(&mut self, comparison: Comparison) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.questions.pop_front() {
            Some(Question::Want(line)) => self.queue.answer(line, comparison.send),
            Some(Question::Told) => {
                self.queue.extend(comparison.send);
                for want in comparison.wants {
                    effects.extend(self.want(want));
                }
            }
            Some(Question::Base) | None => self.queue.extend(comparison.send),
        }
        effects.extend(self.proceed());
        effects
    }

    /// Asks for a line, unless enough was asked for.
    fn want(&mut self, Wanted { line, marks }: Wanted) -> Option<Effect> {
        let total: usize = self.asked.values().sum();
        let of_device = self.asked.entry(line.device).or_default();
        if total == WANTS_MAX || *of_device == WANTS_PER_DEVICE {
            return None;
        }
        *of_device += 1;
        let feed = line.feed(self.community);
        self.wanted.entry(feed).or_default().push(line.end);
        self.unbased.insert(feed);
        Some(Effect::Send(Frame::Want { line, marks }))
    }

    /// What can be done without waiting: one read at a time, and the end.
    fn proceed(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(next) = self.queue.next() {
            match next {
                Next::Answered(line) => effects.push(Effect::Send(Frame::Answered(line))),
                Next::Line(Sending { feed, tip, after_seq }) => {
                    effects.push(Effect::Read { feed, tip, after_seq });
                }
            }
        }
        if !self.is_busy() && !self.sent_done && self.wanted.is_empty() {
            self.sent_done = true;
            effects.push(Effect::Send(Frame::Done));
        }
        if self.is_new() && self.is_all_received() && self.runs_received > 0 && !self.dealt_with[0] {
            self.dealt_with[0] = true;
            effects.push(Effect::Send(Frame::Stored { all: self.stored_all }));
        }
        effects.extend(self.finish_if_done());
        effects
    }

    /// Whether no more changes come.
    fn is_all_received(&self) -> bool {
        self.received_done && self.wanted.is_empty()
    }

    fn send_read(&mut self, run: Option<LineRun>) -> Vec<Effect> {
        let run = run.filter(|run| !run.run.changes.is_empty());
        self.queue.was_read(run.as_ref().map(LineRun::last_seq));
        let mut effects: Vec<_> = run.map(|run| Effect::Send(Frame::Changes(run))).into_iter().collect();
        effects.extend(self.proceed());
        effects
    }

    fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Told) || !self.queue.is_empty() || !self.questions.is_empty()
    }

    fn finish_if_done(&self) -> Vec<Effect> {
        let is_over = self.sent_done && self.is_all_received() && !self.is_busy() && !self.awaits_stored();
        if is_over { vec![Effect::Finish] } else { Vec::new() }
    }
}
