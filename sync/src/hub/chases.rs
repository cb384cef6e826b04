//! What was hinted at and is not here yet, and whom to ask for it.
//!
//! A hint is a claim: what it names may not exist. So each member's hints keep a
//! few exchanges busy at most, and whoever hinted in vain is not believed for a
//! while, longer each time. Nothing is lost by that: comparisons without any
//! reason find what there is.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::feed::FeedId;
use exo_model::id::{CommunityId, DeviceId};

use super::peers::Peers;
use super::{Hint, LinkId, NEWS_MAX, Random};
use crate::session::{Ends, FeedHead};

/// Things fetched at once because of one device's hints; the oldest is left to
/// the next comparison.
const CHASES_PER_DEVICE: usize = 4;
/// Things fetched at once. A hint beyond it is left to the next comparison.
const CHASES_MAX: usize = 64;
/// Times that links are asked for one thing before it is left to the next
/// comparison.
const TRIES_MAX: u32 = 6;
/// Pause before another link is asked where an exchange did not bring it, ms; three
/// times as long for each further one. Whoever passed the hint on is most often
/// about to have it.
const TRY_AGAIN_MS: u64 = 20;
/// The same while an exchange goes on that may bring it, or all links are busy: a
/// slow peer holds nothing up for longer, and over a slow network the same thing is
/// not asked for many times.
const TRY_OTHERS_MS: u64 = 1_000;
/// How long a device is not believed that hinted at what nobody has, ms; twice
/// as long each further time, up to [`DOUBT_MAX_MS`].
const DOUBT_FIRST_MS: u64 = 10_000;
/// See [`DOUBT_FIRST_MS`].
const DOUBT_MAX_MS: u64 = 600_000;

#[derive(Debug)]
struct Chase {
    origin: DeviceId,
    missing: Vec<(FeedId, u64)>,
    /// Where more changed than was named: how all ends were there.
    root: Option<[u8; 32]>,
    /// Who is asked first.
    first: Vec<DeviceId>,
    tries: u32,
    /// The link that was asked last: without any, a hint is nobody's lie.
    asked: Option<LinkId>,
    next_ms: u64,
}

impl Chase {
    fn is_over(&self, ends: &Ends) -> bool {
        let is_here = |(feed, seq): &(FeedId, u64)| ends.reaches(feed, *seq);
        self.missing.iter().all(is_here) && (self.root.is_none_or(|root| root == ends.root()))
    }
}

/// That a device is not believed.
#[derive(Debug)]
struct Doubt {
    until_ms: u64,
    pause_ms: u64,
}

/// All of a community.
#[derive(Debug, Default)]
pub(super) struct Chases {
    all: Vec<Chase>,
    doubts: BTreeMap<DeviceId, Doubt>,
}

impl Chases {
    /// Takes a hint: what is not here is fetched.
    pub(super) fn take(&mut self, now_ms: u64, origin: DeviceId, by: DeviceId, hint: &Hint, ends: &Ends) {
        if self.doubts.get(&origin).is_some_and(|doubt| now_ms < doubt.until_ms) {
            return;
        }
        let community = ends.community();
        let missing = |head: &FeedHead| {
            let feed = head.feed(community);
            (!ends.reaches(&feed, head.end.seq)).then_some((feed, head.end.seq))
        };
        let missing: Vec<_> = hint.news.iter().take(NEWS_MAX).filter_map(missing).collect();
        let root = hint.more.then_some(hint.root);
        let first = vec![origin, by];
        let chase = Chase { origin, missing, root, first, tries: 0, asked: None, next_ms: now_ms };
        if chase.is_over(ends) {
            return;
        }
        let of_device = self.all.iter().filter(|chase| chase.origin == origin).count();
        let oldest = self.all.iter().position(|chase| chase.origin == origin);
        match oldest.filter(|_| of_device >= CHASES_PER_DEVICE) {
            // The new one goes on where the old one was: as often as it was tried.
            Some(oldest) => {
                let Chase { tries, asked, next_ms, .. } = self.all.remove(oldest);
                self.all.push(Chase { tries, asked, next_ms, ..chase });
            }
            None if self.all.len() < CHASES_MAX => self.all.push(chase),
            None => {}
        }
    }

    /// Whether a change was hinted at, and so others know of it.
    pub(super) fn covers(&self, feed: &FeedId, seq: u64) -> bool {
        let names = |chase: &Chase| chase.missing.iter().any(|(of, upto)| of == feed && *upto >= seq);
        self.all.iter().any(|chase| names(chase) || chase.root.is_some())
    }

    /// Forgets what is here now; whoever hinted at it is believed.
    pub(super) fn settle(&mut self, ends: &Ends) {
        let doubts = &mut self.doubts;
        self.all.retain(|chase| {
            let is_over = chase.is_over(ends);
            if is_over {
                doubts.remove(&chase.origin);
            }
            !is_over
        });
    }

    /// Forgets what devices hinted at that are not members any more.
    pub(super) fn retain_members(&mut self, members: &BTreeSet<DeviceId>) {
        self.all.retain(|chase| members.contains(&chase.origin));
        self.doubts.retain(|device, _| members.contains(device));
    }

    /// Begins exchanges for what is missing.
    pub(super) fn fetch(
        &mut self,
        now_ms: u64,
        random: &mut dyn Random,
        community: CommunityId,
        peers: &mut Peers,
    ) {
        let doubts = &mut self.doubts;
        self.all.retain(|chase| {
            let is_given_up = chase.next_ms <= now_ms && chase.tries == TRIES_MAX;
            if is_given_up && chase.asked.is_some() {
                doubt(doubts, chase.origin, now_ms);
            }
            !is_given_up
        });
        for chase in self.all.iter_mut().filter(|chase| chase.next_ms <= now_ms) {
            let idle = peers.idle_links(&community);
            // Links that are busy with this community may bring it.
            if let Some(link) = choose(chase, &idle, random) {
                peers.exchange_due(link, community, now_ms);
                chase.asked = Some(link);
            }
            chase.next_ms = now_ms + TRY_OTHERS_MS;
            chase.tries += 1;
        }
    }

    /// An exchange is over: what it did not bring is asked of others soon. What it
    /// stored is told in a moment.
    pub(super) fn exchanged(&mut self, link: LinkId, now_ms: u64) {
        for chase in self.all.iter_mut().filter(|chase| chase.asked == Some(link)) {
            chase.next_ms = now_ms + TRY_AGAIN_MS * 3_u64.pow(chase.tries.saturating_sub(1));
        }
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.all.iter().map(|chase| chase.next_ms).min()
    }
}

fn doubt(doubts: &mut BTreeMap<DeviceId, Doubt>, device: DeviceId, now_ms: u64) {
    let before = doubts.get(&device);
    if before.is_some_and(|doubt| now_ms < doubt.until_ms) {
        // Hints of one moment are one lie.
        return;
    }
    let pause_ms = before.map_or(DOUBT_FIRST_MS, |doubt| (doubt.pause_ms * 2).min(DOUBT_MAX_MS));
    doubts.insert(device, Doubt { until_ms: now_ms + pause_ms, pause_ms });
}

/// Whom to ask: who wrote it, who passed the hint on, then anyone.
fn choose(chase: &mut Chase, idle: &[(LinkId, DeviceId)], random: &mut dyn Random) -> Option<LinkId> {
    while !chase.first.is_empty() {
        let device = chase.first.remove(0);
        if let Some((link, _)) = idle.iter().find(|(_, of)| *of == device) {
            return Some(*link);
        }
    }
    idle.get(random.below(idle.len())).map(|(link, _)| *link)
}
