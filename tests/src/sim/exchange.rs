//! Exchanges: a [`SyncSession`] on each side, frames between them. What
//! `mesh::exchange` and `mesh::link::respond` do on a real node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use exo_model::codec;
use exo_model::feed::{FeedId, FeedPosition, Rejection};
use exo_sync::hub::{Exchanged, Input as HubInput, LinkId};
use exo_sync::replica::{Ingested, ReplicaError};
use exo_sync::session::{
    Effect, FRAME_BYTES_MAX, Frame, Greeting, Input, LineRun, Side, SyncSession, Terms, Violation,
};

use super::Nx;
use super::byzantine::Vice;
use super::links::Conn;
use super::world::{Event, World};

/// Frames under way in each direction, as in `mesh::exchange`.
const FRAMES_IN_FLIGHT: usize = 4;
/// Longest silence of a peer within an exchange, ms, as there.
const SILENCE_MS: u64 = 30_000;
/// Exchanges one peer may have under way, as in `mesh::link`.
const EXCHANGES_PER_PEER: usize = 4;
/// Bytes of the length before a frame.
const PREFIX: u64 = 4;

/// What a stream carries.
#[derive(Debug)]
pub(crate) enum Item {
    /// A frame, encoded.
    Frame(Vec<u8>),
    /// Nothing more comes.
    End,
}

/// One side of an exchange.
pub(crate) struct Talk {
    session: SyncSession,
    side: usize,
    peer: Nx,
    is_ours: bool,
    effects: VecDeque<Effect>,
    waiting: VecDeque<Frame>,
    to_read: Option<(FeedId, FeedPosition, u64)>,
    in_flight: usize,
    finished: bool,
    exchanged: Exchanged,
    put_off: BTreeSet<FeedId>,
    sent: u32,
    taken: u32,
    early: BTreeMap<u32, Item>,
    heard_ms: u64,
}

/// How a side of an exchange ends.
enum Ending {
    Well,
    Early,
}

impl Talk {
    fn new(terms: Terms, side: usize, peer: Nx, now_ms: u64) -> Self {
        Self {
            is_ours: terms.side == Side::Initiator,
            session: SyncSession::new(terms),
            side,
            peer,
            effects: VecDeque::new(),
            waiting: VecDeque::new(),
            to_read: None,
            in_flight: 0,
            finished: false,
            exchanged: Exchanged { stored: 0, deferred: 0 },
            put_off: BTreeSet::new(),
            sent: 0,
            taken: 0,
            early: BTreeMap::new(),
            heard_ms: now_ms,
        }
    }
}

impl World {
    /// A hub wants an exchange.
    pub(crate) fn begin_exchange(&mut self, nx: Nx, link: LinkId) {
        self.tally.exchanges += 1;
        let life = self.nodes[nx].life;
        let side_of = |conn: &Conn| {
            let side = conn.side_of(nx);
            conn.is_open(side).then_some((side, conn.ends[1 - side].nx))
        };
        let Some((side, peer)) = self.conns.get(&link).and_then(side_of) else {
            self.after(0, Event::Failed(nx, life, link));
            return;
        };
        self.given += 1;
        let exchange = self.given;
        let now_ms = self.now_ms;
        let Some(running) = &mut self.nodes[nx].running else { return };
        let own = running.face(peer).snapshot().ends;
        let mut talk = Talk::new(Terms::new(Side::Initiator, own), side, peer, now_ms);
        talk.effects.extend(talk.session.handle(Input::Opened).unwrap_or_default());
        running.talks.insert((link, exchange), talk);
        self.after(SILENCE_MS, Event::Silence { link, side, exchange });
        self.proceed(nx, link, exchange);
    }

    pub(crate) fn exchange_failed(&mut self, nx: Nx, life: u32, link: LinkId) {
        if self.nodes[nx].is_life(life) {
            let community = self.template.community;
            self.hear(nx, HubInput::Exchanged(link, community, None));
        }
    }

    /// Something arrived on a stream, perhaps before what was sent before it.
    pub(crate) fn arrive(&mut self, link: LinkId, to: usize, exchange: u64, seq: u32, item: Item) {
        let Some(conn) = self.conns.get(&link) else { return };
        if conn.over.contains(&(to, exchange)) {
            return;
        }
        let (nx, peer) = (conn.ends[to].nx, conn.ends[1 - to].nx);
        let now_ms = self.now_ms;
        let vice = self.nodes[nx].vice;
        let Some(running) = &mut self.nodes[nx].running else { return };
        if !running.talks.contains_key(&(link, exchange)) {
            let answered = running.talks.iter().filter(|((of, _), talk)| *of == link && !talk.is_ours);
            if answered.count() >= EXCHANGES_PER_PEER || vice == Some(Vice::SlowReader) {
                // Left lying: whoever opened it gives up after a silence.
                return;
            }
            let own = running.face(peer).snapshot().ends;
            let talk = Talk::new(Terms::new(Side::Responder, own), to, peer, now_ms);
            running.talks.insert((link, exchange), talk);
            self.after(SILENCE_MS, Event::Silence { link, side: to, exchange });
        }
        let Some(talk) = self.talk(nx, link, exchange) else { return };
        talk.early.insert(seq, item);
        self.take_early(nx, link, exchange);
    }

