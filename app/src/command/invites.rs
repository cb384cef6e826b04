//! Making an invite, and the files that go with it.

use std::path::PathBuf;

use exo_model::charter::Role;
use exo_model::invite::Ticket;
use serde::{Deserialize, Serialize};

use super::CommandError;
use crate::node::{InviteTerms, Membership, MembershipError, invites};
use crate::report::TicketReport;
use crate::ticket;

/// What an invite is to be. In JSON:
/// `{"command":"invite","uses":2,"role":"guest","days":1}`.
#[derive(Clone, Debug, Deserialize, Serialize, clap::Args)]
pub(crate) struct InviteWish {
    /// How many people may join with it.
    #[arg(value_name = "USES", default_value_t = one())]
    #[serde(default = "one")]
    pub(crate) uses: u32,
    /// What they become: member, guest or keeper; a member without it.
    #[arg(long, value_name = "ROLE", value_parser = ["member", "guest", "keeper"])]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    /// How many days it lasts, for example 1 or 0.5; 7 without it.
    #[arg(long, value_name = "NUMBER")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) days: Option<f64>,
    /// Write its QR code as a picture.
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) png: Option<PathBuf>,
    /// Write an invite file, for a USB stick or a mail.
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// Replace files of these names.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) replace: bool,
}

impl Default for InviteWish {
    fn default() -> Self {
        Self { uses: one(), role: None, days: None, png: None, file: None, replace: false }
    }
}

const fn one() -> u32 {
    1
}

/// Makes the invite, then its files: where one of these fails, the invite is
/// taken back, so that none is open that nobody has.
pub(super) async fn make(membership: &Membership, wish: InviteWish) -> Result<TicketReport, CommandError> {
    let role = match &wish.role {
        Some(role) => role.parse().map_err(|error: exo_model::charter::role::UnknownRole| {
            CommandError::Argument(error.to_string())
        })?,
        None => Role::Member,
    };
    let uses = wish.uses;
    let terms = InviteTerms { uses, role, days: wish.days.unwrap_or(invites::DAYS) };
    let ticket = membership.invite(terms).await?;
    let to_write = ticket.clone();
    let written = tokio::task::spawn_blocking(move || write_files(&to_write, &wish)).await;
    let written = written.map_err(|error| MembershipError::Thread(error.to_string()))?;
    match written {
        Ok(files) => Ok(TicketReport::of(&ticket, uses, role.as_str(), files)),
        Err(error) => {
            membership.revoke_invite(&ticket.key().to_hex()).await?;
            Err(error.into())
        }
    }
}

fn write_files(ticket: &Ticket, wish: &InviteWish) -> Result<Vec<String>, ticket::InviteError> {
    let mut files = Vec::new();
    if let Some(path) = &wish.png {
        ticket::write_picture(path, &ticket::code_for_picture(ticket)?, wish.replace)?;
        files.push(path.display().to_string());
    }
    if let Some(path) = &wish.file {
        ticket::write_file(path, ticket, wish.replace)?;
        files.push(path.display().to_string());
    }
    Ok(files)
}
