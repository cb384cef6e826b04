//! The value of anything, seen from a set of events: what the last counting
//! one of them, by the order, says.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::certificate::DeviceCertificate;
use exo_model::charter::role::Role;
use exo_model::charter::settings::Settings;
use exo_model::event::CharterEvent as E;
use exo_model::feed::Stream;
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, ChannelId, DeviceId, InviteKey, PersonId};

use super::dag::Dag;
use super::signing;

/// What became of one act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Counts,
    /// Entitled, and counts wherever these co-signatures are seen.
    Needs(Need),
    Void,
    NotEntitled,
    Lost,
}

/// The co-signatures an act needs besides its author's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Of how many further people.
    pub(crate) further: usize,
    /// Their rank, each at their own signing.
    pub(crate) rank: Role,
    /// Who cannot be one of them: the author, and whoever it is against.
    pub(crate) never: BTreeSet<PersonId>,
    /// Where only the people of that rank at the act itself may sign.
    pub(crate) among: Option<BTreeSet<PersonId>>,
}

/// Verdicts on all acts so far, in the order, and what led to them.
#[derive(Default)]
pub(crate) struct Judgement {
    pub(crate) verdict: Vec<Verdict>,
    /// Who wrote it, and their rank at it; `None` where nobody enrolled did.
    pub(crate) author: Vec<Option<(PersonId, Role)>>,
    /// The removals that an admission lifts.
    pub(crate) lifts: Vec<BTreeSet<usize>>,
    /// Co-signatures that an applied removal was applied with.
    pub(crate) kept_signatures: BTreeMap<usize, BTreeMap<usize, PersonId>>,
}

pub(crate) struct View<'a> {
    pub(crate) dag: &'a Dag,
    judgement: &'a Judgement,
    /// Those seen that count, in the order.
    counting: Vec<usize>,
}

impl<'a> View<'a> {
    pub(crate) fn of(dag: &'a Dag, judgement: &'a Judgement, seen: &BTreeSet<usize>) -> Self {
        let counts = |at: &usize| match &judgement.verdict[*at] {
            Verdict::Counts => true,
            Verdict::Needs(need) => signers(dag, judgement, seen, *at, need).len() >= need.further,
            Verdict::Void | Verdict::NotEntitled | Verdict::Lost => false,
        };
        Self { dag, judgement, counting: seen.iter().copied().filter(counts).collect() }
    }

    pub(crate) fn contains(&self, at: usize) -> bool {
        self.counting.binary_search(&at).is_ok()
    }

    /// The counting events, in the order.
    pub(crate) fn events(&self) -> impl DoubleEndedIterator<Item = (usize, &'a E)> {
        self.counting.iter().map(|at| (*at, &self.dag.acts[*at].event))
    }