    fn talk(&mut self, nx: Nx, link: LinkId, exchange: u64) -> Option<&mut Talk> {
        self.nodes[nx].running.as_mut()?.talks.get_mut(&(link, exchange))
    }

    /// Takes what has come in its order.
    fn take_early(&mut self, nx: Nx, link: LinkId, exchange: u64) {
        let now_ms = self.now_ms;
        while let Some(talk) = self.talk(nx, link, exchange) {
            let Some(item) = talk.early.remove(&talk.taken) else { return };
            talk.taken += 1;
            talk.heard_ms = now_ms;
            let (peer, is_first, is_ours) = (talk.peer, talk.taken == 1, talk.is_ours);
            match item {
                Item::End if talk.session.expects_frames() => {
                    return self.end(nx, link, exchange, Ending::Early);
                }
                Item::End => {}
                Item::Frame(bytes) => {
                    let frame = codec::decode::<Frame>(&bytes, FRAME_BYTES_MAX).ok();
                    let is_welcome = frame
                        .as_ref()
                        .is_some_and(|frame| !is_first || is_ours || self.greets(nx, peer, frame));
                    let Some(frame) = frame.filter(|_| is_welcome) else {
                        self.tally.refused += 1;
                        return self.end(nx, link, exchange, Ending::Early);
                    };
                    if !self.take_frame(nx, link, exchange, frame) {
                        return;
                    }
                    self.give_room(peer, link, exchange);
                }
            }
        }
    }

    /// Whether a first frame is about a community that the peer may ask about:
    /// `mesh::link::respond`.
    fn greets(&self, nx: Nx, peer: Nx, frame: &Frame) -> bool {
        let (Frame::Greeting(Greeting { community, .. }) | Frame::Hello { community, .. }) = frame else {
            return false;
        };
        *community == self.template.community && self.nodes[nx].admits(&self.nodes[peer].device())
    }

    fn take_frame(&mut self, nx: Nx, link: LinkId, exchange: u64, frame: Frame) -> bool {
        let Some(talk) = self.talk(nx, link, exchange) else { return false };
        if !talk.session.expects_frames() {
            return true;
        }
        match talk.session.handle(Input::Frame(frame)) {
            Ok(effects) => {
                talk.effects.extend(effects);
                self.proceed(nx, link, exchange)
            }
            Err(_) => {
                self.tally.refused += 1;
                self.end(nx, link, exchange, Ending::Early);
                false
            }
        }
    }

    /// A frame was read at the other end: the next may go.
    fn give_room(&mut self, peer: Nx, link: LinkId, exchange: u64) {
        if let Some(talk) = self.talk(peer, link, exchange) {
            talk.in_flight = talk.in_flight.saturating_sub(1);
            self.proceed(peer, link, exchange);
        }
    }

