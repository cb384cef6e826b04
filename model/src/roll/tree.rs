//! The tree of valid lists, and which line of it is believed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{List, Listing, Roll};
use crate::charter::Role;
use crate::event::keys::Listed;
use crate::id::{ChangeHash, DeviceId};

/// How much a list is supported: people of each rank, the highest first; the
/// most senior of them; and, where nothing else decides, its name.
type Support = ([usize; Role::ALL.len()], Reverse<usize>, Reverse<ChangeHash>);

/// Lists that are valid, each with the one it follows.
#[derive(Clone, Debug)]
pub struct Tree {
    base: Listing,
    lists: BTreeMap<ChangeHash, List>,
    children: BTreeMap<Option<ChangeHash>, Vec<ChangeHash>>,
    /// Numbers that contain those of all lists beyond: of a list itself the
    /// first, and one past the last.
    spans: BTreeMap<ChangeHash, (usize, usize)>,
    /// Valid lists of each device whose feed does not part, by number, in the
    /// order in which it posted them.
    said: BTreeMap<DeviceId, Vec<usize>>,
}

impl Tree {
    pub(super) fn grow(
        base: Listing,
        roll: &Roll,
        is_first: impl Fn(&ChangeHash, &DeviceId) -> bool,
    ) -> Self {
        let mut following: BTreeMap<Option<ChangeHash>, Vec<(ChangeHash, DeviceId)>> = BTreeMap::new();
        for (id, (device, follows)) in roll.names() {
            following.entry(follows).or_default().push((id, device));
        }
        let (mut lists, mut children) = (BTreeMap::<ChangeHash, List>::new(), BTreeMap::new());
        let mut open = vec![None];
        while let Some(parent) = open.pop() {
            let before: Option<&List> = parent.as_ref().and_then(|parent| lists.get(parent));
            let may = |(id, by): &(ChangeHash, DeviceId)| match before {
                Some(before) => before.is_lister(by),
                None => is_first(id, by),
            };
            let named = following.remove(&parent).unwrap_or_default();
            // What a list says is looked at only once its author may say it.
            let valid: Vec<_> =
                named.iter().filter(|name| may(name)).filter_map(|(id, _)| roll.list(*id)).collect();
            let ids: Vec<_> = valid.iter().map(|list| list.id).collect();
            open.extend(ids.iter().copied().map(Some));
            lists.extend(valid.into_iter().map(|list| (list.id, list)));
            children.insert(parent, ids);
        }
        let mut tree = Self { base, lists, children, spans: BTreeMap::new(), said: BTreeMap::new() };
        tree.number(&roll.parted);
        tree
    }

    /// Numbers the lists so that those beyond one follow it directly.
    fn number(&mut self, parted: &BTreeSet<DeviceId>) {
        let mut next = 0;
        let mut open: Vec<_> = self.rivals(&None).iter().map(|id| (*id, false)).collect();
        while let Some((id, is_done)) = open.pop() {
            if is_done {
                if let Some((_, end)) = self.spans.get_mut(&id) {
                    *end = next;
                }
                continue;
            }
            self.spans.insert(id, (next, next + 1));
            next += 1;
            open.push((id, true));
            open.extend(self.rivals(&Some(id)).iter().map(|id| (*id, false)));
        }
        let mut posted: Vec<_> = self.lists.values().filter(|list| !parted.contains(&list.device)).collect();
        posted.sort_by_key(|list| (list.device, list.place, list.id));
        for list in posted {
            if let Some((number, _)) = self.spans.get(&list.id) {
                self.said.entry(list.device).or_default().push(*number);
            }
        }
    }

    /// The line of lists that is believed, the first one at the front.
    pub fn believed(&self) -> Vec<&List> {
        self.line_from(None)
    }

    /// What is believed: the last list, or what one started with.
    pub fn listing(&self) -> Listing {
        self.believed().last().map_or_else(|| self.base.clone(), |list| list.listing())
    }

    /// Devices that may list according to any valid list: what they say is
    /// listened to even where it is not believed.
    pub fn heard(&self) -> BTreeSet<DeviceId> {
        let listed = self.lists.values().flat_map(List::lister_devices);
        listed.chain(self.base.lister_devices()).copied().collect()
    }

    /// The line that is believed beyond a list.
    fn line_from(&self, start: Option<ChangeHash>) -> Vec<&List> {
        let mut line = Vec::new();
        let mut at = start;
        while let Some(next) = self.choose(at) {
            line.push(next);
            at = Some(next.id);
        }
        line
    }

