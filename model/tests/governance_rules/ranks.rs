//! §3 and §4: acts about another person, by everyone about everyone. There are
//! two of each role, so that every act also has an equal to be about.

use exo_model::charter::{ActStanding, Role};
use exo_model::decide::Intent;
use exo_model::event::CharterEvent;
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::port::Signer as _;
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, DeviceId, InviteKey, PersonId};

use crate::home::{Home, Person, garden, meet_in_every_order};
use crate::{crowd, event_of, remove};

use ActStanding::{Counts, NotEntitled, Unsigned};

struct Pairs {
    roles: Vec<Role>,
    people: Vec<PersonId>,
    devices: Vec<DeviceId>,
    founder: Home,
}

impl Pairs {
    fn new() -> Self {
        let roles: Vec<Role> = Role::ALL.into_iter().flat_map(|role| [role; 2]).collect();
        let (people, homes) = crowd(&roles);
        let founder = homes.into_iter().next().expect("the founder");
        let devices = people.iter().map(|person| person.key.device()).collect();
        Self { roles, people: people.iter().map(Person::id).collect(), devices, founder }
    }

    /// What would become of the act, were it written now.
    fn says(&self, author: usize, act: &CharterEvent) -> ActStanding {
        self.founder.community.charter().rehearse(self.devices[author], self.founder.now_ms, act)
    }

    /// Of an act of everyone about everyone it is said what the design says.
    /// The design is told both roles, and whether it is about oneself.
    fn hold(
        &self,
        what: &str,
        act: impl Fn(PersonId) -> CharterEvent,
        design: impl Fn(Role, Role, bool) -> ActStanding,
    ) {
        for (author, one) in self.roles.iter().enumerate() {
            for (subject, other) in self.roles.iter().enumerate() {
                let said = self.says(author, &act(self.people[subject]));
                let oneself = author == subject;
                assert_eq!(said, design(*one, *other, oneself), "{what}: {one} about {other}, {oneself}");
            }
        }
    }
}

fn when(condition: bool) -> ActStanding {
    if condition { Counts } else { NotEntitled }
}

/// Of two equals `k = ⌊(2 − 1)/2⌋ + 1` signatures are needed: the author's. Of
/// two owners two are.
fn among_two(rank: Role) -> ActStanding {
    if rank == Role::Owner { Unsigned } else { Counts }
}

#[test]
fn everyone_removes_lower_ranks_and_equals_take_signatures() {
    let pairs = Pairs::new();
    let act = |person: PersonId| event_of(&remove(person));
    pairs.hold("removal", act, |author, subject, oneself| {
        if oneself || author < Role::Moderator {
            NotEntitled
        } else if author == subject {
            among_two(author)
        } else {
            when(author > subject)
        }
    });
}

#[test]
fn roles_are_given_below_ones_own_and_owners_make_owners() {
    let pairs = Pairs::new();
    for role in Role::ALL {
        let act = |person: PersonId| CharterEvent::RoleSet { person, role };
        pairs.hold(&format!("making one {role}"), act, |author, subject, oneself| {
            let may_give = author >= Role::Admin && (author > role || author == Role::Owner);
            if oneself {
                when(author == Role::Owner && role < Role::Owner)
            } else if may_give && author == subject && role < subject {
                among_two(author)
            } else {
                when(may_give && author > subject)
            }
        });
    }
}

#[test]
fn trust_and_moderation_are_for_higher_ranks_and_for_owners() {
    let pairs = Pairs::new();
    let above = |author: Role, subject: Role| author > subject || author == Role::Owner;
    let trust = |person: PersonId| CharterEvent::TrustSet { person, level: TrustLevel::Known };
    pairs.hold("trust", trust, |author, subject, _| when(author >= Role::Admin && above(author, subject)));

    let hide = |author: PersonId| CharterEvent::MessageHidden {
        author,
        message: ChangeHash::from_bytes([4; 32]),
        hidden: true,
        reason: String::new(),
    };
    let decide = |subject: PersonId| CharterEvent::ReportDecided {
        report: ChangeHash::from_bytes([5; 32]),
        subject,
        outcome: ReportOutcome::Warned,
        note: String::new(),
    };
    let moderates =
        |author: Role, subject: Role, _: bool| when(author >= Role::Moderator && above(author, subject));
    pairs.hold("hiding", hide, moderates);
    pairs.hold("a report", decide, moderates);

    // No rank protects who is no member; but nobody trusts them here.
    let stranger = Person::new(200).id();
    for (author, role) in pairs.roles.iter().enumerate() {
        let may = when(*role >= Role::Moderator);
        assert_eq!(pairs.says(author, &hide(stranger)), may, "{role}");
        assert_eq!(pairs.says(author, &decide(stranger)), may, "{role}");
        assert_eq!(pairs.says(author, &trust(stranger)), NotEntitled, "{role}");
    }
}

#[test]
fn members_and_higher_ranks_vouch_for_other_members() {
    let pairs = Pairs::new();
    let vouch = |person: PersonId| CharterEvent::Vouched { person, ground: VouchGround::Known };
    pairs.hold("vouching", vouch, |author, _, oneself| when(author >= Role::Member && !oneself));
    let stranger = Person::new(200).id();
    for author in 0..pairs.roles.len() {
        assert_eq!(pairs.says(author, &vouch(stranger)), NotEntitled);
    }
}

#[test]
fn an_invite_gives_a_role_up_to_member() {
    let pairs = Pairs::new();
    for given in Role::ALL {
        let invite = CharterEvent::InviteIssued {
            key: InviteKey::from_bytes([6; 32]),
            uses: 1,
            expires_ms: i64::MAX,
            role: given,
            trust: TrustLevel::Public,
        };
        for (author, role) in pairs.roles.iter().enumerate() {
            let expected = when(*role >= Role::Moderator && given <= Role::Member);
            assert_eq!(pairs.says(author, &invite), expected, "{role} invites as {given}");
        }
    }
}

/// Two owners give one person two roles, apart.
#[test]
fn of_roles_given_apart_the_last_in_the_order_stands() {
    let (people, [mut a, mut b, mut c]) = garden([Role::Owner, Role::Owner, Role::Member]);
    let chloe = people[2].id();
    let as_admin = a.act(Intent::SetRole(chloe, Role::Admin));
    let as_moderator = b.act(Intent::SetRole(chloe, Role::Moderator));
    meet_in_every_order(&mut [&mut a, &mut b, &mut c]);
    // Both know the same and so have one depth: the greater hash is later.
    let last = if as_admin > as_moderator { Role::Admin } else { Role::Moderator };
    for home in [&a, &b, &c] {
        assert_eq!(home.role(&chloe), Some(last), "{}", home.name);
        assert_eq!([as_admin, as_moderator].map(|act| home.standing(&act)), [Some(Counts); 2]);
    }
}
