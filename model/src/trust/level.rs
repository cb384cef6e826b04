//! The three levels of trust and what each unlocks: one table, read by every
//! later layer.
//!
//! A community has a level, and each member may choose another for a person
//! for themselves: that decides whom *their* machines serve and see. What a
//! level does to credits is fixed by the charter, the same on every peer.
//! Nothing here enforces anything; it is the data that scheduler, planner and
//! sharing obey.

use std::fmt;

use minicbor::{Decode, Encode};

/// How far a person, or a whole community, is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum TrustLevel {
    /// People I do not know: text only, nothing private, granted credit.
    #[n(0)]
    Public,
    /// People whom people I know have worked with: restricted.
    #[n(1)]
    Known,
    /// People I would hand my front-door key: everything.
    #[n(2)]
    Friends,
}

/// Which credit pays for a person's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditSource {
    /// Only what somebody granted or what was earned: the floor is zero.
    GrantedOnly,
    /// A floor below zero of their own, in per cent of the one that the
    /// charter names.
    OwnFloor {
        /// Part of the charter's floor, in per cent.
        percent: u8,
    },
}

/// A place in a provider's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueShare {
    /// Share in deficit round-robin, relative to the other levels.
    pub weight: u32,
    /// Class of the priority queue; higher goes first, waiting raises it.
    pub priority: u8,
}

/// How much may be asked of one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests in a day.
    pub requests_per_day: u32,
    /// Requests in a day while the person's score is below
    /// [`NEWCOMER_BELOW_MILLI`].
    pub newcomer_requests_per_day: u32,
    /// Requests that may run or wait at the same time.
    pub requests_at_once: u32,
    /// Tokens of one answer.
    pub answer_tokens_max: u32,
}

/// What a level allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlocks {
    /// Their machines may host layers for prompts of private threads. Whoever
    /// hosts layers could read what passes through, so this gates placement.
    pub hosts_private_prompts: bool,
    /// They may be sent documents and attachments; otherwise text only.
    pub receives_documents: bool,
    /// Their place in the queue.
    pub queue: QueueShare,
    /// How much they may ask.
    pub quota: Quota,
    /// What pays for it.
    pub credit: CreditSource,
    /// Most of one machine's compute that all of this level together may take,
    /// in per cent, while others wait.
    pub machine_share_percent_max: u8,
}

/// Below this score (0.100) a person has a newcomer's quota: a new key starts
/// here, and so does a bad one that was dropped for it.
pub const NEWCOMER_BELOW_MILLI: u16 = 100;

/// Public pool: a stranger can try a model, and cannot crowd anybody out. One
/// answer of 1,024 tokens is about a page and a half.
const PUBLIC: Unlocks = Unlocks {
    hosts_private_prompts: false,
    receives_documents: false,
    queue: QueueShare { weight: 1, priority: 0 },
    quota: Quota {
        requests_per_day: 40,
        newcomer_requests_per_day: 10,
        requests_at_once: 1,
        answer_tokens_max: 1_024,
    },
    credit: CreditSource::GrantedOnly,
    machine_share_percent_max: 20,
};

/// Known network: a day's ordinary use, shared documents, but no private
/// prompts: a friend of a friend is not a friend.
const KNOWN: Unlocks = Unlocks {
    hosts_private_prompts: false,
    receives_documents: true,
    queue: QueueShare { weight: 4, priority: 1 },
    quota: Quota {
        requests_per_day: 400,
        newcomer_requests_per_day: 100,
        requests_at_once: 2,
        answer_tokens_max: 8_192,
    },
    credit: CreditSource::OwnFloor { percent: 50 },
    machine_share_percent_max: 50,
};

/// Friends & family: limits only against a program gone wild. A tenth of the
/// machine always remains for its owner and for the levels below.
const FRIENDS: Unlocks = Unlocks {
    hosts_private_prompts: true,
    receives_documents: true,
    queue: QueueShare { weight: 16, priority: 2 },
    quota: Quota {
        requests_per_day: 4_000,
        newcomer_requests_per_day: 1_000,
        requests_at_once: 8,
        answer_tokens_max: 32_768,
    },
    credit: CreditSource::OwnFloor { percent: 100 },
    machine_share_percent_max: 90,
};

impl TrustLevel {
    /// Every level, least trusted first.
    pub const ALL: [Self; 3] = [Self::Public, Self::Known, Self::Friends];

