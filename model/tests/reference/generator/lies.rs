//! What dishonest peers write.

use exo_model::ChangeHash;
use exo_model::charter::role::Role;
use exo_model::event::CharterEvent as E;
use exo_model::feed::Stream;
use exo_model::feed::fence::{Fence, FenceEntry};

use super::{Actor, Bits, World};
use crate::reference::guess::Deed;
use crate::reference::signing;

impl World<'_> {
    pub(super) fn lie(&mut self) {
        let peer = self.random.below(self.peers.len());
        match self.random.below(12) {
            0..4 => self.back_date(peer),
            4 => self.fork(),
            5 => self.act_without_right(peer),
            6 => self.replay(peer),
            7 => self.crooked_fence(peer),
            8 => self.false_admission(peer),
            9 => self.go_on_after_the_end(),
            10 => self.false_word(peer),
            _ => {
                if self.random.percent(30) {
                    self.cite_what_is_missing(peer);
                }
            }
        }
    }

    /// Acts as if most of the history had not happened. Its own feed it cannot
    /// deny.
    fn back_date(&mut self, peer: usize) {
        let now = self.peers[peer].view;
        self.peers[peer].view = now.before(self.random.below(self.acts.len()) + 1);
        if let Some(tip) = self.peers[peer].tip {
            let own = self.past[tip];
            self.peers[peer].view.union(&own);
            self.peers[peer].view.insert(tip);
        }
        let actor = self.actor(peer);
        if actor.role.is_some() {
            self.act(&actor);
        }
        self.peers[peer].view.union(&now);
    }

    /// Writes a second change at a place of its own feed.
    pub(super) fn fork(&mut self) {
        let writers: Vec<usize> =
            (0..self.peers.len()).filter(|peer| self.peers[*peer].tip.is_some()).collect();
        let Some(peer) = self.random.pick(&writers) else { return };
        let own: Vec<usize> =
            self.deeds.iter().enumerate().filter(|(_, deed)| deed.device == peer).map(|(at, _)| at).collect();
        // Late places mostly: an early fork takes a whole life with it.
        let late = &own[own.len() - own.len().min(2)..];
        let places = if self.random.percent(80) { late } else { &own };
        let Some(at) = self.random.pick(places) else { return };
        if at == 0 {
            return; // Two foundings would be two communities.
        }
        let zeros = ChangeHash::from_bytes([0; 32]);
        let before = self.acts[at].previous;
        let previous = (before != zeros).then(|| self.acts.iter().position(|act| act.id == before)).flatten();
        let (view, tip) = (self.peers[peer].view, self.peers[peer].tip);
        self.peers[peer].tip = previous;
        self.peers[peer].view = self.past[at];
        let first_new = self.acts.len();
        let actor = self.actor(peer);
        for _ in 0..3 {
            if self.acts.len() == first_new {
                self.act(&actor);
            }
        }
        let written = self.acts.get(first_new).is_some_and(|act| act.device == self.peers[peer].id);
        let place = |act: usize| (self.acts[act].segment, self.acts[act].seq);
        if written && self.acts[first_new].previous == before && place(first_new) == place(at) {
            self.forks.push((at, first_new));
        }
        if !written || self.random.percent(60) {
            self.peers[peer].tip = tip;
        }
        self.peers[peer].view.union(&view);
    }

    fn act_without_right(&mut self, peer: usize) {
        let mut actor = self.actor(peer);
        actor.role = Some(Role::Owner);
        match self.random.below(4) {
            0 => {
                self.set_role(peer, actor.person, Role::Owner);
            }
            1 => {
                let person = self.random.below(self.people.len());
                self.remove(peer, person, true);
            }
            2 => {
                self.invite(peer, 3, Role::Admin);
            }
            _ => self.act(&actor),
        }
    }

    /// Says what another said, word for word.
    fn replay(&mut self, peer: usize) {
        let at = self.random.below(self.acts.len());
        let event = self.acts[at].event.clone();
        let deed = self.deeds[at].deed.clone();
        let deed = if matches!(deed, Deed::Founded { .. }) { Deed::Other } else { deed };
        self.write(peer, event, deed);
    }

    /// A removal whose fence is too low, leads elsewhere, or names the future.
    fn crooked_fence(&mut self, peer: usize) {
        let actor = self.actor(peer);
        let lower: Vec<usize> =
            actor.guess.members().filter(|person| actor.guess.role[*person] <= actor.role).collect();
        let Some(person) = self.random.pick(&lower) else { return };
        if person == actor.person {
            return;
        }
        let mut everything = Bits::default();
        (0..self.acts.len()).for_each(|at| everything.insert(at));
        let honest = self.fence(&self.peers[peer].view, |device| self.holders[device] == person);
        let ahead = self.fence(&everything, |device| self.holders[device] == person);
        let random_head = ChangeHash::from_bytes(self.random.bytes());
        let fence = match self.random.below(6) {
            0 => Fence::default(),
            1 => ahead,
            2 => Fence::new(honest.entries().iter().map(|entry| FenceEntry { seq: 1, ..*entry })),
            3 => Fence::new(honest.entries().iter().map(|entry| FenceEntry { head: random_head, ..*entry })),
            4 => Fence::new(honest.entries().iter().skip(1).copied()),
            _ => {
                let other = self.random.below(self.acts.len());
                let head = self.acts[other].id;
                let entries = honest.entries().iter().map(|entry| FenceEntry { head, ..*entry });
                let foreign = FenceEntry { stream: Stream::Ledger, ..self.entry(other) };
                Fence::new(entries.chain([foreign]))
            }
        };
        let person_id = self.people[person];
        let removed = E::Removed { person: person_id, ban: false, reason: "because".to_owned(), fence };
        self.write(peer, removed, Deed::Removed { person });
    }

    /// On an invite that is not there or used up, of a device that is known,
    /// for a person who is in, or with a stolen proof.
    fn false_admission(&mut self, peer: usize) {
        if !self.has_room() {
            return;
        }
        let person = self.random.below(self.people.len());
        match self.random.below(4) {
            0 => {
                let invite = self.invites + 7;
                self.admit(peer, person, invite, Vec::new());
            }
            1 => {
                let invite = self.random.below(self.invites);
                self.admit(peer, person, invite, Vec::new());
            }
            2 => {
                let (device, invite) = (self.random.below(self.peers.len()), self.random.below(self.invites));
                self.admit_device(peer, person, device, invite, Vec::new());
            }
            _ => {
                let admissions: Vec<usize> = (0..self.acts.len())
                    .filter(|at| matches!(self.acts[*at].event, E::Admitted { .. }))
                    .collect();
                let Some(at) = self.random.pick(&admissions) else { return };
                let mut event = self.acts[at].event.clone();
                if let E::Admitted { name, .. } = &mut event {
                    name.push('!');
                }
                self.write(peer, event, Deed::Other);
            }
        }
    }

    /// A device that was revoked, or whose person is gone, goes on.
    fn go_on_after_the_end(&mut self) {
        let gone: Vec<usize> = (0..self.peers.len())
            .filter(|peer| self.peers[*peer].tip.is_some() && self.actor(*peer).role.is_none())
            .collect();
        if let Some(peer) = self.random.pick(&gone) {
            let actor = Actor { role: Some(Role::Admin), ..self.actor(peer) };
            self.act(&actor);
        }
    }

    /// A device enrolled, or revoked, or a fork proven, on nobody's word.
    fn false_word(&mut self, peer: usize) {
        if !self.has_room() {
            return;
        }
        let person = self.random.below(self.people.len());
        let target = self.random.below(self.peers.len());
        match self.random.below(3) {
            0 => {
                let device = self.new_peer(person);
                let own = self.peers[peer].id;
                let id = self.peers[device].id;
                let certificate =
                    signing::certificate(self.keys, self.people[person], id, Some(own), self.serial());
                let deed =
                    if self.holders[peer] == person { Deed::DeviceAdded { device } } else { Deed::Other };
                self.write(peer, E::DeviceAdded { certificate }, deed);
            }
            1 => {
                let fence = self.fence(&self.peers[peer].view, |device| device == target);
                let id = self.peers[target].id;
                // The word of another person's phrase.
                let liar = self.people[person];
                let phrase = signing::phrase_revocation(self.keys, self.community, liar, id, &fence);
                self.write(peer, E::DeviceRevoked { device: id, fence, phrase: Some(phrase) }, Deed::Other);
            }
            _ => {
                let (one, other) = (self.random.below(self.acts.len()), self.random.below(self.acts.len()));
                let act = &self.acts[one];
                let (place, hashes) = ((act.segment, act.seq), (act.id, self.acts[other].id));
                let signer = self.peers[peer].id;
                let mut proof =
                    signing::fork_proof(self.keys, self.community, signer, Stream::Charter, place, hashes);
                if let exo_model::feed::equivocation::EquivocationProof::Fork { feed, .. } = &mut proof {
                    feed.device = self.peers[target].id;
                }
                if target != peer {
                    let proven =
                        E::EquivocationProven { proof, fence: Fence::default(), settled: Vec::new() };
                    self.write(peer, proven, Deed::Other);
                }
            }
        }
    }

    /// What rests on a change that nobody has waits for ever.
    fn cite_what_is_missing(&mut self, peer: usize) {
        let actor = self.actor(peer);
        let at = self.acts.len();
        self.act(&actor);
        let missing = ChangeHash::from_bytes(self.random.bytes());
        if let Some(act) = self.acts.get_mut(at) {
            act.heads.push(missing);
            act.heads.sort_unstable();
        }
    }
}
