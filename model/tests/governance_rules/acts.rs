//! §3: for each row of the table an act that needs nothing else, by everyone;
//! what members may by setting; and what everyone does for themselves.

use exo_model::amount::Amount;
use exo_model::charter::role::PERMISSIONS;
use exo_model::charter::{ActStanding, Permission, RULES_VERSION, Role, Setting};
use exo_model::community::WordStanding;
use exo_model::decide::{Intent, Refusal};
use exo_model::dispute::commitment;
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::event::dispute::Finding;
use exo_model::event::keys::Audience;
use exo_model::event::ledger::{Account, OfferKind};
use exo_model::event::{CharterEvent, DisputeEvent};
use exo_model::feed::Stream;
use exo_model::feed::fence::Fence;
use exo_model::invite::Ticket;
use exo_model::ledger::{LedgerFault, Standing};
use exo_model::trust::TrustLevel;
use exo_model::{BlobHash, ChangeHash, ChannelId, InviteKey, JobId, PersonId};

use crate::home::{Home, Person, garden, manifest, meet, meet_in_every_order};
use crate::{all_say, decided, leak, refused};

/// Ana owns it, Ben has the role in question and every key there is, Chloe
/// looks on. Two others are in a dispute, whose jurors are drawn; one more is a
/// keeper, below everyone else.
struct Scene {
    ana: Home,
    ben: Home,
    chloe: Home,
    keeper: PersonId,
    payee: PersonId,
    newcomer: Person,
    ticket: Ticket,
    /// Where guests may.
    parlour: ChannelId,
    dispute: ChangeHash,
}

fn stage(role: Role) -> Scene {
    let (people, [mut ana, mut ben, mut chloe, mut dan, mut eve, _]) =
        garden([Role::Owner, role, Role::Member, Role::Member, Role::Member, Role::Keeper]);
    let parlour = ChannelId::from_bytes([2; 16]);
    let name = "parlour".to_owned();
    ana.act(Intent::CreateChannel { channel: parlour, name, closed: false, guests: true });
    let ticket = ana.invite(5);

    let (lock, half) = (ChangeHash::from_bytes([9; 32]), [7; 32]);
    let opened = DisputeEvent::Opened {
        lock,
        payee: people[4].id(),
        claim: Amount::from_token_mib(100),
        summary: "half of it was noise".into(),
        commitment: commitment(&lock, &people[3].id(), &half),
    };
    let dispute = dan.act(Intent::Dispute(opened));
    dan.send_to(&mut eve);
    eve.act(Intent::Dispute(DisputeEvent::Seeded { dispute, half: [8; 32] }));
    eve.send_to(&mut dan);
    dan.act(Intent::Dispute(DisputeEvent::Drawn { dispute, half }));
    meet(&mut [&mut ana, &mut ben, &mut chloe, &mut dan, &mut eve]);

    leak(&ana, &mut ben);
    assert_eq!(ben.hash(), ana.hash(), "{role}: who has the keys reads the same");
    Scene {
        ana,
        ben,
        chloe,
        keeper: people[5].id(),
        payee: people[4].id(),
        newcomer: Person::new(40),
        ticket,
        parlour,
        dispute,
    }
}

