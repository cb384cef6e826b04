//! What a simulated peer believes about the community: one quick pass over its
//! view, in the order of writing. Right often enough to act sensibly on, and
//! wrong often enough to make trouble; it decides nothing.

use exo_model::charter::role::Role;

use super::generator::Bits;

/// An event of a history, by the numbers of those in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Founded { members_invite: bool },
    Invite { invite: usize, uses: u32, role: Role },
    InviteRevoked { invite: usize },
    Admitted { person: usize, device: usize, invite: usize, lifts: Vec<usize> },
    Left,
    Removed { person: usize },
    CoSigned { act: usize },
    RoleSet { person: usize, role: Role },
    DeviceAdded { device: usize },
    DeviceRevoked { device: usize },
    ForkProven { device: usize },
    MembersInvite(bool),
    Channel { channel: usize },
    Other,
}

/// A deed and the device that did it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) device: usize,
    pub(crate) deed: Deed,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Guess {
    /// By person; `None` for those outside.
    pub(crate) role: Vec<Option<Role>>,
    /// By person: what an admission would have to lift.
    pub(crate) removals: Vec<Vec<usize>>,
    /// By device.
    pub(crate) enrolled: Vec<bool>,
    /// By invite: the act, uses left, and the role it gives.
    pub(crate) invites: Vec<Option<(usize, u32, Role)>>,
    pub(crate) wants_signatures: Vec<Pending>,
    pub(crate) channels: Vec<usize>,
    pub(crate) members_invite: bool,
}

/// An act that waits for co-signatures.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) act: usize,
    pub(crate) rank: Role,
    pub(crate) against: Option<usize>,
    pub(crate) signers: Vec<usize>,
    further: usize,
}

impl Guess {
    /// `holders` gives the person of each device.
    pub(crate) fn of(history: &[Written], seen: &Bits, holders: &[usize], people: usize) -> Self {
        let mut guess = Self {
            role: vec![None; people],
            removals: vec![Vec::new(); people],
            enrolled: vec![false; holders.len()],
            ..Self::default()
        };
        for act in seen.iter() {
            guess.take(act, &history[act], holders);
        }
        guess
    }

    pub(crate) fn people_of(&self, rank: Role) -> impl Iterator<Item = usize> {
        self.role.iter().enumerate().filter(move |(_, role)| **role == Some(rank)).map(|(person, _)| person)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = usize> {
        self.role.iter().enumerate().filter(|(_, role)| role.is_some()).map(|(person, _)| person)
    }

    pub(crate) fn has_owner(&self) -> bool {
        self.people_of(Role::Owner).next().is_some()
    }

    /// The highest rank there is.
    pub(crate) fn highest(&self) -> Option<Role> {
        self.role.iter().flatten().max().copied()
    }

    fn take(&mut self, act: usize, written: &Written, holders: &[usize]) {
        let author = holders[written.device];
        if let Deed::Founded { members_invite } = written.deed {
            self.members_invite = members_invite;
            self.role[author] = Some(Role::Owner);
            self.enrolled[written.device] = true;
            return;
        }
        let Some(rank) = self.role[author].filter(|_| self.enrolled[written.device]) else { return };
        match &written.deed {
            Deed::Invite { invite, uses, role } => {
                if rank >= Role::Moderator || (rank == Role::Member && self.members_invite) {
                    self.invites.resize(self.invites.len().max(invite + 1), None);
                    self.invites[*invite].get_or_insert((act, *uses, *role));
                }
            }
            Deed::InviteRevoked { invite } => {
                if let Some(slot) = self.invites.get_mut(*invite) {
                    *slot = None;
                }
            }
            Deed::Admitted { person, device, invite, lifts } => {
                self.take_admission(*person, *device, *invite, lifts);
            }
            Deed::Left => self.remove(act, author, holders),
            Deed::Removed { person } => self.take_removal(act, author, rank, *person, holders),
            Deed::RoleSet { person, role } => self.take_role(act, author, rank, *person, *role),
            Deed::CoSigned { act } => {
                if let Some(pending) = self.wants_signatures.iter_mut().find(|pending| pending.act == *act)
                    && pending.rank == rank
                    && pending.against != Some(author)
                    && !pending.signers.contains(&author)
                {
                    pending.signers.push(author);
                }
            }
            Deed::DeviceAdded { device } => self.enrolled[*device] = true,
            Deed::DeviceRevoked { device } | Deed::ForkProven { device } => self.enrolled[*device] = false,
            Deed::MembersInvite(may) => self.members_invite = *may,
            Deed::Channel { channel } => self.channels.push(*channel),
            Deed::Founded { .. } | Deed::Other => {}
        }
    }

    fn take_admission(&mut self, person: usize, device: usize, invite: usize, lifts: &[usize]) {
        if let Some(Some((_, uses, role))) = self.invites.get_mut(invite)
            && *uses > 0
            && self.role[person].is_none()
            && self.removals[person].iter().all(|removal| lifts.contains(removal))
        {
            *uses -= 1;
            self.role[person] = Some(*role);
            self.enrolled[device] = true;
            self.removals[person].clear();
        }
    }

    fn take_removal(&mut self, act: usize, author: usize, rank: Role, person: usize, holders: &[usize]) {
        let Some(theirs) = self.role[person] else { return };
        let count = self.people_of(rank).count();
        let further = if rank == Role::Owner { (count.max(1) - 1) / 2 } else { count.max(1) / 2 };
        if rank > theirs || (rank == theirs && further < 2 && rank >= Role::Moderator && rank < Role::Owner) {
            self.remove(act, person, holders);
        }
        if rank == theirs {
            let signers = vec![author];
            self.wants_signatures.push(Pending { act, rank, against: Some(person), signers, further });
        }
    }

    fn take_role(&mut self, act: usize, author: usize, rank: Role, person: usize, role: Role) {
        let Some(theirs) = self.role[person] else { return };
        let succeeds = role == Role::Owner && !self.has_owner() && self.highest() == Some(rank);
        if rank == Role::Owner || (rank == Role::Admin && theirs < rank && role < rank) {
            self.role[person] = Some(role);
        } else if succeeds {
            let further = self.people_of(rank).count() / 2;
            let signers = vec![author];
            self.wants_signatures.push(Pending { act, rank, against: None, signers, further });
            if further == 0 {
                self.role[person] = Some(role);
            }
        }
    }

    fn remove(&mut self, act: usize, person: usize, holders: &[usize]) {
        self.role[person] = None;
        self.removals[person].push(act);
        for (device, holder) in holders.iter().enumerate() {
            if *holder == person {
                self.enrolled[device] = false;
            }
        }
    }
}

impl Pending {
    /// Whether another person's signature might still help.
    pub(crate) fn is_open(&self) -> bool {
        self.signers.len() <= self.further + 1
    }
}
