//! One node: a program that starts, crashes and starts again from its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_model::charter::Role;
use exo_model::decide::Intent;
use exo_model::id::{ChangeHash, DeviceId};
use exo_sync::hub::{Company, Effect, Hub, Input, LinkId};
use exo_sync::replica::{ReplicaCore, ReplicaError, SealedGovernance, Snapshot};

use super::Nx;
use super::byzantine::Vice;
use super::chance::{Chance, SeededEntropy};
use super::exchange::Talk;
use super::gossip::Gossip;
use super::people::{Person, config};
use super::world::{Event, World};

/// Changes within this time are told as one, as in `mesh::community`.
const GATHER_MS: u64 = 5;
/// Shortest pause between looks at keys, ms, up to twice as long. A real node
/// looks six times as often: that costs a run more than all else.
const TEND_EVERY_MS: u64 = 120_000;
/// First and longest pause of a newcomer between rounds, ms, as in `mesh::join`.
const ASK_PAUSE_MS: (u64, u64) = (500, 30_000);
/// Longest wait of a newcomer for the charter, ms.
const CHARTER_MS: u64 = 20_000;

/// A node, whether its program runs or not.
pub struct Node {
    /// Its number.
    pub nx: Nx,
    /// Whose it is.
    pub person: Person,
    /// Its store.
    pub path: PathBuf,
    /// How it lies, if it does.
    pub vice: Option<Vice>,
    /// How often it was started.
    pub life: u32,
    /// Dials it began, over all its lives.
    pub dials: u64,
    /// Whether its person wants it to talk to others.
    pub online: bool,
    /// Whom its invite names.
    pub(crate) contacts: BTreeSet<DeviceId>,
    pub(crate) chance: Chance,
    seed: u64,
    /// The program, while it runs.
    pub running: Option<Running>,
}

/// A program that runs.
pub struct Running {
    /// What decides.
    pub hub: Hub,
    /// Its replica; whoever shows two faces has two.
    pub faces: Vec<ReplicaCore>,
    pub(crate) company: Arc<Company>,
    seen: Option<Snapshot>,
    looks: bool,
    wakes_ms: Option<u64>,
    pub(crate) talks: BTreeMap<(LinkId, u64), Talk>,
    pub(crate) gossip: Gossip,
}

impl Running {
    /// The face shown to a peer.
    pub(crate) fn face(&mut self, peer: Nx) -> &mut ReplicaCore {
        let faces = self.faces.len();
        &mut self.faces[peer % faces]
    }
}

impl Node {
    pub(crate) fn new(nx: Nx, person: Person, folder: &Path, seed: u64, vice: Option<Vice>) -> Self {
        Self {
            nx,
            person,
            path: folder.join(format!("{nx}.db")),
            vice,
            life: 0,
            dials: 0,
            online: true,
            contacts: BTreeSet::new(),
            chance: Chance::new(seed, 100 + nx as u64),
            seed,
            running: None,
        }
    }

    /// The device.
    pub fn device(&self) -> DeviceId {
        self.person.device()
    }

    /// The snapshot of whoever runs.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.running.as_ref().map(|running| running.faces[0].snapshot())
    }

    /// Whether a device may connect.
    pub(crate) fn admits(&self, device: &DeviceId) -> bool {
        self.running.as_ref().is_some_and(|running| {
            running.faces[0].snapshot().knows_device(device) || running.company.devices.contains(device)
        })
    }

    /// Whether it can be reached at all.
    pub(crate) fn is_up(&self) -> bool {
        self.online && self.running.is_some()
    }

    pub(crate) fn is_life(&self, life: u32) -> bool {
        self.life == life && self.running.is_some()
    }

    fn company_of(&self, now: &Snapshot) -> Company {
        let me = self.device();
        if !now.knows_device(&me) {
            return Company { devices: self.contacts.clone(), close: BTreeSet::new() };
        }
        let charter = &now.state.charter;
        let mut company = Company { devices: now.devices(), close: BTreeSet::new() };
        company.devices.remove(&me);
        let person = charter.person_of(&me);
        let is_close = |device: &&DeviceId| {
            let of = charter.person_of(device);
            (of.is_some() && of == person) || charter.role_of(device) == Some(Role::Keeper)
        };
        company.close = company.devices.iter().filter(is_close).copied().collect();
        company
    }
}

