//! What people do, and what befalls their machines; and whether all came to the
//! same in the end.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::charter::Role;
use exo_model::decide::Intent;
use exo_model::id::ChannelId;
use exo_sync::hub::Random as _;
use exo_sync::replica::ReplicaError;

use super::Nx;
use super::byzantine::Vice;
use super::chance::Chance;
use super::network::Weather;
use super::people::Templates;
use super::world::{Event, Plan, World};

/// Virtual time within which a run must have come together after everything
/// works again, ms. A device that was not to be reached for long is dialled again
/// after five minutes, and gossip that was split finds together by links.
pub const CONVERGES_MS: u64 = 20 * 60_000;

/// Members that stories begin with; large communities in few of them.
pub const MEMBERS: [usize; 4] = [20, 22, 30, 48];
/// People who may come later.
pub const NEWCOMERS_MAX: usize = 2;

/// Something that people do.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Somebody writes something.
    Post,
    /// Somebody changes their profile.
    Profile,
    /// The founder opens a channel.
    Channel,
    /// The founder gives somebody a role.
    Promote,
    /// The founder removes somebody.
    Remove(Nx),
    /// A newcomer comes, with an invite that names these members. All of them are
    /// honest and stay: whoever is admitted by a liar, or by somebody who does not
    /// know yet of their own removal, is with them alone, because nobody else hears
    /// of it. That is a limit of joining, not of the mesh.
    Join(Nx, [Nx; 3]),
}

/// Something that befalls a machine or the network.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A program dies and is started again after so long, ms.
    Crash(Nx, u64),
    /// The network falls into so many parts, for so long, ms.
    Split(u8, u64),
    /// It is whole again.
    Heal,
    /// Somebody works offline for so long, ms.
    Offline(Nx, u64),
    /// They are back.
    Online(Nx),
    /// A node's gossip was too slow.
    Lag(Nx),
    /// The network changes.
    Weather(Weather),
}

/// One seed's story: who takes part, what they do, and what goes wrong.
pub struct Story {
    /// What it begins with.
    pub plan: Plan,
    acts: Vec<(u64, Act)>,
    faults: Vec<(u64, Fault)>,
    ends_ms: u64,
}

impl Story {
    /// The story of a seed.
    pub fn of(seed: u64, templates: &Templates) -> Self {
        let mut chance = Chance::new(seed, 2);
        let newcomers = chance.below(NEWCOMERS_MAX + 1);
        let members = match chance.below(30) {
            0 => MEMBERS[3],
            1..4 => MEMBERS[2],
            n => MEMBERS[n % 2],
        };
        let template = templates.of(members);
        let members = template.members;
        let mut liars = BTreeMap::new();
        for _ in 0..chance.below(4) {
            // The founder is honest: somebody must be able to remove others.
            let vice = Vice::ALL[chance.below(Vice::ALL.len())];
            liars.insert(1 + chance.below(members - 1), vice);
        }
        let ends_ms = chance.between(60_000, 180_000);
        let plan = Plan { seed, template, newcomers, liars, weather: Weather::FAIR };
        let acts = acts(&mut chance, &plan, ends_ms);
        let faults = faults(&mut chance, members + newcomers, ends_ms);
        Self { plan, acts, faults, ends_ms }
    }

    /// Tells it, and waits until all came together; returns the world and how long
    /// that took, ms.
    ///
    /// # Panics
    /// Where they did not, with what to run.
    pub fn tell(self) -> (World, u64) {
        let Self { plan, acts, faults, ends_ms } = self;
        let seed = plan.seed;
        let mut world = World::new(plan);
        for (at_ms, act) in acts {
            world.at(at_ms, Event::Act(act));
        }
        for (at_ms, fault) in faults {
            world.at(at_ms, Event::Fault(fault));
        }
        world.run_for(ends_ms);
        world.mend();
        match world.converge(CONVERGES_MS) {
            Ok(took_ms) => (world, took_ms),
            Err(apart) => panic!(
                "seed {seed}: {apart}\nrun it alone: SIM_SEED={seed} cargo test -p exo-tests --test simulator \
                 convergence"
            ),
        }
    }
}