    /// What the last event says that says anything.
    fn last<T>(&self, says: impl Fn(usize, &'a E) -> Option<T>) -> Option<T> {
        self.events().rev().find_map(|(at, event)| says(at, event))
    }

    pub(crate) fn author(&self, at: usize) -> Option<PersonId> {
        self.judgement.author[at].map(|(person, _)| person)
    }

    pub(crate) fn rank_of_author(&self, at: usize) -> Option<Role> {
        self.judgement.author[at].map(|(_, role)| role)
    }

    // Devices

    /// The event that enrolled a device.
    pub(crate) fn enrolment(&self, device: DeviceId) -> Option<usize> {
        self.events().find_map(|(at, event)| {
            enrols(event).is_some_and(|card| signing::device_of(card) == device).then_some(at)
        })
    }

    /// The number of a device's certificate.
    pub(crate) fn serial(&self, device: DeviceId) -> Option<u64> {
        let enrolment = self.enrolment(device)?;
        enrols(&self.dag.acts[enrolment].event).map(|card| card.claims.serial)
    }

    /// Whose device it is: enrolled, not revoked, and not gone with its person
    /// in a removal that its enrolment did not know of.
    pub(crate) fn holder(&self, device: DeviceId) -> Option<PersonId> {
        let enrolment = self.enrolment(device)?;
        let person = signing::person_of(enrols(&self.dag.acts[enrolment].event)?);
        let is_revoked = self.events().any(|(_, event)| match event {
            E::DeviceRevoked { device: d, .. } => *d == device,
            // A fork of the charter suspends.
            E::EquivocationProven { proof, .. } => {
                proof.feed().stream == Stream::Charter && proof.feed().device == device
            }
            _ => false,
        });
        let is_gone = self.removals(person).iter().any(|removal| !self.dag.past[enrolment].contains(removal));
        (!is_revoked && !is_gone).then_some(person)
    }

    /// The person's devices that take part, with their enrolments.
    pub(crate) fn devices(&self, person: PersonId) -> BTreeMap<DeviceId, usize> {
        self.events()
            .filter_map(|(at, event)| enrols(event).map(|card| (signing::device_of(card), at)))
            .filter(|(device, _)| self.holder(*device) == Some(person))
            .collect()
    }

    // People

    /// Everyone who was ever admitted.
    pub(crate) fn people(&self) -> BTreeSet<PersonId> {
        self.events().filter_map(|(_, event)| admits(event)).collect()
    }

    pub(crate) fn members(&self) -> BTreeSet<PersonId> {
        self.people().into_iter().filter(|person| self.is_member(*person)).collect()
    }

    pub(crate) fn admissions(&self, person: PersonId) -> BTreeSet<usize> {
        self.events().filter(|(_, event)| admits(event) == Some(person)).map(|(at, _)| at).collect()
    }

    /// Removals and leavings of a person, lifted or not.
    pub(crate) fn removals(&self, person: PersonId) -> BTreeSet<usize> {
        self.events().filter(|(at, _)| self.removes(*at) == Some(person)).map(|(at, _)| at).collect()
    }

    /// Whom an event takes out of the community.
    pub(crate) fn removes(&self, at: usize) -> Option<PersonId> {
        match &self.dag.acts[at].event {
            E::Removed { person, .. } => Some(*person),
            E::Left { .. } => self.author(at),
            _ => None,
        }
    }

    /// Removals that no admission lifts.
    pub(crate) fn standing_removals(&self, person: PersonId) -> BTreeSet<usize> {
        let mut standing = self.removals(person);
        // "Lifted by that admission or by a later one": with the first
        // admission as "that one", all of them may lift.
        for admission in self.admissions(person) {
            for lifted in &self.judgement.lifts[admission] {
                standing.remove(lifted);
            }
        }
        standing
    }

    pub(crate) fn is_member(&self, person: PersonId) -> bool {
        !self.admissions(person).is_empty() && self.standing_removals(person).is_empty()
    }

    /// A person's rank; `None`, which is below all, for those outside.
    pub(crate) fn role(&self, person: PersonId) -> Option<Role> {
        if !self.is_member(person) {
            return None;
        }
        let came = *self.admissions(person).last()?;
        self.last(|at, event| match event {
            _ if !self.is_of_admission(at, came) => None,
            E::Founded { founder, .. } if signing::person_of(founder) == person => Some(Role::Owner),
            E::Admitted { certificate, invite, .. } if signing::person_of(certificate) == person => {
                self.invite(*invite).map(|(_, role, _)| role)
            }
            E::RoleSet { person: p, role } if *p == person => Some(*role),
            _ => None,
        })
    }

    /// What is said of a person counts if it knows their last coming, or is it.
    pub(crate) fn is_of_admission(&self, at: usize, came: usize) -> bool {
        at == came || self.dag.past[at].contains(&came)
    }

    pub(crate) fn of_rank(&self, rank: Role) -> BTreeSet<PersonId> {
        self.people().into_iter().filter(|person| self.role(*person) == Some(rank)).collect()
    }

    pub(crate) fn trust(&self, person: PersonId) -> Option<TrustLevel> {
        let came = *self.admissions(person).last()?;
        self.last(|at, event| match event {
            _ if !self.is_of_admission(at, came) => None,
            E::Founded { founder, .. } if signing::person_of(founder) == person => Some(TrustLevel::Friends),
            E::Admitted { certificate, invite, .. } if signing::person_of(certificate) == person => {
                self.invite(*invite).map(|(_, _, trust)| trust)
            }
            E::TrustSet { person: p, level } if *p == person => Some(*level),
            _ => None,
        })
    }

    pub(crate) fn name(&self, person: PersonId) -> Option<&'a str> {
        self.last(|at, event| match event {
            E::Founded { founder, founder_name, .. } if signing::person_of(founder) == person => {
                Some(founder_name.as_str())
            }
            E::Admitted { certificate, name, .. } if signing::person_of(certificate) == person => {
                Some(name.as_str())
            }
            E::ProfileSet { name, .. } if self.author(at) == Some(person) => Some(name.as_str()),
            _ => None,
        })
    }