impl World {
    /// Starts a node's program from what is on its disk.
    pub fn start(&mut self, nx: Nx) {
        if self.nodes[nx].running.is_some() {
            return;
        }
        let (community, clock) = (self.template.community, self.clock.clone());
        let node = &mut self.nodes[nx];
        node.life += 1;
        let faces = if node.vice == Some(Vice::TwoFaced) { 2 } else { 1 };
        let mut replicas = Vec::new();
        for face in 0..faces {
            let path = if face == 0 { node.path.clone() } else { node.path.with_extension("other.db") };
            if face > 0 && !path.exists() && node.path.exists() {
                std::fs::copy(&node.path, &path).expect("room for a store");
            }
            let purpose = (nx as u64) << 32 | u64::from(node.life) << 4 | face;
            let entropy = SeededEntropy::new(node.seed, purpose);
            let config = config(&node.person, community, path, clock.clone(), entropy);
            replicas.push(ReplicaCore::open(config, |_| ()).expect("the store opens"));
        }
        let mut hub = Hub::new(node.device());
        if !node.online {
            hub.handle(self.now_ms, &mut node.chance, Input::Online(false));
        }
        let life = node.life;
        node.running = Some(Running {
            hub,
            faces: replicas,
            company: Arc::default(),
            seen: None,
            looks: false,
            wakes_ms: None,
            talks: BTreeMap::new(),
            gossip: Gossip::default(),
        });
        let tend_ms = node.chance.between(0, 2 * TEND_EVERY_MS);
        let is_liar = node.vice.is_some_and(Vice::is_busy);
        self.look(nx, life);
        self.after(tend_ms, Event::Tend(nx, life));
        if is_liar {
            self.after(1_000, Event::Mischief(nx, life));
        }
        let is_inside =
            self.nodes[nx].snapshot().is_some_and(|now| now.knows_device(&self.nodes[nx].device()));
        if !is_inside && nx >= self.template.members {
            self.after(0, Event::Ask(nx, life, 0));
        }
    }

    /// Kills a node's program, as a power cut would.
    pub fn crash(&mut self, nx: Nx) {
        if self.nodes[nx].running.take().is_none() {
            return;
        }
        self.cut_links_of(nx);
        self.cut_gossip_of(nx);
    }

    /// Lets a person put their node offline, or online again.
    pub fn set_online(&mut self, nx: Nx, online: bool) {
        self.nodes[nx].online = online;
        if !online {
            self.cut_gossip_of(nx);
        }
        self.hear(nx, Input::Online(online));
    }

