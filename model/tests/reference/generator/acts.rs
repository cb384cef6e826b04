//! Single acts, as an honest peer would write them.

use exo_model::ChangeHash;
use exo_model::InviteKey;
use exo_model::amount::Amount;
use exo_model::charter::role::Role;
use exo_model::charter::settings::Setting;
use exo_model::event::CharterEvent as E;
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::event::keys::Audience;
use exo_model::feed::Stream;
use exo_model::feed::fence::{Fence, FenceEntry};
use exo_model::trust::TrustLevel;

use super::{Actor, Bits, INVITE_KEYS, World, channel_id};
use crate::reference::charter::CharterAct;
use crate::reference::guess::Deed;
use crate::reference::signing;

impl World<'_> {
    /// One act that makes sense to its author.
    pub(super) fn act(&mut self, actor: &Actor) {
        let role = actor.role.unwrap_or(Role::Guest);
        match self.random.below(100) {
            0..18 => self.sign_something(actor),
            18..30 => self.admit_someone(actor),
            30..38 if role >= Role::Moderator || actor.guess.members_invite || self.random.percent(10) => {
                let uses = [1, 1, 2, 5][self.random.below(4)];
                let gives = [Role::Member, Role::Member, Role::Guest, Role::Keeper][self.random.below(4)];
                self.invite(actor.peer, uses, gives);
            }
            38..50 if role >= Role::Moderator => self.remove_someone(actor),
            50..64 if role >= Role::Admin || !actor.guess.has_owner() => self.set_a_role(actor),
            64..70 => self.add_device(actor),
            70..75 => self.revoke_a_device(actor),
            75..77 => {
                self.leave(actor.peer);
            }
            77..80 if role >= Role::Member => {
                let open: Vec<usize> = (0..actor.guess.invites.len()).collect();
                if let Some(invite) = self.random.pick(&open) {
                    let revoked = E::InviteRevoked { key: self.invite_key(invite) };
                    self.write(actor.peer, revoked, Deed::InviteRevoked { invite });
                }
            }
            80..84 => self.prove_a_fork(actor.peer),
            _ => self.small_act(actor),
        }
    }

    /// One of the acts that only set a value. Mostly one that its author may do.
    pub(super) fn small_act(&mut self, actor: &Actor) {
        let kinds = match actor.role {
            _ if self.random.percent(10) => 16,
            Some(Role::Owner) => 16,
            Some(Role::Admin) => 12,
            Some(Role::Moderator) => 5,
            Some(Role::Member) => 3,
            _ => 1,
        };
        let subject = self.people[self.random.below(self.people.len())];
        let mut deed = Deed::Other;
        let event = match self.random.below(kinds) {
            0 => E::ProfileSet { name: format!("Name {}", self.random.below(9)), about: "here".to_owned() },
            1 => E::Vouched { person: subject, ground: VouchGround::Known },
            2 => E::VouchWithdrawn { person: subject },
            3 => {
                let message = ChangeHash::from_bytes([self.random.bytes::<1>()[0] % 3; 32]);
                let hidden = self.random.percent(65);
                E::MessageHidden { author: subject, message, hidden, reason: String::new() }
            }
            4 => {
                let report = ChangeHash::from_bytes([9; 32]);
                let outcome = [ReportOutcome::Dismissed, ReportOutcome::Warned][self.random.below(2)];
                E::ReportDecided { report, subject, outcome, note: String::new() }
            }
            5 => E::TrustSet { person: subject, level: self.trust() },
            6 => E::HistoryGranted { person: subject, audience: Audience::Members },
            7..12 => self.channel_act(actor, &mut deed),
            12 | 13 => {
                let amount = Amount::from_token_mib([300, 700, 1_000][self.random.below(3)]);
                E::Allotted { person: subject, amount, note: String::new() }
            }
            14 => {
                let may = self.random.percent(60);
                deed = Deed::MembersInvite(may);
                E::SettingChanged { setting: Setting::MembersInvite(may) }
            }
            _ if self.random.percent(50) => {
                E::RulesAdopted { version: 1 + u32::from(self.random.bytes::<1>()[0] % 3) }
            }
            _ => {
                let floor = Amount::from_token_mib(-[0, 500, 2_000][self.random.below(3)]);
                E::SettingChanged { setting: Setting::CommunityFloor(floor) }
            }
        };
        self.write(actor.peer, event, deed);
    }

    pub(super) fn channel_act(&mut self, actor: &Actor, deed: &mut Deed) -> E {
        let name = format!("room {}", self.random.below(4));
        let (yes, seldom) = (self.random.percent(70), self.random.percent(20));
        let known = self.random.pick(&actor.guess.channels).filter(|_| self.random.percent(60));
        match known.or(seldom.then_some(99)) {
            Some(no) if yes => {
                let (subject, other) =
                    (self.random.below(self.people.len()), self.random.below(self.people.len()));
                let people = vec![self.people[subject], self.people[other]];
                let (add, remove) = if seldom { (Vec::new(), people) } else { (people, Vec::new()) };
                E::ChannelPeople { channel: channel_id(no), add, remove }
            }
            Some(no) => E::ChannelChanged { channel: channel_id(no), name, archived: seldom },
            None => {
                let channel = if seldom { 0 } else { self.channels };
                self.channels += 1;
                *deed = Deed::Channel { channel };
                E::ChannelCreated { channel: channel_id(channel), name, closed: yes, guests: seldom }
            }
        }
    }

    // Single acts, also used by stories and lies

    pub(super) fn trust(&mut self) -> TrustLevel {
        [TrustLevel::Public, TrustLevel::Known, TrustLevel::Friends][self.random.below(3)]
    }

    pub(super) fn invite_key(&self, invite: usize) -> InviteKey {
        InviteKey::from_bytes(self.keys.public(INVITE_KEYS + invite as u64))
    }

    pub(super) fn invite(&mut self, peer: usize, uses: u32, role: Role) -> Option<usize> {
        let invite = self.invites;
        self.invites += 1;
        let trust = if self.random.percent(70) { TrustLevel::Public } else { self.trust() };
        let issued = E::InviteIssued { key: self.invite_key(invite), uses, expires_ms: 0, role, trust };
        self.write(peer, issued, Deed::Invite { invite, uses, role })?;
        Some(invite)
    }

    /// Admits a person with a new device, which then has seen what its host
    /// has.
    pub(super) fn admit(
        &mut self,
        host: usize,
        person: usize,
        invite: usize,
        lifts: Vec<usize>,
    ) -> Option<usize> {
        if !self.has_room() {
            return None;
        }
        let device = self.new_peer(person);
        self.admit_device(host, person, device, invite, lifts)?;
        self.hears(device, host);
        self.peers[device].group = self.peers[host].group;
        Some(device)
    }

    pub(super) fn admit_device(
        &mut self,
        host: usize,
        person: usize,
        device: usize,
        invite: usize,
        lifts: Vec<usize>,
    ) -> Option<usize> {
        let certificate =
            signing::certificate(self.keys, self.people[person], self.peers[device].id, None, 1);
        let name = format!("Person {person}");
        let key = self.invite_key(invite);
        let proof = signing::invite_proof(self.keys, self.community, key, &certificate, &name);
        let named = lifts.iter().map(|at| self.acts[*at].id).collect();
        let admitted = E::Admitted { certificate, name, invite: key, proof, lifts: named };
        self.write(host, admitted, Deed::Admitted { person, device, invite, lifts })
    }

    pub(super) fn admit_someone(&mut self, host: &Actor) {
        let outside: Vec<usize> =
            (0..self.people.len()).filter(|person| host.guess.role[*person].is_none()).collect();
        let Some(person) = self.random.pick(&outside) else { return };
        let lifts = host.guess.removals[person].clone();
        let knows = |issued: usize| lifts.iter().all(|removal| self.past[issued].contains(*removal));
        let open: Vec<usize> = (0..host.guess.invites.len())
            .filter(|invite| {
                host.guess.invites[*invite].is_some_and(|(issued, uses, _)| uses > 0 && knows(issued))
            })
            .collect();
        match self.random.pick(&open) {
            Some(invite) => {
                self.admit(host.peer, person, invite, lifts);
            }
            None => {
                self.invite(host.peer, 1, Role::Member);
            }
        }
    }

    /// What the peer has seen of a person's, or one device's, charter feeds.
    pub(super) fn fence(&self, view: &Bits, of: impl Fn(usize) -> bool) -> Fence {
        let mut ends: Vec<Option<usize>> = vec![None; self.peers.len()];
        for at in view.iter() {
            let device = self.deeds[at].device;
            let place = |at: usize| (self.acts[at].segment, self.acts[at].seq);
            if of(device) && ends[device].is_none_or(|end| place(end) < place(at)) {
                ends[device] = Some(at);
            }
        }
        Fence::new(ends.into_iter().flatten().map(|at| self.entry(at)))
    }

    pub(super) fn entry(&self, at: usize) -> FenceEntry {
        let CharterAct { id, device, segment, seq, .. } = self.acts[at];
        FenceEntry { device, stream: Stream::Charter, segment, seq, head: id }
    }

    pub(super) fn remove(&mut self, peer: usize, person: usize, ban: bool) -> Option<usize> {
        let fence = self.fence(&self.peers[peer].view, |device| self.holders[device] == person);
        let removed = E::Removed { person: self.people[person], ban, reason: String::new(), fence };
        self.write(peer, removed, Deed::Removed { person })
    }

    pub(super) fn remove_someone(&mut self, actor: &Actor) {
        let others: Vec<usize> = actor
            .guess
            .members()
            .filter(|person| *person != actor.person && actor.guess.role[*person] <= actor.role)
            .collect();
        if let Some(person) = self.random.pick(&others) {
            let ban = self.random.percent(30);
            self.remove(actor.peer, person, ban);
        }
    }

    pub(super) fn leave(&mut self, peer: usize) -> Option<usize> {
        let person = self.peers[peer].person;
        let fence = self.fence(&self.peers[peer].view, |device| self.holders[device] == person);
        self.write(peer, E::Left { fence }, Deed::Left)
    }

    pub(super) fn set_role(&mut self, peer: usize, person: usize, role: Role) -> Option<usize> {
        let set = E::RoleSet { person: self.people[person], role };
        self.write(peer, set, Deed::RoleSet { person, role })
    }

    pub(super) fn set_a_role(&mut self, actor: &Actor) {
        let bold = self.random.percent(25);
        let lower: Vec<usize> =
            actor.guess.members().filter(|person| bold || actor.guess.role[*person] < actor.role).collect();
        let Some(person) = self.random.pick(&lower) else { return };
        let role = if actor.guess.has_owner() {
            let roles = [Role::Member, Role::Moderator, Role::Admin, Role::Guest, Role::Owner];
            roles[self.random.below(if actor.role == Some(Role::Owner) || bold { 5 } else { 2 })]
        } else {
            Role::Owner
        };
        self.set_role(actor.peer, person, role);
    }

    pub(super) fn sign(&mut self, peer: usize, act: usize) -> Option<usize> {
        self.write(peer, E::CoSigned { act: self.acts[act].id }, Deed::CoSigned { act })
    }

    pub(super) fn sign_something(&mut self, actor: &Actor) {
        let open: Vec<usize> = (actor.guess.wants_signatures.iter())
            .filter(|pending| pending.is_open() && Some(pending.rank) == actor.role)
            .filter(|pending| {
                pending.against != Some(actor.person) && !pending.signers.contains(&actor.person)
            })
            .map(|pending| pending.act)
            .collect();
        if let Some(act) = self.random.pick(&open) {
            self.sign(actor.peer, act);
        }
    }

    pub(super) fn add_device(&mut self, actor: &Actor) {
        let own = self.holders.iter().filter(|holder| **holder == actor.person).count();
        if own >= self.shape.devices_max || !self.has_room() {
            return;
        }
        let device = self.new_peer(actor.person);
        let enroller = self.random.percent(60).then_some(self.peers[actor.peer].id);
        let id = self.peers[device].id;
        let certificate =
            signing::certificate(self.keys, self.people[actor.person], id, enroller, self.serial());
        // The phrase's word may be posted by anyone.
        let poster = match enroller {
            None if self.random.percent(40) => self.random.below(device),
            _ => actor.peer,
        };
        self.write(poster, E::DeviceAdded { certificate }, Deed::DeviceAdded { device });
        self.hears(device, poster);
    }

    pub(super) fn revoke_a_device(&mut self, actor: &Actor) {
        let own: Vec<usize> = (0..self.peers.len())
            .filter(|device| self.holders[*device] == actor.person && actor.guess.enrolled[*device])
            .collect();
        if let Some(device) = self.random.pick(&own)
            && own.len() > 1
        {
            let with_phrase = self.random.percent(30);
            self.revoke(actor.peer, device, with_phrase);
        }
    }

    pub(super) fn revoke(&mut self, peer: usize, device: usize, with_phrase: bool) -> Option<usize> {
        let fence = self.fence(&self.peers[peer].view, |other| other == device);
        let (id, person) = (self.peers[device].id, self.people[self.holders[device]]);
        let phrase =
            with_phrase.then(|| signing::phrase_revocation(self.keys, self.community, person, id, &fence));
        let revoked = E::DeviceRevoked { device: id, fence, phrase };
        self.write(peer, revoked, Deed::DeviceRevoked { device })
    }

    /// Proves a fork of which the peer has seen both sides.
    pub(super) fn prove_a_fork(&mut self, peer: usize) {
        let view = self.peers[peer].view;
        let seen: Vec<(usize, usize)> = (self.forks.iter().copied())
            .filter(|(one, other)| view.contains(*one) && view.contains(*other))
            .collect();
        if let Some(fork) = self.random.pick(&seen) {
            self.prove(peer, fork);
        }
    }

    pub(super) fn prove(&mut self, peer: usize, (one, other): (usize, usize)) -> Option<usize> {
        let device = self.deeds[one].device;
        let act = &self.acts[one];
        let (place, hashes) = ((act.segment, act.seq), (act.id, self.acts[other].id));
        let stream = if self.random.percent(10) { Stream::Ledger } else { Stream::Charter };
        let proof =
            signing::fork_proof(self.keys, self.community, self.peers[device].id, stream, place, hashes);
        let view = self.peers[peer].view;
        // One of the lines, or what was before them.
        let fence = match self.random.below(4) {
            0 => Fence::new([self.entry(one)]),
            1 => Fence::new([self.entry(other)]),
            2 => self.fence(&view, |d| d == device),
            _ => self.fence(&view.before(one.min(other)), |d| d == device),
        };
        let proven = E::EquivocationProven { proof, fence, settled: Vec::new() };
        self.write(peer, proven, Deed::ForkProven { device })
    }
}