/// Acts for which nothing but the permission is needed: about someone below
/// everybody, or nobody. A permission without one does not compile, or fails.
fn acts_of(scene: &Scene, permission: Permission) -> Vec<(&'static str, Intent)> {
    let amount = Amount::from_token_mib;
    let chloe = scene.chloe.person();
    match permission {
        Permission::ReadGovernance => {
            // What nobody who cannot read what was agreed may ask for.
            let opened = DisputeEvent::Opened {
                lock: ChangeHash::from_bytes([10; 32]),
                payee: scene.payee,
                claim: amount(1),
                summary: "not what I paid for".into(),
                commitment: [0; 32],
            };
            vec![("opens a dispute", Intent::Dispute(opened))]
        }
        Permission::Write => vec![(
            "posts in an open channel",
            Intent::Post {
                channel: scene.ana.channel(),
                text: "good morning".into(),
                reply_to: None,
                mentions: vec![],
                attachments: vec![],
            },
        )],
        Permission::Admit => {
            let certificate = scene.newcomer.certify(&scene.newcomer.key, 1);
            vec![("completes a join", Intent::Admit(scene.ticket.request(certificate, "Gil".into())))]
        }
        Permission::Vouch => vec![("vouches", Intent::Vouch(chloe, Some(VouchGround::Known)))],
        Permission::Share => {
            let payee = scene.chloe.device();
            let (to, note) = (Account::Device(payee), String::new());
            let offer = Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 1, addresses: vec![] };
            vec![
                ("offers a machine", offer),
                ("shares a model", Intent::AddModel(manifest(BlobHash::from_bytes([3; 32])))),
                ("gives credit", Intent::Transfer { to, amount: amount(5), note }),
                ("locks credit", Intent::Lock { job: JobId::from_bytes([1; 16]), payee, max: amount(10) }),
                (
                    "offers hours",
                    Intent::PostOffer { kind: OfferKind::Hours, title: "an hour".into(), price: amount(1) },
                ),
                ("promises a bounty", Intent::PostBounty { title: "mow".into(), amount: amount(3) }),
            ]
        }
        Permission::Judge => {
            let finding = Finding::Dismiss;
            let vote = DisputeEvent::Voted { dispute: scene.dispute, round: 0, finding };
            vec![("votes as a juror", Intent::Dispute(vote))]
        }
        Permission::Invite => vec![("issues an invite", issue(6, Role::Guest))],
        Permission::Moderate => {
            let (message, report) = (ChangeHash::from_bytes([4; 32]), ChangeHash::from_bytes([5; 32]));
            let (author, subject, outcome) = (scene.keeper, scene.keeper, ReportOutcome::Dismissed);
            let (reason, note) = (String::new(), String::new());
            vec![
                ("hides a message", Intent::HideMessage { author, message, hidden: true, reason }),
                ("decides a report", Intent::DecideReport { report, subject, outcome, note }),
            ]
        }
        Permission::Remove => vec![("removes someone lower", crate::remove(scene.keeper))],
        Permission::GiveRoles => vec![("gives a role", Intent::SetRole(scene.keeper, Role::Guest))],
        Permission::ManageChannels => {
            let (fresh, name) = (ChannelId::from_bytes([7; 16]), "salon".to_owned());
            let (known, renamed) = (scene.parlour, "drawing room".to_owned());
            vec![
                (
                    "creates a channel",
                    Intent::CreateChannel { channel: fresh, name, closed: false, guests: false },
                ),
                (
                    "renames a channel",
                    Intent::ChangeChannel { channel: known, name: renamed, archived: false },
                ),
            ]
        }
        Permission::GrantHistory => {
            vec![("grants history", Intent::GrantHistory(chloe, Audience::Channel(scene.parlour)))]
        }
        Permission::SetTrust => {
            vec![("sets a trust level", Intent::SetTrust(scene.keeper, TrustLevel::Known))]
        }
        Permission::ChangeSettings => vec![
            ("changes a setting", Intent::ChangeSetting(Setting::About("a garden".into()))),
            ("adopts rules", Intent::AdoptRules(RULES_VERSION)),
        ],
        Permission::Allot => {
            vec![("allots credit", Intent::Allot { person: chloe, amount: amount(10), note: String::new() })]
        }
    }
}

fn issue(number: u8, role: Role) -> Intent {
    let key = InviteKey::from_bytes([number; 32]);
    Intent::IssueInvite { key, uses: 1, expires_ms: i64::MAX, role, trust: TrustLevel::Public }
}

/// Whether an act counts here; where not, it is for lack of a right.
fn counts(home: &Home, stream: Stream, act: &ChangeHash, what: &str) -> bool {
    match stream {
        Stream::Charter => match home.standing(act) {
            Some(ActStanding::Counts) => true,
            Some(ActStanding::NotEntitled) => false,
            other => panic!("{what}: {other:?}"),
        },
        Stream::Ledger => match home.community.state().ledger.standing(act) {
            Some(Standing::Counted) => true,
            Some(Standing::Faulty(LedgerFault::NotAllowed)) => false,
            other => panic!("{what}: {other:?}"),
        },
        _ => match home.word(act) {
            WordStanding::Counts => true,
            WordStanding::NotEntitled => false,
            other => panic!("{what}: {other:?}"),
        },
    }
}

#[test]
fn each_permission_is_had_by_exactly_the_roles_of_the_table() {
    let mut rows = PERMISSIONS;
    // Whoever removes someone has to start new epochs afterwards: last.
    rows.sort_by_key(|(permission, _)| *permission == Permission::Remove);
    for role in Role::ALL {
        let mut scene = stage(role);
        let before = scene.chloe.hash();
        let mut written = Vec::new();
        for (permission, least) in rows {
            let acts = acts_of(&scene, permission);
            assert!(!acts.is_empty(), "no act needs the permission: {}", permission.as_str());
            for (what, intent) in acts {
                let (what, may) = (format!("{role} {what}"), role >= least);
                let answer = decided(&scene.ben, intent.clone());
                let (stream, event) = if may {
                    answer.unwrap_or_else(|refusal| panic!("{what}: {refusal}"))
                } else {
                    let is_refused = matches!(
                        answer,
                        Err(Refusal::NotEntitled | Refusal::Ledger(LedgerFault::NotAllowed))
                    );
                    assert!(is_refused, "{what}: {answer:?}");
                    // What an owner's program would have written, written by Ben.
                    decided(&scene.ana, intent).unwrap_or_else(|refusal| panic!("owner, {what}: {refusal}"))
                };
                let act = scene.ben.write(stream, &event);
                written.push((what, stream, act, may));
            }
        }
        let Scene { ana, ben, chloe, .. } = &mut scene;
        meet(&mut [ana, ben, chloe]);
        for (what, stream, act, may) in &written {
            for home in [&scene.ana, &scene.chloe] {
                assert_eq!(counts(home, *stream, act, what), *may, "{what}, says {}", home.name);
            }
        }
        assert_eq!(scene.ana.hash(), scene.chloe.hash(), "{role}");
        if role == Role::Keeper {
            assert_eq!(scene.chloe.hash(), before, "nothing a keeper did changed anything");
        }
    }
}

