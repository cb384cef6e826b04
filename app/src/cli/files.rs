//! Communities and backups as files, from the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::PARTLY;
use crate::face::shell::{say, show};
use crate::face::terminal::{ask, printable};
use crate::files::closed::Closed;
use crate::files::restoring::restore_into;
use crate::files::{BackupWish, ExportWish, FileError, ImportWish, Sealing, Secret, read_phrase};
use crate::folder::FolderError;
use crate::report::{ImportReport, RestoreReport};

/// What can be done with communities where no node runs.
#[derive(Debug, Subcommand)]
pub(super) enum CommunityWhat {
    /// List the communities of a data folder.
    #[command(after_help = "Example:\n  exo-studio community list")]
    List,
    /// Write a community into a file: to keep it, or to carry it where no network is.
    #[command(after_help = "Examples:\n  exo-studio community export garden.exo\n  \
        exo-studio community export garden.exo --community Garden --blobs --no-passphrase\n\n\
        Where a node is running, type \"export FILE\" in it instead.")]
    Export(ExportWish),
    /// Take in what a file holds; what is here already is merged with it.
    #[command(after_help = "Example:\n  exo-studio community import garden.exo\n\n\
        Importing again does nothing. Where a node is running, type \"import FILE\" in it instead.")]
    Import(ImportWish),
}

/// `exo-studio restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    /// File with the 24 words; without it you are asked for them.
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// File whose first line is the passphrase that the backup was sealed with.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(super) async fn community(what: CommunityWhat, data: PathBuf) -> anyhow::Result<ExitCode> {
    match what {
        CommunityWhat::List => {
            let listed = tokio::task::spawn_blocking(move || Closed::open(&data)?.communities()).await?;
            let listed = told(listed, "communities")?;
            if listed.is_empty() {
                say("There is no community in this folder yet.\n");
            }
            for (id, name) in listed {
                let name = if name.is_empty() { "(cannot be read)".into() } else { printable(&name) };
                say(&format!("{name:<24} {}\n", id.to_hex()));
            }
        }
        CommunityWhat::Export(mut wish) => {
            let closed = told(Closed::open(&data), "export FILE")?;
            seal(&mut wish.sealing).await?;
            show::show_export(&closed.export(wish).await?);
        }
        CommunityWhat::Import(wish) => {
            let closed = told(Closed::open(&data), "import FILE")?;
            return import(closed, wish).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(closed: Closed, mut wish: ImportWish) -> anyhow::Result<ExitCode> {
    if wish.lacks_passphrase()? {
        wish.passphrase = Some(ask_passphrase("The passphrase that the file was sealed with: ").await?);
    }
    let reports = closed.import(wish).await?;
    reports.iter().for_each(show::show_import);
    Ok(code(&reports))
}

fn code(reports: &[ImportReport]) -> ExitCode {
    let is_refused = reports.iter().any(|report| report.refused > 0);
    if is_refused { ExitCode::from(PARTLY) } else { ExitCode::SUCCESS }
}

pub(super) async fn backup(mut wish: BackupWish, data: PathBuf) -> anyhow::Result<ExitCode> {
    let closed = told(Closed::open(&data), "backup FILE")?;
    seal(&mut wish.sealing).await?;
    show::show_backup(&closed.backup(wish).await?);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn restore(args: RestoreArgs, data: PathBuf) -> anyhow::Result<ExitCode> {
    let RestoreArgs { file, phrase_file, passphrase_file } = args;
    let wish = ImportWish { file: file.clone(), passphrase_file, ..ImportWish::default() };
    let passphrase = match wish.lacks_passphrase()? {
        true => Some(ask_passphrase("The passphrase that the backup was sealed with: ").await?),
        false => None,
    };
    let phrase = match phrase_file {
        Some(path) => read_phrase(&path)?,
        None => {
            let typed = ask("Your recovery phrase, all 24 words on one line: ", false).await;
            let words = typed.context("write the 24 words into a file and name it with --phrase-file")?;
            words.trim().parse().context("the recovery phrase")?
        }
    };
    let sealing = Sealing { passphrase, ..wish.sealing() };
    let report = restore_into(data, file, sealing, phrase).await?;
    explain(&report);
    Ok(code(&report.communities))
}

fn explain(report: &RestoreReport) {
    let folder = &report.folder;
    say(&format!("Restored {} into {folder}.\n", printable(&report.name)));
    report.communities.iter().for_each(|community| {
        show::show_import(&ImportReport { member: true, ..community.clone() });
    });
    say(&format!(
        "\nWhat works now: reading. Start \"exo-studio --data {folder}\" (or \"exo-studio node --data {folder}\").\n\
         What needs a member who is online: writing, and news. This is a new device of yours, {}; friends' \
         computers know the lost one only. While it runs it asks them, again and again, to let this one in.\n\
         Do not go on with a copy of the old folder, should it turn up again.\n",
        report.device
    ));
}

/// Asks twice for what a new file is to be sealed with, unless that was said.
async fn seal(sealing: &mut Sealing) -> anyhow::Result<()> {
    if !sealing.is_open() {
        return Ok(());
    }
    let first = ask("A passphrase for the file (nobody can open it without): ", true).await;
    let first = first.map_err(|_| FileError::NoSeal)?;
    if first.is_empty() {
        return Err(FileError::NoSeal.into());
    }
    if ask("Once more: ", true).await? != first {
        bail!("these were not the same; nothing was written");
    }
    sealing.passphrase = Some(Secret::new(first));
    Ok(())
}

async fn ask_passphrase(question: &str) -> anyhow::Result<Secret> {
    let typed = ask(question, true).await;
    let typed = typed
        .context("the file is sealed: write its passphrase into a file and name it with --passphrase-file")?;
    Ok(Secret::new(typed))
}

/// Says what to do where a node has the folder.
fn told<T>(result: Result<T, FileError>, in_shell: &str) -> anyhow::Result<T> {
    match result {
        Err(FileError::Folder(FolderError::InUse(folder))) => Err(busy(&folder, in_shell)),
        result => Ok(result?),
    }
}

/// A node runs on the folder.
pub(super) fn busy(folder: &Path, in_shell: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "Exo-Studio is running on {}: type \"{in_shell}\" in its terminal (exo-studio node), or close it and \
         try again",
        folder.display()
    )
}