fn acts(chance: &mut Chance, plan: &Plan, ends_ms: u64) -> Vec<(u64, Act)> {
    let members = plan.template.members;
    let mut acts: Vec<Act> = (0..members / 3 + 4).map(|_| Act::Post).collect();
    acts.extend([Act::Profile, Act::Profile]);
    for act in [Act::Channel, Act::Promote] {
        acts.extend(chance.percent(50).then_some(act));
    }
    let removed = 1 + chance.below(members - 1);
    acts.extend(chance.percent(50).then_some(Act::Remove(removed)));
    let stay: Vec<Nx> = (0..members).filter(|nx| *nx != removed && !plan.liars.contains_key(nx)).collect();
    for newcomer in members..members + plan.newcomers {
        let contacts = std::array::from_fn(|_| stay[chance.below(stay.len())]);
        acts.push(Act::Join(newcomer, contacts));
    }
    acts.into_iter().map(|act| (chance.between(1_000, ends_ms), act)).collect()
}

fn faults(chance: &mut Chance, nodes: usize, ends_ms: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut befalls = |chance: &mut Chance, fault| faults.push((chance.between(1_000, ends_ms), fault));
    for _ in 0..chance.below(nodes / 3) {
        let nx = chance.below(nodes);
        let ms = chance.between(10, 90_000);
        let fault = if chance.percent(70) { Fault::Crash(nx, ms) } else { Fault::Offline(nx, ms) };
        befalls(chance, fault);
    }
    for _ in 0..chance.below(3) {
        let parts = u8::try_from(2 + chance.below(2)).unwrap_or(2);
        let ms = chance.between(2_000, 150_000);
        befalls(chance, Fault::Split(parts, ms));
    }
    for _ in 0..chance.below(4) {
        let nx = chance.below(nodes);
        befalls(chance, Fault::Lag(nx));
    }
    let weather = Weather {
        delay_ms: chance.between(1, 80),
        jitter_ms: chance.between(1, 500),
        loss_percent: chance.between(0, 40),
    };
    befalls(chance, Fault::Weather(weather));
    faults
}

impl World {
    pub(crate) fn act(&mut self, act: &Act) {
        let done = match act {
            Act::Join(nx, contacts) => {
                self.invite(*nx, contacts);
                return;
            }
            Act::Post => self.someone().map(|nx| self.post(nx)),
            Act::Profile => self.someone().map(|nx| {
                let name = format!("Person {nx} of {}", self.now_ms);
                self.record(nx, Intent::SetProfile { name, about: String::new() }).map(drop)
            }),
            Act::Channel => {
                let channel = ChannelId::from_bytes(*self.chance.array().first_chunk().unwrap_or(&[7; 16]));
                let name = format!("room-{}", self.now_ms);
                let intent = Intent::CreateChannel { channel, name, closed: false, guests: false };
                Some(self.record(0, intent).map(drop))
            }
            Act::Promote => {
                let nx = 1 + self.chance.below(self.template.members - 1);
                let role = Intent::SetRole(self.nodes[nx].person.id(), Role::Moderator);
                Some(self.record(0, role).map(drop))
            }
            Act::Remove(nx) => Some(self.remove(*nx)),
        };
        match done {
            // Who has no right, or nothing to write under yet, cannot.
            None | Some(Ok(())) => {}
            Some(Err(ReplicaError::Refused(_) | ReplicaError::Compose(_) | ReplicaError::Closed)) => {}
            Some(Err(error)) => panic!("seed {}: {act:?}: {error}", self.seed),
        }
    }

    /// Somebody writes something; who shows two faces says two things.
    ///
    /// # Errors
    /// Where their own program refuses, or none runs.
    pub fn post(&mut self, nx: Nx) -> Result<(), ReplicaError> {
        let channel = self.template.channel;
        let now_ms = self.now_ms;
        let running = self.nodes[nx].running.as_mut().ok_or(ReplicaError::Closed)?;
        let mut posted = Ok(());
        for (face, replica) in running.faces.iter_mut().enumerate() {
            let text = format!("{nx} at {now_ms}, {face}");
            let (mentions, attachments) = (Vec::new(), Vec::new());
            let said = replica.record(Intent::Post { channel, text, reply_to: None, mentions, attachments });
            posted = posted.and(said.map(drop));
        }
        self.changed(nx);
        posted
    }

    /// The founder removes somebody.
    ///
    /// # Errors
    /// Where the founder's program refuses, or does not run.
    pub fn remove(&mut self, nx: Nx) -> Result<(), ReplicaError> {
        let person = self.nodes[nx].person.id();
        self.record(0, Intent::Remove { person, ban: false, reason: "noise".into() })?;
        self.removed.insert(nx);
        Ok(())
    }

