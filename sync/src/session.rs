//! One exchange of `exo/sync/1`, without I/O.
//!
//! Both sides say where their lines end; each then sends what the other
//! lacks, keys and charter before the rest, and `Done`. Where the author of a
//! feed signed two lines, the side that notices asks for the one it lacks and
//! says what it has; from the answer it sees where the lines part, and sends
//! its own. The shell around it moves frames and asks the replica to compare,
//! read and ingest; this machine decides what comes next and bounds what a
//! peer may do.

mod compare;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minicbor::{Decode, Encode};

use exo_model::feed::{FeedId, FeedPosition, Run, Stream};
use exo_model::id::{ChangeHash, CommunityId, DeviceId};

pub use compare::{Comparison, Known, LineIndex, Sending, Wanted, compare};

/// Version of the frames below.
pub const WIRE_VERSION: u32 = 2;
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
    /// First frame of each side.
    #[n(0)]
    Hello {
        /// [`WIRE_VERSION`] of the sender.
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
    #[error("the peer speaks sync version {0}, this program version {WIRE_VERSION}")]
    Version(u32),
    /// Another community.
    #[error("the peer asked about another community")]
    Community,
    /// More than allowed.
    #[error("the peer sent too many {0}")]
    TooMany(&'static str),
}

/// What goes to the peer next.
#[derive(Debug)]
enum Next {
    Line(Sending),
    Answered(FeedHead),
}

/// Why something is compared.
#[derive(Debug)]
enum Question {
    /// The peer greeted.
    Greeting,
    /// The peer asked for this line.
    Want(FeedHead),
    /// Some of a feed came of which the peer was asked for a line: it has what
    /// that follows.
    Base,
}

/// The state of one exchange.
#[derive(Debug)]
pub struct SyncSession {
    side: Side,
    community: CommunityId,
    own: Vec<(FeedId, FeedPosition)>,
    /// Where the greeting begins, if it cannot name everything.
    turn: usize,
    questions: VecDeque<Question>,
    to_send: VecDeque<Next>,
    /// Whether a read is under way.
    reads: bool,
    /// Ends of lines that were sent or will be: none goes out twice.
    queued: BTreeSet<(FeedId, ChangeHash)>,
    /// Lines that the peer was asked for, by feed.
    wanted: BTreeMap<FeedId, Vec<FeedPosition>>,
    /// Feeds of which a line was asked for and nothing came yet.
    unbased: BTreeSet<FeedId>,
    greeted: bool,
    sent_done: bool,
    received_done: bool,
    runs_received: u32,
    runs_sent: u32,
    wants_received: usize,
}

impl SyncSession {
    /// An exchange about `community`, of which these lines are stored here.
    /// Where they are too many for one greeting, it begins elsewhere each
    /// `turn`.
    pub fn new(
        side: Side,
        community: CommunityId,
        own: impl IntoIterator<Item = (FeedId, FeedPosition)>,
        turn: usize,
    ) -> Self {
        let mut own: Vec<_> = own.into_iter().collect();
        own.sort_by_key(|(feed, _)| *feed);
        Self {
            side,
            community,
            own,
            turn,
            questions: VecDeque::new(),
            to_send: VecDeque::new(),
            reads: false,
            queued: BTreeSet::new(),
            wanted: BTreeMap::new(),
            unbased: BTreeSet::new(),
            greeted: false,
            sent_done: false,
            received_done: false,
            runs_received: 0,
            runs_sent: 0,
            wants_received: 0,
        }
    }

    /// Whether the peer still owes frames. Once it does not, its stream may
    /// end.
    pub fn expects_frames(&self) -> bool {
        !self.received_done || !self.wanted.is_empty()
    }

    /// Takes one input and returns what to do.
    ///
    /// # Errors
    /// [`Violation`]: the shell closes the stream.
    pub fn handle(&mut self, input: Input) -> Result<Vec<Effect>, Violation> {
        match input {
            Input::Opened if self.side == Side::Initiator => Ok(vec![Effect::Send(self.hello())]),
            Input::Opened => Ok(Vec::new()),
            Input::Frame(Frame::Hello { version, community, heads, window }) => {
                self.greet(version, community, &heads, window)
            }
            Input::Frame(_) if !self.greeted || !self.expects_frames() => Err(Violation::UnexpectedFrame),
            Input::Frame(Frame::Changes(run)) => self.receive(run),
            Input::Frame(Frame::Answered(line)) => self.receive_answered(&line),
            Input::Frame(Frame::Want { .. } | Frame::Done) if self.received_done => {
                Err(Violation::UnexpectedFrame)
            }
            Input::Frame(Frame::Want { line, marks }) => self.receive_want(line, &marks),
            Input::Frame(Frame::Done) => {
                self.received_done = true;
                Ok(self.finish_if_done())
            }
            Input::Compared(comparison) => Ok(self.take_comparison(comparison)),
            Input::Read(run) => Ok(self.send_read(run)),
        }
    }

    fn hello(&self) -> Frame {
        let (version, community) = (WIRE_VERSION, self.community);
        let head = |(feed, end): &(FeedId, FeedPosition)| FeedHead::new(feed, *end);
        if self.own.len() <= HEADS_MAX {
            let heads = self.own.iter().map(head).collect();
            return Frame::Hello { version, community, heads, window: None };
        }
        // Whole feeds only: from one on, as many as there is room for.
        let feeds: Vec<_> = self.own.chunk_by(|one, other| one.0 == other.0).collect();
        let mut window: Option<Window> = None;
        let mut heads = Vec::new();
        for lines in feeds.iter().cycle().skip(self.turn % feeds.len()).take(feeds.len()) {
            if heads.len() + lines.len() > HEADS_MAX {
                break;
            }
            let Some((feed, _)) = lines.first() else { continue };
            window = Some(Window { first: window.map_or(*feed, |window| window.first), last: *feed });
            heads.extend(lines.iter().map(head));
        }
        Frame::Hello { version, community, heads, window }
    }

    fn greet(
        &mut self,
        version: u32,
        community: CommunityId,
        heads: &[FeedHead],
        window: Option<Window>,
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
        let ends = heads.iter().map(|head| (head.feed(community), head.end)).collect();
        let mut effects = Vec::new();
        if self.side == Side::Responder {
            effects.push(Effect::Send(self.hello()));
        }
        effects.push(self.ask(Question::Greeting, Known::All { ends, window }));
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
        if feed.community != self.community {
            return Err(Violation::Community);
        }
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

    fn take_comparison(&mut self, comparison: Comparison) -> Vec<Effect> {
        let question = self.questions.pop_front();
        // What is asked for comes before the rest, after what is being sent: the
        // other side waits for it, and sends nothing meanwhile.
        let asked = matches!(question, Some(Question::Want(_)));
        let mut at = if asked { usize::from(self.reads) } else { self.to_send.len() };
        for sending in comparison.send {
            if self.queued.insert((sending.feed, sending.tip.hash)) {
                self.to_send.insert(at, Next::Line(sending));
                at += 1;
            }
        }
        let mut effects = Vec::new();
        match question {
            Some(Question::Greeting) => {
                for Wanted { line, marks } in comparison.wants {
                    let feed = line.feed(self.community);
                    self.wanted.entry(feed).or_default().push(line.end);
                    self.unbased.insert(feed);
                    effects.push(Effect::Send(Frame::Want { line, marks }));
                }
            }
            Some(Question::Want(line)) => {
                // Its line may be on its way already, for another reason.
                let is_last = |next: &Next| matches!(next, Next::Line(sending) if sending.tip == line.end);
                let at = self.to_send.iter().position(is_last).map_or(at, |line| at.max(line + 1));
                self.to_send.insert(at, Next::Answered(line));
            }
            Some(Question::Base) | None => {}
        }
        effects.extend(self.proceed());
        effects
    }

    /// What can be done without waiting: one read at a time, and the end.
    fn proceed(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while !self.reads {
            match self.to_send.pop_front() {
                Some(Next::Answered(line)) => effects.push(Effect::Send(Frame::Answered(line))),
                Some(Next::Line(_)) if self.runs_sent == RUNS_MAX => {}
                Some(Next::Line(sending)) => {
                    self.reads = true;
                    let Sending { feed, tip, after_seq } = sending;
                    effects.push(Effect::Read { feed, tip, after_seq });
                    self.to_send.push_front(Next::Line(sending));
                }
                None => break,
            }
        }
        if !self.is_busy() && !self.sent_done && self.wanted.is_empty() {
            self.sent_done = true;
            effects.push(Effect::Send(Frame::Done));
        }
        effects.extend(self.finish_if_done());
        effects
    }

    fn send_read(&mut self, run: Option<LineRun>) -> Vec<Effect> {
        self.reads = false;
        let Some(Next::Line(sending)) = self.to_send.front_mut() else { return self.proceed() };
        let mut effects = Vec::new();
        match run.filter(|run| !run.run.changes.is_empty()) {
            Some(run) => {
                sending.after_seq = run.last_seq();
                if sending.after_seq >= sending.tip.seq {
                    self.to_send.pop_front();
                }
                self.runs_sent += 1;
                effects.push(Effect::Send(Frame::Changes(run)));
            }
            None => drop(self.to_send.pop_front()),
        }
        effects.extend(self.proceed());
        effects
    }

    fn is_busy(&self) -> bool {
        !self.greeted || self.reads || !self.to_send.is_empty() || !self.questions.is_empty()
    }

    fn finish_if_done(&self) -> Vec<Effect> {
        if self.sent_done && self.received_done && !self.is_busy() {
            vec![Effect::Finish]
        } else {
            Vec::new()
        }
    }
}
