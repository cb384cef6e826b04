//! Short courses of events that chance alone would seldom hit upon.

use exo_model::charter::role::Role;
use exo_model::event::CharterEvent as E;

use super::{Actor, World, channel_id};
use crate::reference::guess::Deed;

impl World<'_> {
    pub(super) fn story(&mut self) {
        match self.random.below(10) {
            0 => self.ring(2),
            1 => self.ring(3),
            2 => self.comes_back(),
            3 => self.removed_and_brought_back_elsewhere(),
            4 => self.owners_leave(),
            5 => self.one_invite_for_two(),
            6 => self.devices_revoke_each_other(),
            7 => self.fork_and_proof(),
            8 => self.two_rooms_of_one_name(),
            _ => self.removal_with_signatures(),
        }
    }

    /// A peer that speaks for each person, as far as it believes itself.
    fn speakers(&mut self) -> Vec<Actor> {
        let mut peers: Vec<usize> = (0..self.peers.len()).collect();
        self.random.shuffle(&mut peers);
        let mut speakers: Vec<Actor> = Vec::new();
        for peer in peers.into_iter().take(12) {
            let actor = self.actor(peer);
            if actor.role.is_some() && speakers.iter().all(|other| other.person != actor.person) {
                speakers.push(actor);
            }
        }
        speakers
    }

    fn speaker(&mut self, least: Role) -> Option<Actor> {
        self.speakers().into_iter().find(|actor| actor.role >= Some(least))
    }

    /// Each removes the next, and none has heard of it; others of the rank
    /// sign, some of them more than one.
    fn ring(&mut self, size: usize) {
        let speakers = self.speakers();
        let Some(rank) = [Role::Admin, Role::Moderator, Role::Owner]
            .into_iter()
            .find(|rank| speakers.iter().filter(|actor| actor.role == Some(*rank)).count() >= size)
        else {
            return;
        };
        let equals: Vec<&Actor> = speakers.iter().filter(|actor| actor.role == Some(rank)).collect();
        let mut removals = Vec::new();
        for (at, actor) in equals[..size].iter().enumerate() {
            let ban = self.random.percent(20);
            if let Some(removal) = self.remove(actor.peer, equals[(at + 1) % size].person, ban) {
                removals.push((actor.peer, removal));
            }
        }
        for (remover, removal) in removals {
            for signer in &equals {
                if signer.peer != remover && self.random.percent(60) {
                    self.hears(signer.peer, remover);
                    self.sign(signer.peer, removal);
                }
            }
        }
    }

    /// A removal among equals that gets about as many signatures as it needs.
    fn removal_with_signatures(&mut self) {
        let Some(author) = self.speaker(Role::Moderator) else { return };
        let Some(rank) = author.role else { return };
        let equals: Vec<usize> =
            author.guess.people_of(rank).filter(|person| *person != author.person).collect();
        let Some(subject) = self.random.pick(&equals) else { return };
        let act = if self.random.percent(70) || rank == Role::Moderator {
            self.remove(author.peer, subject, false)
        } else {
            self.set_role(author.peer, subject, Role::Member)
        };
        let Some(act) = act else { return };
        let mut signers: Vec<usize> = (0..self.peers.len())
            .filter(|peer| equals.contains(&self.holders[*peer]) && self.holders[*peer] != subject)
            .collect();
        self.random.shuffle(&mut signers);
        let enough = equals.len().div_ceil(2);
        for signer in signers.into_iter().take(enough) {
            self.hears(signer, author.peer);
            self.sign(signer, act);
        }
    }

    /// A removed person is let in again on a new invite.
    fn comes_back(&mut self) {
        let Some(host) = self.speaker(Role::Moderator) else { return };
        let removed: Vec<usize> =
            (0..self.people.len()).filter(|person| !host.guess.removals[*person].is_empty()).collect();
        let Some(person) = self.random.pick(&removed) else { return };
        if let Some(invite) = self.invite(host.peer, 1, Role::Member) {
            self.admit(host.peer, person, invite, host.guess.removals[person].clone());
        }
    }

    /// One removes a person; a friend of theirs, apart, removes them too and
    /// lets them in again at once.
    fn removed_and_brought_back_elsewhere(&mut self) {
        let speakers = self.speakers();
        let mut mighty = speakers.iter().filter(|actor| actor.role >= Some(Role::Moderator));
        let (Some(one), Some(friend)) = (mighty.next(), mighty.next()) else { return };
        let lower: Vec<usize> = (0..self.people.len())
            .filter(|person| {
                let role = friend.guess.role[*person];
                role.is_some() && role < friend.role && role < one.role
            })
            .collect();
        let Some(person) = self.random.pick(&lower) else { return };
        self.remove(one.peer, person, false);
        let Some(removal) = self.remove(friend.peer, person, false) else { return };
        if let Some(invite) = self.invite(friend.peer, 1, Role::Member) {
            self.admit(friend.peer, person, invite, vec![removal]);
        }
    }

    /// All owners leave; the next in rank choose one of them.
    fn owners_leave(&mut self) {
        if !self.random.percent(35) {
            return;
        }
        let Some(someone) = self.speakers().pop() else { return };
        let owners: Vec<usize> = someone.guess.people_of(Role::Owner).collect();
        let mut gone = Vec::new();
        for owner in owners {
            if let Some(peer) = (0..self.peers.len()).find(|peer| self.holders[*peer] == owner) {
                self.leave(peer);
                gone.push(peer);
            }
        }
        for peer in 0..self.peers.len() {
            if gone.iter().any(|gone| self.holders[*gone] == self.holders[peer]) {
                continue;
            }
            gone.iter().for_each(|left| self.hears(peer, *left));
        }
        self.choose_an_owner();
    }

    fn choose_an_owner(&mut self) {
        let speakers = self.speakers();
        let Some(author) = speakers.iter().find(|actor| !actor.guess.has_owner()) else { return };
        let Some(rank) = author.guess.highest() else { return };
        let equals: Vec<&Actor> = speakers.iter().filter(|actor| actor.role == Some(rank)).collect();
        let (Some(author), Some(heir)) = (equals.first(), equals.last()) else { return };
        let Some(act) = self.set_role(author.peer, heir.person, Role::Owner) else { return };
        for signer in &equals[1..] {
            if self.random.percent(70) {
                self.hears(signer.peer, author.peer);
                self.sign(signer.peer, act);
            }
        }
    }

    /// Two hosts, apart, let two people in with an invite for one.
    fn one_invite_for_two(&mut self) {
        let Some(issuer) = self.speaker(Role::Moderator) else { return };
        let Some(invite) = self.invite(issuer.peer, 1, Role::Member) else { return };
        let outside: Vec<usize> =
            (0..self.people.len()).filter(|person| issuer.guess.role[*person].is_none()).collect();
        let hosts: Vec<usize> = self
            .speakers()
            .iter()
            .filter(|host| host.role >= Some(Role::Member))
            .map(|host| host.peer)
            .collect();
        for host in hosts.into_iter().take(2) {
            if let Some(person) = self.random.pick(&outside) {
                self.hears(host, issuer.peer);
                self.admit(host, person, invite, issuer.guess.removals[person].clone());
            }
        }
    }

    fn devices_revoke_each_other(&mut self) {
        for actor in self.speakers() {
            let own: Vec<usize> =
                (0..self.peers.len()).filter(|device| self.holders[*device] == actor.person).collect();
            if own.len() > 1 {
                for device in &own {
                    let other = own[self.random.below(own.len())];
                    let with_phrase = self.random.percent(20);
                    self.revoke(*device, other, with_phrase);
                }
                return;
            }
        }
    }

    /// Someone says two things at one place, and someone else notices.
    fn fork_and_proof(&mut self) {
        self.fork();
        let Some((one, other)) = self.forks.last().copied() else { return };
        let Some(prover) = self.speaker(Role::Guest) else { return };
        for branch in [one, other] {
            let seen = self.past[branch];
            self.peers[prover.peer].view.union(&seen);
            self.peers[prover.peer].view.insert(branch);
        }
        self.prove(prover.peer, (one, other));
    }

    /// Two make a channel of one name, apart; a third act goes on with one.
    fn two_rooms_of_one_name(&mut self) {
        let hosts = self.speakers().into_iter().filter(|host| host.role >= Some(Role::Admin));
        for mut host in hosts.take(2).collect::<Vec<_>>() {
            let channel = self.channels;
            self.channels += 1;
            let (name, closed) = ("room 0".to_owned(), self.random.percent(80));
            let created = E::ChannelCreated { channel: channel_id(channel), name, closed, guests: false };
            self.write(host.peer, created, Deed::Channel { channel });
            host.guess.channels = vec![channel];
            let mut deed = Deed::Other;
            let event = self.channel_act(&host, &mut deed);
            self.write(host.peer, event, deed);
        }
    }
}