    /// A newcomer comes, with an invite that names these.
    pub fn invite(&mut self, nx: Nx, contacts: &[Nx]) {
        self.nodes[nx].contacts = contacts.iter().map(|of| self.nodes[*of].device()).collect();
        self.start(nx);
    }

    fn someone(&mut self) -> Option<Nx> {
        let running: Vec<Nx> =
            self.nodes.iter().filter(|node| node.running.is_some()).map(|node| node.nx).collect();
        self.chance.pick(&running).copied()
    }

    pub(crate) fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(nx, ms) => {
                if self.nodes[nx].running.is_some() {
                    self.crash(nx);
                    self.after(ms, Event::Start(nx));
                }
            }
            Fault::Split(parts, ms) => {
                let nodes = self.nodes.len();
                let part = |chance: &mut Chance| u8::try_from(chance.any() % u64::from(parts)).unwrap_or(0);
                let split = (0..nodes).map(|nx| (nx, part(&mut self.chance))).collect();
                self.split(split);
                self.after(ms, Event::Fault(Fault::Heal));
            }
            Fault::Heal => self.network.heal(),
            Fault::Offline(nx, ms) => {
                self.set_online(nx, false);
                self.after(ms, Event::Fault(Fault::Online(nx)));
            }
            Fault::Online(nx) => self.set_online(nx, true),
            Fault::Lag(nx) => self.lag(nx),
            Fault::Weather(weather) => self.network.weather = weather,
        }
    }

    /// Splits the network into parts.
    pub fn split(&mut self, parts: BTreeMap<Nx, u8>) {
        self.network.split(parts);
        self.watch_cut_links();
        self.cut_split_gossip();
    }

    /// From now on everything works.
    pub fn mend(&mut self) {
        self.network.heal();
        self.network.weather = Weather::FAIR;
        for nx in 0..self.nodes.len() {
            if !self.nodes[nx].online {
                self.set_online(nx, true);
            }
            if self.nodes[nx].life > 0 {
                self.start(nx);
            }
        }
    }

    /// A machine is gone for good.
    pub fn retire(&mut self, nx: Nx) {
        self.crash(nx);
        self.gone.insert(nx);
    }

    /// Whoever should be of one mind: honest members who came, were not removed and
    /// whose machines are not gone.
    pub fn honest(&self) -> Vec<Nx> {
        let counts = |nx: &Nx| {
            let node = &self.nodes[*nx];
            node.life > 0 && node.vice.is_none() && !self.removed.contains(nx) && !self.gone.contains(nx)
        };
        (0..self.nodes.len()).filter(counts).collect()
    }

    /// What keeps honest members apart; nothing where they are of one mind.
    pub fn apart(&self) -> Option<String> {
        let honest = self.honest();
        let first = honest.first().and_then(|nx| self.nodes[*nx].snapshot());
        let mut roots: BTreeMap<[u8; 32], Vec<Nx>> = BTreeMap::new();
        for nx in &honest {
            let node = &self.nodes[*nx];
            let Some(now) = node.snapshot() else { return Some(format!("{nx} does not run")) };
            let is_known = first.as_ref().is_some_and(|first| first.knows_device(&node.device()));
            if !is_known || !now.knows_device(&node.device()) {
                return Some(format!("{nx} is not a member"));
            }
            roots.entry(now.digest()).or_default().push(*nx);
        }
        if roots.len() > 1 {
            return Some(format!("stores differ: {:?}", roots.values().collect::<Vec<_>>()));
        }
        let snapshots = honest.iter().filter_map(|nx| self.nodes[*nx].snapshot());
        let states: BTreeSet<_> = snapshots.map(|now| format!("{:?}", now.state.hash())).collect();
        (states.len() > 1).then(|| format!("{} states from one store", states.len()))
    }

    /// Waits until all honest members are of one mind.
    ///
    /// # Errors
    /// What keeps them apart at the end of that time.
    pub fn converge(&mut self, limit_ms: u64) -> Result<u64, String> {
        match self.run_until(limit_ms, |world| world.apart().is_none()) {
            Some(took_ms) => Ok(took_ms),
            None => Err(self.apart().unwrap_or_default()),
        }
    }
}
