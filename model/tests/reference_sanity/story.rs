//! Histories made by hand: each act says under which others it was written.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::amount::Amount;
use exo_model::certificate::DeviceCertificate;
use exo_model::charter::role::Role;
use exo_model::charter::settings::{CommunityKind, Settings};
use exo_model::event::CharterEvent as E;
use exo_model::feed::Stream;
use exo_model::feed::fence::{Fence, FenceEntry};
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, CommunityId, DeviceId, InviteKey, PersonId};

use crate::reference::charter::{CharterAct, Limits, RefStanding, Reference, Terms, reduce};
use crate::reference::signing::{self, Keys as _, ToyKeys};

/// An act by its place in the story.
pub(crate) type Act = usize;

/// People are numbers; device `n` below 100 is the first of person `n`, and
/// further ones are numbered as the story likes.
pub(crate) struct Story {
    pub(crate) acts: Vec<CharterAct>,
    tips: BTreeMap<u64, Act>,
    pub(crate) limits: Limits,
    /// First byte of the hash of the next act; decides among equal depths.
    pub(crate) next_hash: Option<u8>,
}

pub(crate) const COMMUNITY: CommunityId = CommunityId::from_bytes([0xc0; 32]);

pub(crate) fn person(no: u64) -> PersonId {
    PersonId::from_bytes(ToyKeys.public(no))
}

pub(crate) fn device(no: u64) -> DeviceId {
    DeviceId::from_bytes(ToyKeys.public(1_000 + no))
}

pub(crate) fn invite_key(no: u64) -> InviteKey {
    InviteKey::from_bytes(ToyKeys.public(2_000 + no))
}

pub(crate) fn card(of: u64, no: u64, enroller: Option<u64>) -> DeviceCertificate {
    signing::certificate(&ToyKeys, person(of), device(no), enroller.map(device), no)
}

impl Story {
    /// Person 0 founds, and issues invite 0 for many members.
    pub(crate) fn founded() -> Self {
        let mut story =
            Self { acts: Vec::new(), tips: BTreeMap::new(), limits: Limits::default(), next_hash: None };
        let founding = E::Founded {
            kind: CommunityKind::Shared,
            founder: card(0, 0, None),
            founder_name: "Person 0".to_owned(),
            settings: Settings::of_friends("Home".to_owned(), Amount::from_token_mib(-1_000)),
            nonce: [0; 16],
        };
        story.says(0, &[], founding);
        story.invite(0, 0, 100, Role::Member, &[0]);
        story
    }

    /// A founder and people 1, 2, … of these roles, admitted one after the
    /// other, so that a smaller number is more senior.
    pub(crate) fn with(roles: &[Role]) -> Self {
        let mut story = Self::founded();
        for (no, role) in (1..).zip(roles) {
            let now = story.now();
            story.admit(0, no, 0, &[], &now);
            if *role != Role::Member {
                let now = story.now();
                story.role(0, no, *role, &now);
            }
        }
        story
    }

    /// The acts that nobody has cited yet.
    pub(crate) fn now(&self) -> Vec<Act> {
        let cited: BTreeSet<ChangeHash> =
            self.acts.iter().flat_map(|act| act.heads.iter().copied().chain([act.previous])).collect();
        (0..self.acts.len()).filter(|at| !cited.contains(&self.acts[*at].id)).collect()
    }

    pub(crate) fn says(&mut self, by: u64, under: &[Act], event: E) -> Act {
        let previous = self.tips.get(&by).copied();
        self.says_after(by, previous, under, event)
    }

    pub(crate) fn says_after(&mut self, by: u64, previous: Option<Act>, under: &[Act], event: E) -> Act {
        let number = self.acts.len();
        let mut id = [0; 32];
        id[0] = self.next_hash.take().unwrap_or(0x80);
        id[1..9].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        let mut heads: Vec<ChangeHash> = under.iter().map(|at| self.acts[*at].id).collect();
        heads.sort_unstable();
        self.acts.push(CharterAct {
            id: ChangeHash::from_bytes(id),
            device: device(by),
            segment: 0,
            seq: previous.map_or(1, |at| self.acts[at].seq + 1),
            previous: previous.map_or(ChangeHash::from_bytes([0; 32]), |at| self.acts[at].id),
            heads,
            time_ms: 0,
            event,
        });
        self.tips.insert(by, number);
        number
    }

    pub(crate) fn invite(&mut self, by: u64, no: u64, uses: u32, role: Role, under: &[Act]) -> Act {
        let issued =
            E::InviteIssued { key: invite_key(no), uses, expires_ms: 0, role, trust: TrustLevel::Public };
        self.says(by, under, issued)
    }