    /// Tells a hub what happened and does what it says.
    pub(crate) fn hear(&mut self, nx: Nx, input: Input) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[nx];
        let Some(running) = &mut node.running else { return };
        let effects = running.hub.handle(now_ms, &mut node.chance, input);
        let idle = effects.is_empty();
        for effect in effects {
            self.carry_out(nx, effect);
        }
        self.reschedule(nx, idle);
    }

    fn reschedule(&mut self, nx: Nx, idle: bool) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[nx];
        let life = node.life;
        let Some(running) = &mut node.running else { return };
        let Some(next_ms) = running.hub.next_wake_ms() else { return };
        if next_ms <= now_ms && idle {
            // A real node would turn in circles.
            self.tally.spins += 1;
        }
        let next_ms = next_ms.max(now_ms + 1);
        if running.wakes_ms.is_none_or(|at_ms| next_ms < at_ms) {
            running.wakes_ms = Some(next_ms);
            self.at(next_ms, Event::Wake(nx, life));
        }
    }

    pub(crate) fn wake(&mut self, nx: Nx, life: u32) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[nx];
        if !node.is_life(life) {
            return;
        }
        // An earlier one took its place, unless it is this one.
        if let Some(running) = node.running.as_mut().filter(|running| running.wakes_ms == Some(now_ms)) {
            running.wakes_ms = None;
            self.hear(nx, Input::Tick);
        }
    }

    fn carry_out(&mut self, nx: Nx, effect: Effect) {
        match effect {
            Effect::Dial(device) => self.dial(nx, &device),
            Effect::Close(link, farewell) => self.close(nx, link, farewell),
            Effect::Exchange(link, _) => self.begin_exchange(nx, link),
            Effect::Hint(_, hint) => self.say_hint(nx, hint),
            Effect::Announce(_, load) => self.say_here(nx, load),
            Effect::Introduce(_, devices) => self.introduce(nx, devices),
        }
    }

    /// Notes that a replica changed: the hub is told in a moment.
    pub(crate) fn changed(&mut self, nx: Nx) {
        let node = &mut self.nodes[nx];
        let life = node.life;
        if let Some(running) = node.running.as_mut().filter(|running| !running.looks) {
            running.looks = true;
            self.after(GATHER_MS, Event::Look(nx, life));
        }
    }

    pub(crate) fn look(&mut self, nx: Nx, life: u32) {
        if !self.nodes[nx].is_life(life) {
            return;
        }
        let Some(now) = self.nodes[nx].snapshot() else { return };
        let company = self.nodes[nx].company_of(&now);
        let Some(running) = &mut self.nodes[nx].running else { return };
        running.looks = false;
        let topics = running.seen.as_ref().map(|seen| seen.topics.clone());
        if *running.company != company {
            running.company = Arc::new(company);
        }
        let input = Input::Community { company: running.company.clone(), ends: now.ends.clone() };
        let has_new_topics = topics.as_deref() != Some(&*now.topics);
        running.seen = Some(now);
        self.hear(nx, input);
        if has_new_topics {
            self.subscribe(nx);
        }
    }

    pub(crate) fn tend(&mut self, nx: Nx, life: u32) {
        let node = &mut self.nodes[nx];
        if !node.is_life(life) {
            return;
        }
        let pause_ms = node.chance.between(TEND_EVERY_MS, 2 * TEND_EVERY_MS);
        let Some(running) = &mut node.running else { return };
        let mut wrote = false;
        for face in &mut running.faces {
            let before = face.snapshot().digest();
            // What cannot be written now is not written later either.
            wrote |= face.tend().is_ok() && face.snapshot().digest() != before;
        }
        if wrote {
            self.changed(nx);
        }
        self.after(pause_ms, Event::Tend(nx, life));
    }

    /// Lets a node's person do something.
    ///
    /// # Errors
    /// Where their own program refuses, or none runs.
    pub fn record(&mut self, nx: Nx, intent: Intent) -> Result<ChangeHash, ReplicaError> {
        let running = self.nodes[nx].running.as_mut().ok_or(ReplicaError::Closed)?;
        let recorded = running.faces[0].record(intent);
        self.changed(nx);
        recorded
    }

    /// A newcomer asks one of its contacts.
    pub(crate) fn ask(&mut self, nx: Nx, life: u32, round: u32) {
        let node = &self.nodes[nx];
        let is_inside = || node.snapshot().is_some_and(|now| now.knows_device(&node.device()));
        if !node.is_life(life) || is_inside() {
            return;
        }
        let pause_ms = (ASK_PAUSE_MS.0 << round.min(6)).min(ASK_PAUSE_MS.1);
        let contacts: Vec<Nx> = node.contacts.iter().filter_map(|device| self.nx_of(device)).collect();
        let contact = self.chance.pick(&contacts).copied();
        let delay_ms = self.network.delay_ms(&mut self.chance);
        let is_reached = |of: &Nx| self.nodes[*of].is_up() && !self.network.is_cut(nx, *of);
        if let Some(contact) = contact.filter(|of| node.online && is_reached(of))
            && let Some(keys) = self.admit(contact, nx)
        {
            self.after(2 * delay_ms, Event::Answer(nx, life, keys));
            self.after(CHARTER_MS, Event::Ask(nx, life, 0));
            return;
        }
        let pause_ms = self.chance.between(pause_ms / 2, pause_ms * 3 / 2);
        self.after(pause_ms, Event::Ask(nx, life, round + 1));
    }

    fn admit(&mut self, contact: Nx, newcomer: Nx) -> Option<SealedGovernance> {
        let n = self.nodes[newcomer].person.clone();
        let request = self.template.request_of(&n);
        match self.record(contact, Intent::Admit(request)) {
            Ok(_) | Err(ReplicaError::Refused(exo_model::decide::Refusal::AlreadyMember)) => {}
            Err(ReplicaError::Refused(_) | ReplicaError::Compose(_)) => return None,
            Err(error) => panic!("admitting: {error}"),
        }
        let running = self.nodes[contact].running.as_mut()?;
        Some(running.faces[0].seal_governance(&n.certificate.claims.sealing))
    }

    pub(crate) fn answered(&mut self, nx: Nx, life: u32, keys: &SealedGovernance) {
        let node = &mut self.nodes[nx];
        if !node.is_life(life) {
            return;
        }
        let Some(running) = &mut node.running else { return };
        running.faces[0].learn_governance(keys).expect("the store works");
        self.changed(nx);
        self.hear(nx, Input::NetworkChanged);
    }
}
