//! The result as lines of text, so that another reducer's state can be written
//! in the same way and compared line by line.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::charter::{RefInvite, RefStanding, Reference};

/// Keys name a fact (`member/…`, `standing/…`), values say it. Ids are whole.
pub(crate) type NormalForm = BTreeMap<String, String>;

impl Reference {
    /// Everything, as sorted lines.
    pub(crate) fn normal_form(&self) -> NormalForm {
        let mut lines = NormalForm::new();
        let mut line = |key: String, value: String| {
            lines.insert(key, value);
        };
        for (id, standing) in &self.standing {
            line(format!("standing/{}", id.to_hex()), standing.as_str().to_owned());
        }
        if let Some(settings) = &self.settings {
            line("settings".to_owned(), format!("{settings:?}"));
        }
        for (person, member) in &self.members {
            let key = format!("member/{}", person.to_hex());
            line(format!("{key}/name"), member.name.clone());
            line(format!("{key}/about"), member.about.clone());
            line(format!("{key}/role"), member.role.to_string());
            line(format!("{key}/trust"), format!("{:?}", member.trust));
            line(format!("{key}/admitted"), member.admitted.to_hex());
            line(format!("{key}/admitted_by"), member.admitted_by.map_or(String::new(), |by| by.to_hex()));
            for (device, enrolment) in &member.devices {
                line(format!("{key}/device/{}", device.to_hex()), enrolment.to_hex());
            }
        }
        for (person, removals) in &self.outside {
            line(format!("outside/{}", person.to_hex()), list(removals.iter().map(|id| id.to_hex())));
        }
        for (key, invite) in &self.invites {
            let RefInvite { issuer, uses, used, role, trust, revoked } = invite;
            let revoked = if *revoked { "revoked" } else { "open" };
            let value = format!("{} {used} of {uses} {role} {trust:?} {revoked}", issuer.to_hex());
            line(format!("invite/{}", key.to_hex()), value);
        }
        for (id, channel) in &self.channels {
            let key = format!("channel/{}", id.to_hex());
            line(format!("{key}/name"), channel.name.clone());
            line(format!("{key}/archived"), channel.archived.to_string());
            line(format!("{key}/closed"), channel.closed.to_string());
            line(format!("{key}/guests"), channel.guests.to_string());
            line(format!("{key}/people"), list(channel.people.iter().map(|person| person.to_hex())));
        }
        if let Some(version) = self.rules {
            line("rules".to_owned(), version.to_string());
        }
        for (person, audience) in &self.history {
            line(format!("history/{}/{audience}", person.to_hex()), "granted".to_owned());
        }
        for (id, (person, amount)) in &self.allotments {
            let value = format!("{} {}", person.to_hex(), amount.token_mib());
            line(format!("allotment/{}", id.to_hex()), value);
        }
        for ((from, to), ground) in &self.vouches {
            line(format!("vouch/{}/{}", from.to_hex(), to.to_hex()), format!("{ground:?}"));
        }
        for device in &self.suspended {
            line(format!("suspended/{}", device.to_hex()), String::new());
        }
        for device in &self.barred {
            line(format!("barred/{}", device.to_hex()), String::new());
        }
        for (message, author) in &self.hidden {
            line(format!("hidden/{}", message.to_hex()), author.to_hex());
        }
        for (report, (subject, outcome)) in &self.reports {
            line(format!("report/{}", report.to_hex()), format!("{} {outcome:?}", subject.to_hex()));
        }
        for (device, fences) in &self.fences {
            line(format!("fence/{}", device.to_hex()), list(fences.iter().map(|id| id.to_hex())));
        }
        line("applied".to_owned(), list(self.applied.iter().map(|id| id.to_hex())));
        lines
    }
}

impl RefStanding {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Void => "void",
            Self::NotEntitled => "not entitled",
            Self::Lost => "lost",
            Self::NotReady => "not ready",
        }
    }
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// The lines in which two states differ, as `key: one | other`.
pub(crate) fn differences(one: &NormalForm, other: &NormalForm) -> Vec<String> {
    let keys = one.keys().chain(other.keys()).collect::<std::collections::BTreeSet<_>>();
    let value = |form: &NormalForm, key: &String| form.get(key).cloned().unwrap_or_else(|| "–".to_owned());
    keys.into_iter()
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| format!("{key}: {} | {}", value(one, key), value(other, key)))
        .collect()
}