    /// Admits a person with their first device.
    pub(crate) fn admit(&mut self, by: u64, who: u64, invite: u64, lifts: &[Act], under: &[Act]) -> Act {
        self.admit_with(by, who, who, invite, lifts, under)
    }

    pub(crate) fn admit_with(
        &mut self,
        by: u64,
        who: u64,
        no: u64,
        invite: u64,
        lifts: &[Act],
        under: &[Act],
    ) -> Act {
        let (certificate, name) = (card(who, no, None), format!("Person {who}"));
        let key = invite_key(invite);
        let proof = signing::invite_proof(&ToyKeys, COMMUNITY, key, &certificate, &name);
        let lifts = lifts.iter().map(|at| self.acts[*at].id).collect();
        self.says(by, under, E::Admitted { certificate, name, invite: key, proof, lifts })
    }

    pub(crate) fn role(&mut self, by: u64, who: u64, role: Role, under: &[Act]) -> Act {
        self.says(by, under, E::RoleSet { person: person(who), role })
    }

    pub(crate) fn sign(&mut self, by: u64, act: Act, under: &[Act]) -> Act {
        let under: Vec<Act> = under.iter().copied().chain([act]).collect();
        self.says(by, &under, E::CoSigned { act: self.acts[act].id })
    }

    /// A fence that ends at these acts.
    pub(crate) fn fence(&self, ends: &[Act]) -> Fence {
        Fence::new(ends.iter().map(|at| {
            let act = &self.acts[*at];
            FenceEntry {
                device: act.device,
                stream: Stream::Charter,
                segment: act.segment,
                seq: act.seq,
                head: act.id,
            }
        }))
    }

    pub(crate) fn remove(&mut self, by: u64, who: u64, fence: &[Act], under: &[Act]) -> Act {
        let fence = self.fence(fence);
        self.says(by, under, E::Removed { person: person(who), ban: false, reason: String::new(), fence })
    }

    pub(crate) fn ban(&mut self, by: u64, who: u64, under: &[Act]) -> Act {
        let fence = Fence::default();
        self.says(by, under, E::Removed { person: person(who), ban: true, reason: String::new(), fence })
    }

    pub(crate) fn leave(&mut self, by: u64, fence: &[Act], under: &[Act]) -> Act {
        let fence = self.fence(fence);
        self.says(by, under, E::Left { fence })
    }

    pub(crate) fn add_device(
        &mut self,
        by: u64,
        of: u64,
        no: u64,
        enroller: Option<u64>,
        under: &[Act],
    ) -> Act {
        self.says(by, under, E::DeviceAdded { certificate: card(of, no, enroller) })
    }

    /// Revokes; with the phrase of a person where one is named.
    pub(crate) fn revoke(
        &mut self,
        by: u64,
        no: u64,
        fence: &[Act],
        phrase_of: Option<u64>,
        under: &[Act],
    ) -> Act {
        let fence = self.fence(fence);
        let phrase = phrase_of
            .map(|of| signing::phrase_revocation(&ToyKeys, COMMUNITY, person(of), device(no), &fence));
        self.says(by, under, E::DeviceRevoked { device: device(no), fence, phrase })
    }

    /// Something harmless that every member may do.
    pub(crate) fn profile(&mut self, by: u64, name: &str, under: &[Act]) -> Act {
        self.says(by, under, E::ProfileSet { name: name.to_owned(), about: String::new() })
    }

    // Looking at the result

    pub(crate) fn state(&self) -> Reference {
        let terms = Terms {
            community: COMMUNITY,
            founding: self.acts[0].id,
            limits: self.limits.clone(),
            keys: &ToyKeys,
        };
        reduce(&self.acts, &terms)
    }

    #[track_caller]
    pub(crate) fn expect(&self, expected: &[(Act, RefStanding)]) -> Reference {
        let state = self.state();
        for (act, standing) in expected {
            let id = self.acts[*act].id;
            assert_eq!(state.standing[&id], *standing, "act {act}: {:?}", self.acts[*act].event);
        }
        state
    }
}

/// The people who are members, by number.
pub(crate) fn members(state: &Reference) -> Vec<u64> {
    (0..100).filter(|no| state.members.contains_key(&person(*no))).collect()
}

pub(crate) fn role_of(state: &Reference, no: u64) -> Option<Role> {
    state.members.get(&person(no)).map(|member| member.role)
}
