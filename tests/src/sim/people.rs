//! Who takes part: people with keys, and communities that are founded once and
//! copied for every run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_model::amount::Amount;
use exo_model::certificate::{DeviceCertificate, DeviceClaims, Enroller};
use exo_model::charter::{CommunityKind, Role};
use exo_model::decide::Intent;
use exo_model::id::{ChannelId, CommunityId, DeviceId, InviteKey, PersonId};
use exo_model::invite::{INVITE_USES_MAX, JoinRequest, Ticket};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer as _;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_model::trust::TrustLevel;
use exo_sync::replica::{self, Founding, ReplicaConfig, ReplicaCore};

use super::chance::{SeededEntropy, VirtualClock};

/// Chance of everything that is the same in all runs.
const TEMPLATE_SEED: u64 = 0x7e3;

/// A person with one device.
#[derive(Clone)]
pub struct Person {
    /// The device's key.
    pub key: Arc<SecretKey>,
    /// The device, certified by the person's phrase.
    pub certificate: DeviceCertificate,
}

impl Person {
    /// Person number `n`, the same in every run.
    pub fn new(n: usize) -> Self {
        let mut seed = [0x5a; 32];
        seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
        let phrase = RecoveryPhrase::from_entropy(&seed);
        let key = SecretKey::from_bytes(&seed);
        let claims = DeviceClaims {
            person: phrase.person(),
            recovery: phrase.recovery_key().public(),
            device: key.device(),
            sealing: SealingKey::of_device(&key).public(),
            name: "machine".into(),
            serial: 1,
        };
        let acceptance = claims.accept(Enroller::Phrase, &key);
        let certificate =
            DeviceCertificate::sign_with_phrase(claims, acceptance, &phrase).expect("their own phrase");
        Self { key: Arc::new(key), certificate }
    }

    /// The device.
    pub fn device(&self) -> DeviceId {
        self.key.device()
    }

    /// The person.
    pub fn id(&self) -> PersonId {
        self.certificate.claims.person
    }
}

/// A community that runs begin with.
pub struct Template {
    /// Its founder's store. Everybody's is the same.
    pub store: PathBuf,
    /// Which community.
    pub community: CommunityId,
    /// The one channel.
    pub channel: ChannelId,
    /// How many people are members.
    pub members: usize,
    /// Members and, after them, those who can still join.
    pub people: Arc<[Person]>,
    invite: SecretKey,
}

impl Template {
    /// What somebody asks to be admitted with.
    pub fn request_of(&self, person: &Person) -> JoinRequest {
        let ticket = Ticket::new(self.community, "Garden".into(), &self.invite, i64::MAX, Vec::new());
        ticket.request(person.certificate.clone(), format!("Person {}", person.id()))
    }
}

/// Communities of several sizes. The folder goes when this does.
pub struct Templates {
    folder: tempfile::TempDir,
    all: Vec<Arc<Template>>,
}

impl Templates {
    /// Founds a community of each size, with so many people who may come later.
    pub fn new(sizes: &[usize], newcomers: usize) -> Self {
        let folder = scratch();
        let most = sizes.iter().max().copied().unwrap_or(0);
        let people: Arc<[Person]> = (0..most + newcomers).map(Person::new).collect();
        let all = sizes.iter().map(|size| Arc::new(found(folder.path(), *size, &people))).collect();
        Self { folder, all }
    }

    /// The largest one with at most so many members.
    pub fn of(&self, members: usize) -> Arc<Template> {
        let fits = self.all.iter().filter(|template| template.members <= members);
        fits.max_by_key(|template| template.members).expect("a template that small").clone()
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A folder for one run: in memory where the system has such.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

/// What a replica of a person's device is opened with.
pub fn config(
    person: &Person,
    community: CommunityId,
    path: PathBuf,
    clock: Arc<VirtualClock>,
    entropy: SeededEntropy,
) -> ReplicaConfig {
    ReplicaConfig {
        path,
        community,
        signer: person.key.clone(),
        sealing: SealingKey::of_device(&person.key),
        clock,
        entropy: Arc::new(entropy),
        view_cursors: Vec::new(),
    }
}

fn found(folder: &Path, members: usize, people: &Arc<[Person]>) -> Template {
    let store = folder.join(format!("{members}.db"));
    let founder = &people[0];
    let clock = Arc::new(VirtualClock::default());
    let founding = Founding {
        kind: CommunityKind::Shared,
        certificate: founder.certificate.clone(),
        founder_name: "Person 0",
        name: "Garden",
        floor: Amount::from_token_mib(-1_000),
    };
    let sealing = SealingKey::of_device(&founder.key);
    let entropy = SeededEntropy::new(TEMPLATE_SEED, 1);
    let community = replica::found(&store, founding, founder.key.as_ref(), sealing, clock.as_ref(), &entropy)
        .expect("a new community");
    let config = config(founder, community, store.clone(), clock, SeededEntropy::new(TEMPLATE_SEED, 2));
    let mut home = ReplicaCore::open(config, |_| ()).expect("the store opens");
    let invite = SecretKey::from_bytes(&[0xa5; 32]);
    let key = InviteKey::from_bytes(invite.public_bytes());
    let issue = Intent::IssueInvite {
        key,
        uses: INVITE_USES_MAX,
        expires_ms: i64::MAX,
        role: Role::Member,
        trust: TrustLevel::Friends,
    };
    home.record(issue).expect("the owner may invite");
    let channel =
        home.snapshot().state.charter.channels.keys().next().copied().expect("the channel \"general\"");
    let template = Template { store, community, channel, members, people: people.clone(), invite };
    for n in 1..members {
        home.record(Intent::Admit(template.request_of(&people[n]))).expect("the invite is good for all");
    }
    template
}