    /// Of the lists that follow one, the best supported.
    fn choose(&self, parent: Option<ChangeHash>) -> Option<&List> {
        let best = match self.rivals(&parent) {
            [] => return None,
            [only] => *only,
            rivals => self.best_of(&parent, rivals)?,
        };
        self.lists.get(&best)
    }

    fn rivals(&self, parent: &Option<ChangeHash>) -> &[ChangeHash] {
        self.children.get(parent).map_or(&[], Vec::as_slice)
    }

    /// The best supported of some lists that follow `parent`.
    fn best_of<'a>(
        &self,
        parent: &Option<ChangeHash>,
        rivals: impl IntoIterator<Item = &'a ChangeHash>,
    ) -> Option<ChangeHash> {
        let nobody = |rival: &ChangeHash| ([0; Role::ALL.len()], Reverse(usize::MAX), Reverse(*rival));
        let mut support: BTreeMap<ChangeHash, Support> =
            rivals.into_iter().map(|rival| (*rival, nobody(rival))).collect();
        let before = parent.and_then(|parent| self.lists.get(&parent));
        let listers = before.map_or(&self.base.listers, |list| &list.listers);
        for (index, person) in listers.iter().enumerate() {
            // Of a person's devices, the first enrolled that spoke.
            let voted = person.devices.iter().find_map(|device| self.vote(parent, device));
            let Some((ranks, senior, _)) = voted.and_then(|voted| support.get_mut(&voted)) else { continue };
            if let Some(rank) = Role::ALL.iter().position(|role| *role == person.role) {
                ranks[rank] += 1;
            }
            *senior = (*senior).max(Reverse(index));
        }
        support.into_iter().max_by_key(|(_, support)| *support).map(|(rival, _)| rival)
    }

    /// For which of the lists that follow `parent` a device spoke: where the
    /// first of its lists beyond `parent` stands. It cannot be taken back: who
    /// is removed later does not change what they said before.
    fn vote(&self, parent: &Option<ChangeHash>, device: &DeviceId) -> Option<ChangeHash> {
        let (start, end) = match parent {
            Some(parent) => *self.spans.get(parent)?,
            None => (0, usize::MAX),
        };
        let is_beyond = |number: &&usize| **number < end && (**number > start || parent.is_none());
        let first = self.said.get(device)?.iter().find(is_beyond)?;
        let goes_through = |rival: &&ChangeHash| {
            self.spans.get(rival).is_some_and(|(start, end)| (start..end).contains(&first))
        };
        self.rivals(parent).iter().find(goes_through).copied()
    }

    /// Which list this device should follow so that `truth` is believed; `None`
    /// where nothing is to be said, or this device has said what it can.
    ///
    /// The outer option is whether to post, the inner one whether there is a
    /// list to follow.
    pub fn to_follow(&self, me: &DeviceId, truth: &Listing) -> Option<Option<ChangeHash>> {
        let believed = self.believed();
        let Some(last) = believed.last() else { return truth.is_lister(me).then_some(None) };
        let entries: Vec<_> = truth.entries().collect();
        // Whoever goes as the last one who may list says so themselves: of those
        // who stay nobody could.
        let others_may = last.lister_devices().any(|device| truth.is_lister(device));
        if last.says(&entries) || (others_may && !truth.is_lister(me)) {
            return None;
        }
        if last.is_lister(me) {
            return Some(Some(last.id));
        }
        let Some(from) = believed.iter().rfind(|list| list.is_lister(me)) else {
            // Others have to say it, as long as there are any.
            return (truth.is_lister(me) && !others_may).then_some(None);
        };
        self.to_support(from, me, &entries)
    }

    /// The same where what is believed leaves this device out: it goes on from
    /// the last list that did not, or joins those who do.
    fn to_support(&self, from: &List, me: &DeviceId, truth: &[Listed]) -> Option<Option<ChangeHash>> {
        let parent = Some(from.id);
        let end_of = |rival: &ChangeHash| self.line_from(Some(*rival)).last().map_or(*rival, |list| list.id);
        let says_truth =
            |rival: &&ChangeHash| self.lists.get(&end_of(rival)).is_some_and(|list| list.says(truth));
        let mine = self.vote(&parent, me);
        let rival = mine.or_else(|| self.best_of(&parent, self.rivals(&parent).iter().filter(says_truth)));
        let Some(rival) = rival else { return Some(parent) };
        let end = self.lists.get(&end_of(&rival))?;
        let is_said = mine.is_some() && end.says(truth);
        (!is_said && end.is_lister(me)).then_some(Some(end.id))
    }
}