#[test]
fn members_invite_where_the_setting_says_so_and_guests_never() {
    let (_, [mut a, mut b, mut g]) = garden([Role::Owner, Role::Member, Role::Guest]);
    let mut refusals = vec![refused(&mut b, &issue(1, Role::Guest)), refused(&mut g, &issue(2, Role::Guest))];
    a.act(Intent::ChangeSetting(Setting::MembersInvite(true)));
    meet(&mut [&mut a, &mut b, &mut g]);
    let by_setting = b.act(issue(3, Role::Member));
    refusals.push(refused(&mut g, &issue(4, Role::Guest)));
    meet(&mut [&mut a, &mut b, &mut g]);

    // Taken back; Ben does not know yet, and is judged by what he knew.
    a.act(Intent::ChangeSetting(Setting::MembersInvite(false)));
    let apart = b.act(issue(5, Role::Member));
    meet(&mut [&mut a, &mut b, &mut g]);
    refusals.push(refused(&mut b, &issue(6, Role::Guest)));
    meet_in_every_order(&mut [&mut a, &mut b, &mut g]);
    for act in [by_setting, apart] {
        all_say(&[&a, &b, &g], &act, ActStanding::Counts);
    }
    for act in &refusals {
        all_say(&[&a, &b, &g], act, ActStanding::NotEntitled);
    }
    assert!(!a.community.state().charter.invites.contains_key(&InviteKey::from_bytes([6; 32])));
}

/// Their profile, their devices, a proof that somebody signed two lines, and
/// going: everyone may, but of all that a keeper may only go.
#[test]
fn everyone_cares_for_themselves_but_keepers_who_may_leave_and_nothing_else() {
    for role in Role::ALL {
        let (people, [mut a, mut b, mut c]) = garden([Role::Owner, role, Role::Member]);
        leak(&a, &mut b);
        let room = a.channel();
        let mut copy = c.twin();
        c.say(room, "one line");
        copy.say(room, "another line");
        let proof = c.proof_against(&c.feed(Stream::Channel(room)), &copy, 1);

        let ben = &people[1];
        let phone = ben.certify(&ben.device(1), 2);
        let device = phone.claims.device;
        let (name, about) = ("Benny".to_owned(), String::new());
        let deeds = [
            (
                Intent::SetProfile { name: name.clone(), about: about.clone() },
                CharterEvent::ProfileSet { name, about },
            ),
            (
                Intent::ProveEquivocation(Box::new(proof.clone())),
                CharterEvent::EquivocationProven { proof, fence: Fence::default(), settled: vec![] },
            ),
            (Intent::AddDevice(phone.clone()), CharterEvent::DeviceAdded { certificate: phone }),
            (
                Intent::RevokeDevice { device, phrase: None },
                CharterEvent::DeviceRevoked { device, fence: Fence::default(), phrase: None },
            ),
        ];
        let mut acts = Vec::new();
        for (intent, event) in deeds {
            if role == Role::Keeper {
                let shown = format!("{intent:?}");
                assert_eq!(b.try_act(intent), Err(Refusal::NotEntitled), "{shown}");
                acts.push((b.force(event), ActStanding::NotEntitled));
            } else {
                acts.push((b.act(intent), ActStanding::Counts));
            }
        }
        acts.push((b.act(Intent::Leave), ActStanding::Counts));
        b.send_to(&mut a);
        for (number, (act, standing)) in acts.iter().enumerate() {
            assert_eq!(a.standing(act), Some(*standing), "{role}, deed {number}");
        }
        assert!(!a.is_member(&ben.id()), "{role}");
    }
}

#[test]
fn governance_is_sealed_to_everyone_but_keepers() {
    for role in Role::ALL {
        let (people, [mut a, mut b]) = garden([Role::Owner, role]);
        let reads = role.may(Permission::ReadGovernance);
        let ben = people[1].id();
        assert_eq!(a.community.charter().now().reads(&ben, &Audience::Governance), reads, "{role}");
        a.rotate(Audience::Governance);
        let told = a.act(Intent::SetProfile { name: "Ana".into(), about: "here".into() });
        meet(&mut [&mut a, &mut b]);
        assert_eq!(b.opens(&told), reads, "{role}");
        assert_eq!(b.hash() == a.hash(), reads, "{role}");
    }
}