    pub(crate) fn about(&self, person: PersonId) -> Option<&'a str> {
        self.last(|at, event| match event {
            E::ProfileSet { about, .. } if self.author(at) == Some(person) => Some(about.as_str()),
            _ => None,
        })
    }

    // Everything else

    pub(crate) fn settings(&self) -> Option<Settings> {
        let mut settings = None;
        for (_, event) in self.events() {
            match (event, &mut settings) {
                (E::Founded { settings: founded, .. }, None) => settings = Some(founded.clone()),
                (E::SettingChanged { setting }, Some(settings)) => settings.set(setting),
                _ => {}
            }
        }
        settings
    }

    /// The event that issued an invite, and what it gives.
    pub(crate) fn invite(&self, key: InviteKey) -> Option<(usize, Role, TrustLevel)> {
        self.events().find_map(|(at, event)| match event {
            E::InviteIssued { key: k, role, trust, .. } if *k == key => Some((at, *role, *trust)),
            _ => None,
        })
    }

    pub(crate) fn is_invite_revoked(&self, key: InviteKey) -> bool {
        self.events().any(|(_, event)| matches!(event, E::InviteRevoked { key: k } if *k == key))
    }

    pub(crate) fn admissions_with(&self, key: InviteKey) -> usize {
        self.events()
            .filter(|(_, event)| matches!(event, E::Admitted { invite, .. } if *invite == key))
            .count()
    }

    pub(crate) fn invites(&self) -> BTreeSet<InviteKey> {
        self.events()
            .filter_map(|(_, event)| match event {
                E::InviteIssued { key, .. } => Some(*key),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn channels(&self) -> BTreeSet<ChannelId> {
        self.events()
            .filter_map(|(_, event)| match event {
                E::ChannelCreated { channel, .. } => Some(*channel),
                _ => None,
            })
            .collect()
    }

    /// Name, and whether it is put away.
    pub(crate) fn channel(&self, id: ChannelId) -> Option<(&'a str, bool)> {
        self.last(|_, event| match event {
            E::ChannelCreated { channel, name, .. } if *channel == id => Some((name.as_str(), false)),
            E::ChannelChanged { channel, name, archived } if *channel == id => {
                Some((name.as_str(), *archived))
            }
            _ => None,
        })
    }

    /// Whether it is closed, and open to guests.
    pub(crate) fn channel_door(&self, id: ChannelId) -> Option<(bool, bool)> {
        self.events().find_map(|(_, event)| match event {
            E::ChannelCreated { channel, closed, guests, .. } if *channel == id => Some((*closed, *guests)),
            _ => None,
        })
    }

    /// Who was added to a channel and not taken out since.
    pub(crate) fn channel_people(&self, id: ChannelId) -> BTreeSet<PersonId> {
        // The last word on each person that knows their last coming.
        let mut people = BTreeSet::new();
        for (at, event) in self.events() {
            let counts = |person: &PersonId| {
                self.admissions(*person).last().is_some_and(|came| self.is_of_admission(at, *came))
            };
            match event {
                E::ChannelPeople { channel, add, remove } if *channel == id => {
                    people.extend(add.iter().copied().filter(counts));
                    people.retain(|person| !(remove.contains(person) && counts(person)));
                }
                E::ChannelCreated { channel, closed: true, .. } if *channel == id => {
                    people.extend(self.author(at).filter(counts));
                }
                _ => {}
            }
        }
        people
    }

    /// The co-signatures seen under an act.
    pub(crate) fn signatures(&self, at: usize, seen: &BTreeSet<usize>) -> BTreeMap<usize, PersonId> {
        let mut signatures = BTreeMap::new();
        if let Verdict::Needs(need) = &self.judgement.verdict[at] {
            for (signature, person) in signatures_of(self.dag, self.judgement, seen, at, need) {
                signatures.insert(signature, person);
            }
        }
        signatures
    }

    /// The co-signatures an entitled act needs, seen or not.
    pub(crate) fn need(&self, act: &ChangeHash) -> Option<&'a Need> {
        match &self.judgement.verdict[self.dag.find(act)?] {
            Verdict::Needs(need) => Some(need),
            _ => None,
        }
    }
}

/// The people whose counting co-signatures of `at` are seen.
fn signers(
    dag: &Dag,
    judgement: &Judgement,
    seen: &BTreeSet<usize>,
    at: usize,
    need: &Need,
) -> BTreeSet<PersonId> {
    signatures_of(dag, judgement, seen, at, need).into_iter().map(|(_, person)| person).collect()
}

fn signatures_of(
    dag: &Dag,
    judgement: &Judgement,
    seen: &BTreeSet<usize>,
    at: usize,
    need: &Need,
) -> Vec<(usize, PersonId)> {
    let mut signatures = Vec::new();
    for signature in seen {
        if let Some(person) = judgement.kept_signatures.get(&at).and_then(|kept| kept.get(signature)).copied()
        {
            signatures.push((*signature, person));
            continue;
        }
        let signs = matches!(&dag.acts[*signature].event, E::CoSigned { act } if *act == dag.acts[at].id);
        if let (true, Verdict::Counts, Some((person, rank))) =
            (signs, &judgement.verdict[*signature], judgement.author[*signature])
            && rank == need.rank
            && !need.never.contains(&person)
            && need.among.as_ref().is_none_or(|among| among.contains(&person))
        {
            signatures.push((*signature, person));
        }
    }
    signatures
}

/// The certificate of a device that an event enrols.
pub(crate) fn enrols(event: &E) -> Option<&DeviceCertificate> {
    match event {
        E::Founded { founder: certificate, .. }
        | E::Admitted { certificate, .. }
        | E::DeviceAdded { certificate } => Some(certificate),
        _ => None,
    }
}

/// Whom an event takes into the community.
pub(crate) fn admits(event: &E) -> Option<PersonId> {
    match event {
        E::Founded { founder: certificate, .. } | E::Admitted { certificate, .. } => {
            Some(signing::person_of(certificate))
        }
        _ => None,
    }
}
