//! What a community decides about things: settings, channels, money, history,
//! messages.

use super::super::dag::{ActIx, Dag};
use super::super::people::{Allotment, Channel, History};
use super::super::role::{Permission, Role};
use super::{Author, Judged, Pass, Standing, entitled, is_note, not_lost};
use crate::amount::Amount;
use crate::charter::{ALLOTMENTS_MAX, CHANNELS_MAX};
use crate::event::CharterEvent;
use crate::event::charter::CHANNEL_PEOPLE_PER_EVENT_MAX;
use crate::event::keys::Audience;
use crate::id::{ChannelId, PersonId};
use crate::moderation::ModerationFault;
use crate::text::is_clean_name;

impl Pass {
    pub(super) fn decide_for_all(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        event: &CharterEvent,
    ) -> Judged {
        match event {
            CharterEvent::SettingChanged { setting } => {
                entitled(author.role.may(Permission::ChangeSettings) && setting.is_usable())?;
                self.records.settings.entry(setting.number()).or_default().push(number, setting.clone());
            }
            CharterEvent::RulesAdopted { version } => {
                entitled(author.role.may(Permission::ChangeSettings) && *version > 0)?;
                self.records.rules = *version;
            }
            CharterEvent::HistoryGranted { person, audience } => {
                let at = self.at(dag, number);
                entitled(
                    author.role.may(Permission::GrantHistory)
                        && !matches!(audience, Audience::Direct(_))
                        && at.reads(&author.person, audience)
                        && at.reads(person, audience),
                )?;
                self.records.grants.entry((*person, *audience)).or_default().push(number, ());
            }
            CharterEvent::Allotted { person, amount, note } => {
                let fits = *amount > Amount::ZERO && *amount <= Amount::LOCK_MAX && is_note(note);
                entitled(
                    author.role.may(Permission::Allot) && fits && self.at(dag, number).is_member(person),
                )?;
                let floor = i128::from(self.now(dag).community_floor().token_mib());
                let allotted: i128 =
                    self.records.allotments.values().map(|other| i128::from(other.amount.token_mib())).sum();
                not_lost(
                    self.records.allotments.len() < ALLOTMENTS_MAX
                        && allotted + i128::from(amount.token_mib()) <= -floor,
                )?;
                let allotment =
                    Allotment { by: number, person: *person, amount: *amount, note: note.clone() };
                self.records.allotments.insert(dag.node(number).act.id, allotment);
            }
            _ => return Err(Standing::NotEntitled),
        }
        Ok(Standing::Counts)
    }

    pub(super) fn channel(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        event: &CharterEvent,
    ) -> Judged {
        entitled(author.role.may(Permission::ManageChannels))?;
        match event {
            CharterEvent::ChannelCreated { channel, name, closed, guests } => {
                entitled(is_clean_name(name))?;
                not_lost(
                    self.records.channels.len() < CHANNELS_MAX
                        && !self.records.channels.contains_key(channel),
                )?;
                let mut about = History::default();
                about.push(number, (name.clone(), false));
                let mut people = std::collections::BTreeMap::<PersonId, History<bool>>::new();
                people.entry(author.person).or_default().push(number, true);
                let record = Channel { created: number, about, closed: *closed, guests: *guests, people };
                self.records.channels.insert(*channel, record);
            }
            CharterEvent::ChannelChanged { channel, name, archived } => {
                entitled(is_clean_name(name))?;
                self.known_channel(dag, number, channel)?.about.push(number, (name.clone(), *archived));
            }
            CharterEvent::ChannelPeople { channel, add, remove } => {
                let at = self.at(dag, number);
                entitled(
                    add.len() + remove.len() <= CHANNEL_PEOPLE_PER_EVENT_MAX
                        && add.iter().all(|person| at.is_member(person))
                        && at.reads(&author.person, &Audience::Channel(*channel)),
                )?;
                let record = self.known_channel(dag, number, channel)?;
                entitled(record.closed)?;
                for (people, there) in [(add, true), (remove, false)] {
                    for person in people {
                        record.people.entry(*person).or_default().push(number, there);
                    }
                }
            }
            _ => return Err(Standing::NotEntitled),
        }
        Ok(Standing::Counts)
    }

    fn known_channel(
        &mut self,
        dag: &Dag,
        number: ActIx,
        channel: &ChannelId,
    ) -> Result<&mut Channel, Standing> {
        let past = &dag.node(number).past;
        self.records
            .channels
            .get_mut(channel)
            .filter(|channel| dag.knows(past, channel.created))
            .ok_or(Standing::NotEntitled)
    }

    pub(super) fn moderate(
        &mut self,
        dag: &Dag,
        number: ActIx,
        author: Author,
        event: &CharterEvent,
    ) -> Judged {
        let (subject, note) = match event {
            CharterEvent::MessageHidden { author, reason, .. } => (author, reason),
            CharterEvent::ReportDecided { subject, note, .. } => (subject, note),
            _ => return Err(Standing::NotEntitled),
        };
        let above = self.at(dag, number).role(subject).is_none_or(|role| author.role > role);
        entitled(
            author.role.may(Permission::Moderate) && (above || author.role == Role::Owner) && is_note(note),
        )?;
        let act = &dag.node(number).act;
        match self.moderation.apply(act.id, author.person, act.time_ms, event) {
            // To put back what is in sight is no fault, and does nothing.
            Ok(()) | Err(ModerationFault::NotHidden) => Ok(Standing::Counts),
            Err(_) => Err(Standing::Lost),
        }
    }
}
