//! What goes in, what comes out, and the fixpoint between them.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::amount::Amount;
use exo_model::charter::role::Role;
use exo_model::charter::settings::Settings;
use exo_model::event::CharterEvent as E;
use exo_model::event::CharterEvent;
use exo_model::event::charter::{ReportOutcome, VouchGround};
use exo_model::event::keys::Audience;
use exo_model::feed::Stream;
use exo_model::trust::TrustLevel;
use exo_model::{ChangeHash, ChannelId, CommunityId, DeviceId, InviteKey, PersonId};

use super::cuts::{self, Applied};
use super::dag::Dag;
use super::rules::{Case, Right};
use super::signing::Keys;
use super::view::{Judgement, Verdict, View};

/// A change of a charter feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CharterAct {
    pub(crate) id: ChangeHash,
    pub(crate) device: DeviceId,
    pub(crate) segment: u32,
    pub(crate) seq: u64,
    /// The change before it on the device's line, across segments; zeros for
    /// the very first.
    pub(crate) previous: ChangeHash,
    /// The charter heads it cites, ascending.
    pub(crate) heads: Vec<ChangeHash>,
    pub(crate) time_ms: i64,
    pub(crate) event: CharterEvent,
}

/// What holds for a community beside its acts.
pub(crate) struct Terms<'a> {
    pub(crate) community: CommunityId,
    /// The change whose payload hashes to the community's id.
    pub(crate) founding: ChangeHash,
    pub(crate) limits: Limits,
    pub(crate) keys: &'a dyn Keys,
}

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) members: usize,
    pub(crate) invites: usize,
    pub(crate) channels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { members: 1_024, invites: 4_096, channels: 256 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RefStanding {
    Counts,
    Void,
    /// Also: co-signatures that it needs are missing.
    NotEntitled,
    Lost,
    NotReady,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefMember {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) role: Role,
    pub(crate) trust: TrustLevel,
    /// Those that take part, with the change that enrolled each.
    pub(crate) devices: BTreeMap<DeviceId, ChangeHash>,
    /// The author of the last admission; `None` for the founder.
    pub(crate) admitted_by: Option<PersonId>,
    /// The last admission.
    pub(crate) admitted: ChangeHash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefInvite {
    pub(crate) issuer: PersonId,
    pub(crate) uses: u32,
    pub(crate) used: u32,
    pub(crate) role: Role,
    pub(crate) trust: TrustLevel,
    pub(crate) revoked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefChannel {
    pub(crate) name: String,
    pub(crate) archived: bool,
    pub(crate) closed: bool,
    pub(crate) guests: bool,
    /// Members who were added and not taken out since.
    pub(crate) people: BTreeSet<PersonId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) standing: BTreeMap<ChangeHash, RefStanding>,
    pub(crate) settings: Option<Settings>,
    pub(crate) members: BTreeMap<PersonId, RefMember>,
    /// Who was admitted and is outside, with the removals that stand.
    pub(crate) outside: BTreeMap<PersonId, BTreeSet<ChangeHash>>,
    pub(crate) invites: BTreeMap<InviteKey, RefInvite>,
    pub(crate) channels: BTreeMap<ChannelId, RefChannel>,
    pub(crate) rules: Option<u32>,
    pub(crate) history: BTreeSet<(PersonId, Audience)>,
    pub(crate) allotments: BTreeMap<ChangeHash, (PersonId, Amount)>,
    pub(crate) vouches: BTreeMap<(PersonId, PersonId), VouchGround>,
    /// Devices with a proven fork in the charter.
    pub(crate) suspended: BTreeSet<DeviceId>,
    /// Devices with a proven fork in the ledger.
    pub(crate) barred: BTreeSet<DeviceId>,
    /// Hidden messages and their authors.
    pub(crate) hidden: BTreeMap<ChangeHash, PersonId>,
    pub(crate) reports: BTreeMap<ChangeHash, (PersonId, ReportOutcome)>,
    /// The events whose fences cut a device's feeds, in the order of applying.
    pub(crate) fences: BTreeMap<DeviceId, Vec<ChangeHash>>,
    /// All applied fences, in the order of applying.
    pub(crate) applied: Vec<ChangeHash>,
}

/// The state of a community after a set of acts.
pub(crate) fn reduce(acts: &[CharterAct], terms: &Terms<'_>) -> Reference {
    let dag = Dag::of(acts);
    let mut applied: Vec<Applied> = Vec::new();
    loop {
        let judgement = judge(&dag, terms, &applied);
        match next_to_apply(&dag, terms, &judgement, &applied) {
            Some(next) => applied.push(next),
            None => return report(&dag, &judgement, &applied),
        }
    }
}

/// Judges every act in the order, so that all of its past was judged before.
fn judge(dag: &Dag, terms: &Terms<'_>, applied: &[Applied]) -> Judgement {
    let mut judgement = Judgement::default();
    for one in applied {
        judgement.kept_signatures.insert(one.at, one.signatures.clone());
    }
    for at in 0..dag.len() {
        // What was applied stays applied.
        if let Some(one) = applied.iter().find(|one| one.at == at) {
            judgement.verdict.push(one.verdict.clone());
            judgement.author.push(one.author);
            judgement.lifts.push(BTreeSet::new());
            continue;
        }
        let past = View::of(dag, &judgement, &dag.past[at]);
        let before = View::of(dag, &judgement, &(0..at).collect());
        let case = Case { dag, terms, at, past: &past };
        let verdict = if cuts::is_void(dag, at, applied, &past) {
            Verdict::Void
        } else {
            match case.right() {
                Right::No => Verdict::NotEntitled,
                Right::Yes | Right::With(_) if case.is_lost(&before) => Verdict::Lost,
                Right::Yes => Verdict::Counts,
                Right::With(need) => Verdict::Needs(need),
            }
        };
        let (author, lifts) = (case.author(), case.lifted());
        judgement.verdict.push(verdict);
        judgement.author.push(author);
        judgement.lifts.push(lifts);
    }
    judgement
}

/// Of all fences that count and are not applied yet, the one whose turn it is.
fn next_to_apply(
    dag: &Dag,
    terms: &Terms<'_>,
    judgement: &Judgement,
    applied: &[Applied],
) -> Option<Applied> {
    let everything: BTreeSet<usize> = (0..dag.len()).collect();
    let all = View::of(dag, judgement, &everything);
    let mut waiting: Vec<_> = all
        .events()
        .filter(|(at, event)| cuts::fence_of(event).is_some() && !applied.iter().any(|one| one.at == *at))
        .map(|(at, _)| {
            let past = View::of(dag, judgement, &dag.past[at]);
            let has_phrase = Case { dag, terms, at, past: &past }.has_phrase();
            let one = Applied {
                at,
                verdict: judgement.verdict[at].clone(),
                author: judgement.author[at],
                signatures: all.signatures(at, &everything),
            };
            (cuts::turn(dag, at, &past, has_phrase), one)
        })
        .collect();
    waiting.sort_by(|one, other| one.0.cmp(&other.0));
    let voids = |one: &Applied, other: &Applied| {
        let past = View::of(dag, judgement, &dag.past[other.at]);
        // As if it were applied next, after those that are.
        let mut then = applied.to_vec();
        then.push(one.clone());
        cuts::is_void(dag, other.at, &then, &past)
    };
    let is_beaten = |one: &Applied| waiting.iter().any(|(_, other)| voids(other, one) && !voids(one, other));
    let turn = waiting.iter().position(|(_, one)| !is_beaten(one)).unwrap_or(0);
    waiting.into_iter().nth(turn).map(|(_, one)| one)
}

fn report(dag: &Dag, judgement: &Judgement, applied: &[Applied]) -> Reference {
    let view = View::of(dag, judgement, &(0..dag.len()).collect());
    let mut out = Reference { settings: view.settings(), ..Reference::default() };
    for (at, act) in dag.acts.iter().enumerate() {
        let standing = match &judgement.verdict[at] {
            Verdict::Counts => RefStanding::Counts,
            Verdict::Needs(_) if view.contains(at) => RefStanding::Counts,
            Verdict::Needs(_) | Verdict::NotEntitled => RefStanding::NotEntitled,
            Verdict::Void => RefStanding::Void,
            Verdict::Lost => RefStanding::Lost,
        };
        out.standing.insert(act.id, standing);
    }
    out.standing.extend(dag.waiting.iter().map(|id| (*id, RefStanding::NotReady)));
    report_people(&view, &mut out);
    report_places(&view, &mut out);
    for (at, _) in view.events() {
        report_event(&view, at, &mut out);
    }
    out.applied = applied.iter().map(|one| dag.acts[one.at].id).collect();
    for device in dag.acts.iter().map(|act| act.device).chain(out.suspended.iter().copied()) {
        let enrolment = view.enrolment(device);
        let fences: Vec<_> = applied
            .iter()
            .filter(|one| cuts::concerns(dag, one, device, enrolment))
            .map(|one| dag.acts[one.at].id)
            .collect();
        if !fences.is_empty() {
            out.fences.insert(device, fences);
        }
    }
    out
}

fn report_people(view: &View<'_>, out: &mut Reference) {
    let id = |at: usize| view.dag.acts[at].id;
    for person in view.people() {
        let admitted = view.admissions(person).last().copied();
        let (Some(role), Some(trust), Some(admitted)) = (view.role(person), view.trust(person), admitted)
        else {
            let standing = view.standing_removals(person).into_iter().map(id).collect();
            out.outside.insert(person, standing);
            continue;
        };
        let is_founder = matches!(view.dag.acts[admitted].event, E::Founded { .. });
        let member = RefMember {
            name: view.name(person).unwrap_or_default().to_owned(),
            about: view.about(person).unwrap_or_default().to_owned(),
            role,
            trust,
            devices: view.devices(person).into_iter().map(|(device, at)| (device, id(at))).collect(),
            admitted_by: if is_founder { None } else { view.author(admitted) },
            admitted: id(admitted),
        };
        out.members.insert(person, member);
    }
}

fn report_places(view: &View<'_>, out: &mut Reference) {
    for (at, event) in view.events() {
        if let E::InviteIssued { key, uses, role, trust, .. } = event
            && let Some(issuer) = view.author(at)
        {
            let used = u32::try_from(view.admissions_with(*key)).unwrap_or(u32::MAX);
            let revoked = view.is_invite_revoked(*key);
            out.invites
                .insert(*key, RefInvite { issuer, uses: *uses, used, role: *role, trust: *trust, revoked });
        }
    }
    for channel in view.channels() {
        if let (Some((name, archived)), Some((closed, guests))) =
            (view.channel(channel), view.channel_door(channel))
        {
            let mut people = view.channel_people(channel);
            people.retain(|person| view.is_member(*person));
            out.channels
                .insert(channel, RefChannel { name: name.to_owned(), archived, closed, guests, people });
        }
    }
}

/// Facts where the later word replaces the earlier.
fn report_event(view: &View<'_>, at: usize, out: &mut Reference) {
    let act = &view.dag.acts[at];
    let Some(author) = view.author(at) else { return };
    match &act.event {
        E::RulesAdopted { version } => out.rules = Some(*version),
        E::HistoryGranted { person, audience } => {
            out.history.insert((*person, *audience));
        }
        E::Allotted { person, amount, .. } => {
            out.allotments.insert(act.id, (*person, *amount));
        }
        // What was said of someone before they left does not come back with them.
        E::Vouched { person, .. } | E::VouchWithdrawn { person }
            if view.admissions(*person).last().is_none_or(|came| !view.is_of_admission(at, *came)) => {}
        E::Vouched { person, ground } => {
            out.vouches.insert((author, *person), *ground);
        }
        E::VouchWithdrawn { person } => {
            out.vouches.remove(&(author, *person));
        }
        E::EquivocationProven { proof, .. } => match proof.feed().stream {
            Stream::Charter => {
                out.suspended.insert(proof.feed().device);
            }
            Stream::Ledger => {
                out.barred.insert(proof.feed().device);
            }
            _ => {}
        },
        E::MessageHidden { author, message, hidden: true, .. } => {
            out.hidden.insert(*message, *author);
        }
        E::MessageHidden { message, hidden: false, .. } => {
            out.hidden.remove(message);
        }
        E::ReportDecided { report, subject, outcome, .. } => {
            out.reports.insert(*report, (*subject, *outcome));
        }
        _ => {}
    }
}