    /// What this level allows.
    pub const fn unlocks(self) -> &'static Unlocks {
        match self {
            Self::Public => &PUBLIC,
            Self::Known => &KNOWN,
            Self::Friends => &FRIENDS,
        }
    }
}

impl fmt::Display for TrustLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public pool",
            Self::Known => "known network",
            Self::Friends => "friends & family",
        })
    }
}

impl fmt::Display for CreditSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GrantedOnly => f.write_str("granted or earned only"),
            Self::OwnFloor { percent } => write!(f, "own, down to {percent} % of the floor"),
        }
    }
}

impl Quota {
    /// Requests in a day for a person with this score (see
    /// [`Score::value_milli`](super::Score::value_milli)).
    pub const fn requests_per_day_at(&self, score_milli: u16) -> u32 {
        if score_milli < NEWCOMER_BELOW_MILLI {
            self.newcomer_requests_per_day
        } else {
            self.requests_per_day
        }
    }
}

type Cell = fn(&Unlocks) -> String;

/// The rows of the table that people read, in their order.
const ROWS: [(&str, Cell); 10] = [
    ("hosts prompts of private threads", |u| yes_no(u.hosts_private_prompts)),
    ("receives documents and attachments", |u| yes_no(u.receives_documents)),
    ("weight in the queue", |u| u.queue.weight.to_string()),
    ("priority in the queue", |u| u.queue.priority.to_string()),
    ("requests a day", |u| u.quota.requests_per_day.to_string()),
    ("requests a day, newcomers", |u| u.quota.newcomer_requests_per_day.to_string()),
    ("requests at once", |u| u.quota.requests_at_once.to_string()),
    ("tokens of one answer, at most", |u| u.quota.answer_tokens_max.to_string()),
    ("credit", |u| u.credit.to_string()),
    ("share of a machine, at most", |u| format!("{} %", u.machine_share_percent_max)),
];

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// The table of [`Unlocks`] as Markdown, one line per row.
pub fn unlocks_table() -> String {
    let line = |label: &str, cell: &dyn Fn(TrustLevel) -> String| {
        let cells: Vec<String> = TrustLevel::ALL.into_iter().map(cell).collect();
        format!("| {label} | {} |\n", cells.join(" | "))
    };
    let mut table = line("what it allows", &|level| level.to_string()) + "|---|---|---|---|\n";
    for (label, cell) in ROWS {
        table += &line(label, &|level| cell(level.unlocks()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn the_document_shows_exactly_this_table() {
        let document = include_str!("../../../docs/design/trust.md");
        let table = unlocks_table();
        assert!(document.contains(&table), "docs/design/trust.md should contain:\n{table}");
        assert_eq!(document.matches("| public pool | known network |").count(), 1, "one table only");
    }

    #[test]
    fn a_higher_level_never_allows_less() {
        let numbers = |u: &Unlocks| {
            [
                u32::from(u.hosts_private_prompts),
                u32::from(u.receives_documents),
                u.queue.weight,
                u32::from(u.queue.priority),
                u.quota.requests_per_day,
                u.quota.newcomer_requests_per_day,
                u.quota.requests_at_once,
                u.quota.answer_tokens_max,
                u32::from(u.machine_share_percent_max),
            ]
        };
        for pair in TrustLevel::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
            let (lower, higher) = (numbers(pair[0].unlocks()), numbers(pair[1].unlocks()));
            assert!(lower.iter().zip(higher).all(|(low, high)| *low <= high), "{} {}", pair[0], pair[1]);
        }
        for level in TrustLevel::ALL {
            let quota = level.unlocks().quota;
            assert!(quota.newcomer_requests_per_day < quota.requests_per_day, "{level}");
        }
        assert!(!TrustLevel::Public.unlocks().receives_documents, "the public pool is text only");
        assert_eq!(TrustLevel::Public.unlocks().credit, CreditSource::GrantedOnly);
        assert!(TrustLevel::Friends.unlocks().hosts_private_prompts);
    }

    #[test]
    fn levels_are_their_number_in_cbor() {
        for (number, level) in (0u8..).zip(TrustLevel::ALL) {
            assert_eq!(encode(&level), [number]);
            assert_eq!(decode::<TrustLevel>(&[number], 1), Ok(level));
        }
        assert!(decode::<TrustLevel>(&[3], 1).is_err());
    }
}
