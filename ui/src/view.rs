//! Everything the window shows, as plain data.
//!
//! A [`View`] is whole: it replaces the one before. Texts are shown as they
//! come, so times and days arrive in the person's own format; what is only a
//! matter of wording (units, lists of names, states) arrives as values and is
//! worded here.

/// All that is on screen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// The page to show.
    pub screen: Screen,
    /// Light, dark, or what the system says.
    pub appearance: Appearance,
    /// Name of the community.
    pub community: String,
    /// Name of the channel, without a number sign.
    pub channel: String,
    /// The person in front of the window.
    pub me: Me,
    /// Members of the community, in the order to show them.
    pub members: Vec<MemberRow>,
    /// Machines, this one included, in the order to show them.
    pub peers: Vec<PeerRow>,
    /// Messages of the channel, oldest first. Only the last
    /// [`MESSAGES_SHOWN_MAX`](crate::MESSAGES_SHOWN_MAX) are shown.
    pub messages: Vec<MessageRow>,
    /// The conversation with the model.
    pub ask: AskView,
    /// How many others can be reached.
    pub connection: Connection,
    /// Something to tell over the whole window.
    pub banner: Option<Banner>,
    /// The invite that was made last, for the invite dialog.
    pub ticket: Option<String>,
    /// The words of the recovery phrase, as long as this device has them: the
    /// person is asked to write them down. Empty afterwards.
    pub recovery_words: Vec<String>,
    /// What the About page says.
    pub about: About,
}

/// The page that the window shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Screen {
    /// First run: name, then found or join.
    Onboarding(Onboarding),
    /// An invite was given and nobody has answered it yet.
    Joining(Joining),
    /// The community.
    Main,
}

impl Default for Screen {
    fn default() -> Self {
        Self::Onboarding(Onboarding::default())
    }
}

/// The first page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Onboarding {
    /// A name to start with, for example the one of the system's account.
    pub suggested_name: String,
    /// Founding or joining is under way.
    pub busy: bool,
    /// Why the last try failed, as a full sentence.
    pub problem: Option<String>,
}

/// The page that waits for a member to be online.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Joining {
    /// Name of the community, where the invite tells it.
    pub community: String,
    /// How often members were tried.
    pub tries: u32,
    /// What stands in the way, as a full sentence.
    pub problem: Option<String>,
}

/// Colours of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Appearance {
    /// As the system says. After a forced choice the window follows the system
    /// again from its next start on.
    #[default]
    System,
    /// Dark letters on light ground.
    Light,
    /// Light letters on dark ground.
    Dark,
}

/// The person in front of the window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Me {
    /// What the others call this person.
    pub name: String,
    /// Role in the community.
    pub role: Role,
    /// Balance in the ledger's smallest unit; `None` while unknown.
    pub credits: Option<i64>,
}

/// Role in the community.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// May do everything.
    Owner,
    /// Runs the community day by day.
    Admin,
    /// Keeps the peace.
    Moderator,
    /// May talk, share and ask.
    #[default]
    Member,
    /// May talk where guests may.
    Guest,
    /// Carries what it cannot read.
    Keeper,
}

/// One member in the rail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberRow {
    /// Stays the same while the member is the same.
    pub id: String,
    /// Name to show.
    pub name: String,
    /// Role in the community.
    pub role: Role,
    /// Whether one of the member's machines can be reached now.
    pub online: bool,
    /// Whether this is the person in front of the window.
    pub me: bool,
}

/// One machine in the rail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerRow {
    /// Stays the same while the machine is the same.
    pub id: String,
    /// Name to show.
    pub name: String,
    /// How it is reached.
    pub path: PeerPath,
    /// What it hosts of the model.
    pub layers: Option<HostedLayers>,
    /// Memory that its owner offers, in MiB.
    pub offered_mib: Option<u64>,
}

/// How a machine is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerPath {
    /// It is the one that shows this window.
    ThisMachine,
    /// Straight, without anybody in between.
    Direct {
        /// Round trip in milliseconds; `None` before it was measured.
        rtt_ms: Option<u32>,
    },
    /// Through a relay.
    Relayed {
        /// Round trip in milliseconds; `None` before it was measured.
        rtt_ms: Option<u32>,
    },
    /// Not at the moment.
    #[default]
    Offline,
}

/// A span of layers of one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostedLayers {
    /// First layer.
    pub first: u32,
    /// Last layer, itself included.
    pub last: u32,
    /// Name of the model.
    pub model: String,
}

/// One message of the channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageRow {
    /// Stays the same while the message is the same.
    pub id: String,
    /// Name of the author.
    pub author: String,
    /// Time of day, worded for the person, for example `14:02`.
    pub time: String,
    /// Day, worded for the person, for example `Today`. A line is drawn where it
    /// changes; empty for none.
    pub day: String,
    /// What was written.
    pub text: String,
    /// Whether the person in front of the window wrote it.
    pub mine: bool,
}

/// The conversation with the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AskView {
    /// Name of the model.
    pub model: String,
    /// What is going on.
    pub state: AskState,
    /// The question that was asked last; empty before the first.
    pub question: String,
    /// The answer as far as it has come.
    pub answer: String,
    /// Tokens of the answer so far.
    pub tokens: u32,
    /// Speed of the answer, where it is known.
    pub tokens_per_second: Option<f32>,
    /// Names of the machines or people that served.
    pub served_by: Vec<String>,
    /// What the answer cost, in the ledger's smallest unit.
    pub credits_spent: Option<i64>,
}

/// What is going on with the model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AskState {
    /// Nothing can be asked now.
    Unavailable {
        /// Why, as a full sentence.
        reason: String,
    },
    /// A question can be asked.
    #[default]
    Ready,
    /// Weights are on their way.
    Fetching {
        /// Whose machines fetch them.
        by: Vec<String>,
        /// How much is here, 0 to 100.
        percent: u8,
    },
    /// Peers are being asked to take part.
    Preparing,
    /// Tokens are arriving.
    Answering {
        /// Who computes.
        by: Vec<String>,
    },
    /// The answer is whole.
    Finished,
    /// The person stopped the answer.
    Stopped,
    /// The answer broke off.
    Failed {
        /// Why, as a full sentence.
        reason: String,
    },
}

/// How many others can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connection {
    /// Peers connected now, this machine not counted.
    pub connected: u32,
    /// Peers known, this machine not counted.
    pub known: u32,
}

/// Something to tell over the whole window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Banner {
    /// How much it matters.
    pub severity: Severity,
    /// What to tell, as a full sentence.
    pub text: String,
}

/// How much a banner matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// Good to know.
    #[default]
    Info,
    /// Something will go wrong unless something is done.
    Warning,
    /// Something went wrong.
    Error,
}

/// What the About page says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// Licences of the program and of what is in it.
    pub licences: String,
    /// Where the data is kept.
    pub data_folder: String,
}