    /// Does what a session says until it waits; false once it is over.
    fn proceed(&mut self, nx: Nx, link: LinkId, exchange: u64) -> bool {
        loop {
            match self.step(nx, link, exchange) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(ending) => {
                    self.end(nx, link, exchange, ending);
                    return false;
                }
            }
        }
    }

    /// One step; false where there is nothing to do but wait.
    fn step(&mut self, nx: Nx, link: LinkId, exchange: u64) -> Result<bool, Ending> {
        let vice = self.nodes[nx].vice;
        let Some(running) = &mut self.nodes[nx].running else { return Err(Ending::Early) };
        let Some(talk) = running.talks.get_mut(&(link, exchange)) else { return Err(Ending::Early) };
        let faces = running.faces.len();
        let face = &mut running.faces[talk.peer % faces];
        if let Some(effect) = talk.effects.pop_front() {
            match effect {
                Effect::Send(frame) => talk.waiting.push_back(frame),
                Effect::Read { feed, tip, after_seq } => talk.to_read = Some((feed, tip, after_seq)),
                Effect::Compare(known) => {
                    let comparison = face.compare(&known).expect("the store works");
                    talk.effects.extend(or_early(talk.session.handle(Input::Compared(comparison)))?);
                }
                Effect::Ingest(run) => {
                    let count = run.run.changes.len();
                    let ingested = face.ingest_line(run.clone());
                    self.ingested(nx, link, exchange, &run, count, ingested)?;
                }
                Effect::Finish => talk.finished = true,
            }
            return Ok(true);
        }
        if talk.finished && talk.waiting.is_empty() {
            return Err(Ending::Well);
        }
        if talk.in_flight >= FRAMES_IN_FLIGHT {
            return Ok(false);
        }
        if let Some(frame) = talk.waiting.pop_front() {
            talk.in_flight += 1;
            self.send_frame(nx, link, exchange, frame);
            return Ok(true);
        }
        let Some((feed, tip, after_seq)) = talk.to_read.take() else { return Ok(false) };
        let mut run = face.read_line(&feed, &tip, after_seq).expect("the store works");
        if vice == Some(Vice::Withholder) {
            let me = self.nodes[nx].person.device();
            run = run.filter(|_| feed.device == me);
        }
        let Some(talk) = self.talk(nx, link, exchange) else { return Err(Ending::Early) };
        talk.effects.extend(or_early(talk.session.handle(Input::Read(run)))?);
        Ok(true)
    }

    fn send_frame(&mut self, nx: Nx, link: LinkId, exchange: u64, frame: Frame) {
        let frames = self.twisted(nx, frame);
        for bytes in frames {
            self.tally.frames += 1;
            self.tally.frame_bytes += bytes.len() as u64 + PREFIX;
            self.send_item(nx, link, exchange, Item::Frame(bytes));
        }
    }

    fn send_item(&mut self, nx: Nx, link: LinkId, exchange: u64, item: Item) {
        let Some(talk) = self.talk(nx, link, exchange) else { return };
        let (seq, to) = (talk.sent, 1 - talk.side);
        talk.sent += 1;
        self.send(link, to, exchange, seq, item);
    }

    fn ingested(
        &mut self,
        nx: Nx,
        link: LinkId,
        exchange: u64,
        run: &LineRun,
        count: usize,
        ingested: Result<Ingested, ReplicaError>,
    ) -> Result<(), Ending> {
        let feed = run.run.feed;
        let Some(talk) = self.talk(nx, link, exchange) else { return Err(Ending::Early) };
        let is_dealt_with = match ingested {
            Ok(Ingested::Stored(stored)) => {
                talk.exchanged.stored += stored;
                self.tally.stored += count as u64;
                self.changed(nx);
                true
            }
            Ok(Ingested::Known) => true,
            Ok(Ingested::Deferred) => {
                talk.exchanged.deferred += 1;
                talk.put_off.insert(feed);
                false
            }
            Err(ReplicaError::Rejected(Rejection::OutOfPlace { .. })) if talk.put_off.contains(&feed) => true,
            Err(ReplicaError::Rejected(_) | ReplicaError::OtherCommunity) => {
                self.tally.refused += 1;
                false
            }
            Err(error) => panic!("seed {}: {error}", self.seed),
        };
        if !is_dealt_with && let Some(talk) = self.talk(nx, link, exchange) {
            talk.effects.extend(or_early(talk.session.handle(Input::PutOff))?);
        }
        Ok(())
    }

    pub(crate) fn silence(&mut self, link: LinkId, side: usize, exchange: u64) {
        let Some(conn) = self.conns.get(&link) else { return };
        let nx = conn.ends[side].nx;
        let now_ms = self.now_ms;
        let Some(talk) = self.talk(nx, link, exchange) else { return };
        let due_ms = talk.heard_ms + SILENCE_MS;
        if due_ms <= now_ms {
            self.end(nx, link, exchange, Ending::Early);
        } else {
            self.at(due_ms, Event::Silence { link, side, exchange });
        }
    }

    fn end(&mut self, nx: Nx, link: LinkId, exchange: u64, ending: Ending) {
        self.send_item(nx, link, exchange, Item::End);
        let Some(running) = &mut self.nodes[nx].running else { return };
        let Some(talk) = running.talks.remove(&(link, exchange)) else { return };
        if let Some(conn) = self.conns.get_mut(&link) {
            conn.over.insert((talk.side, exchange));
        }
        if talk.is_ours {
            let outcome = matches!(ending, Ending::Well).then_some(talk.exchanged);
            self.hear(nx, HubInput::Exchanged(link, self.template.community, outcome));
        }
    }

    /// A connection is gone, and with it all that ran on it.
    pub(crate) fn end_talks_on(&mut self, nx: Nx, link: LinkId) {
        let Some(running) = &mut self.nodes[nx].running else { return };
        let on: Vec<_> = running.talks.keys().filter(|(of, _)| *of == link).copied().collect();
        for (link, exchange) in on {
            self.end(nx, link, exchange, Ending::Early);
        }
    }
}

fn or_early<T>(result: Result<T, Violation>) -> Result<T, Ending> {
    result.map_err(|_| Ending::Early)
}
