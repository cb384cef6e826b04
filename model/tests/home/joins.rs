//! How members come together: founding, inviting, admitting.

use exo_model::amount::Amount;
use exo_model::charter::{CommunityKind, Role, Settings};
use exo_model::community;
use exo_model::decide::{Intent, Refusal};
use exo_model::epochs::{seal_audience, seal_context};
use exo_model::event::keys::Audience;
use exo_model::feed::gate;
use exo_model::feed::{self, FeedPosition, Stream};
use exo_model::id::{InviteKey, SealingPublicKey};
use exo_model::invite::Ticket;
use exo_model::sealing::{EpochKey, open_key, seal_key};
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;

use super::{Home, Person, Seeded, meet};

/// A community of one: `person` founds it.
pub(crate) fn found(name: &str, person: &Person) -> Home {
    found_as(CommunityKind::Shared, name, person)
}

/// The same of any kind.
pub(crate) fn found_as(kind: CommunityKind, name: &str, person: &Person) -> Home {
    let entropy = Seeded::of_device(&person.key, 0);
    let key = EpochKey::generate(&entropy);
    let (feed, change) = community::found(
        kind,
        person.certify(&person.key, 1),
        name.into(),
        Settings::of_friends("Garden".into(), Amount::from_token_mib(-100_000)),
        [7; 16],
        &key,
        1_000,
        &entropy,
    );
    let mut home = Home::new(name, feed.community, SecretKey::from_bytes(&person.key.to_bytes()), entropy);
    home.community.learn_key(EpochKey::from_bytes(key.as_bytes()));
    let start = FeedPosition::START;
    let run = gate::admit(feed::author(&home.key, feed, &start, change), &start).expect("founding");
    home.keep(run);
    let announced = home.community.announce_epoch(Audience::Governance, &key, &home.entropy);
    home.write(Stream::Keys, &announced.into());
    home
}

impl Home {
    /// An invite of this member.
    pub(crate) fn invite(&mut self, uses: u32) -> Ticket {
        self.invite_as(uses, Role::Member, TrustLevel::Friends)
    }

    pub(crate) fn invite_as(&mut self, uses: u32, role: Role, trust: TrustLevel) -> Ticket {
        let secret = SecretKey::generate(&self.entropy);
        let key = InviteKey::from_bytes(secret.public_bytes());
        let expires_ms = self.now_ms + 1_000_000;
        self.act(Intent::IssueInvite { key, uses, expires_ms, role, trust });
        Ticket::new(self.community.id(), "Garden".into(), &secret, expires_ms, Vec::new())
    }

    /// Lets a person in, as the joining protocol does.
    pub(crate) fn admit(&mut self, name: &str, person: &Person, ticket: &Ticket) -> Home {
        self.try_admit(name, person, &person.key, ticket).expect("admitted")
    }

    pub(crate) fn try_admit(
        &mut self,
        name: &str,
        person: &Person,
        key: &SecretKey,
        ticket: &Ticket,
    ) -> Result<Home, Refusal> {
        let request = ticket.request(person.certify(key, 1), name.into());
        self.try_act(Intent::Admit(request))?;
        let key = SecretKey::from_bytes(&key.to_bytes());
        let seeded = Seeded::of_device(&key, 0);
        let mut home = Home::new(name, self.community.id(), key, seeded);
        home.now_ms = self.now_ms;
        if self.role(&person.id()) != Some(Role::Keeper) {
            self.hand_governance_to(&mut home);
        }
        self.send_to(&mut home);
        Ok(home)
    }

    /// Adds a further device of a member, enrolled by their phrase.
    pub(crate) fn add_device(&mut self, person: &Person, key: &SecretKey, serial: u64) -> Home {
        self.act(Intent::AddDevice(person.certify(key, serial)));
        let key = SecretKey::from_bytes(&key.to_bytes());
        let seeded = Seeded::of_device(&key, 0);
        let mut home = Home::new("further device", self.community.id(), key, seeded);
        home.now_ms = self.now_ms;
        self.hand_governance_to(&mut home);
        self.send_to(&mut home);
        home
    }

    /// The charter's keys, sealed to a newcomer.
    pub(crate) fn hand_governance_to(&self, home: &mut Home) {
        let name = seal_audience(&Audience::Governance);
        let context = seal_context(self.community.id(), &name);
        let recipient: SealingPublicKey = home.community.sealing_key();
        let keys: Vec<_> = self
            .community
            .epochs()
            .keys_of(self.community.charter(), &Audience::Governance)
            .filter(|id| self.community.keyring().contains(id))
            .collect();
        for id in keys {
            let key = self.community.keyring().key(&id).expect("held");
            let sealed = seal_key(key, &recipient, &context, &self.entropy).expect("a usable key");
            let opened = open_key(&sealed, &id, home.community.local_sealing(), &context).expect("opens");
            home.community.learn_key(opened);
        }
    }
}

/// A community with an open channel: the first person founds it, the others
/// join in their order and get their roles; then everyone has everything.
pub(crate) fn garden<const N: usize>(roles: [Role; N]) -> ([Person; N], [Home; N]) {
    const NAMES: [&str; 6] = ["Ana", "Ben", "Chloe", "Dan", "Eve", "Finn"];
    let people: [Person; N] = std::array::from_fn(|at| Person::new(u8::try_from(at + 1).expect("few")));
    let mut homes = vec![found(NAMES[0], &people[0])];
    homes[0].open_channel(1, false);
    for at in 1..N {
        let joins_as = roles[at].min(Role::Member);
        let ticket = homes[0].invite_as(1, joins_as, TrustLevel::Friends);
        let home = homes[0].admit(NAMES[at], &people[at], &ticket);
        if roles[at] > joins_as {
            homes[0].act(Intent::SetRole(people[at].id(), roles[at]));
        }
        homes.push(home);
    }
    meet(&mut homes.iter_mut().collect::<Vec<_>>());
    let homes = homes.try_into().unwrap_or_else(|_| unreachable!("one home each"));
    (people, homes)
}
