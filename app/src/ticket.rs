//! Invites on their way to a friend: as a link, as a picture, as a file.
//!
//! A ticket's own text comes from [`exo_model::invite`]; here it is packed and
//! found again, in whatever it arrives in. What is read is a stranger's: text,
//! files and pictures are bounded before they are looked at. A ticket is as
//! good as the invite in it, so files are private and nothing is logged.

mod picture;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use exo_model::invite::{Ticket, TicketError};
use tempfile::NamedTempFile;

pub(crate) use picture::{Code, Ground, code_for_picture, code_for_terminal, code_of_text};

/// What a link starts with; the ticket's text follows.
pub(crate) const LINK_PREFIX: &str = "exo-studio://join/";
/// The end of an invite file's name.
pub(crate) const FILE_EXTENSION: &str = "exoinvite";
/// Longest text that is searched for a ticket: a long mail.
pub(crate) const TEXT_BYTES_MAX: usize = 256 * 1024;
/// Longest file that is read: a photograph of a code, as a PNG.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// An invite that cannot be handed out or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InviteError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0} exists already: choose another name, or say that it is to be replaced")]
    Exists(PathBuf),
    #[error("{0} is too large to hold an invite")]
    TooLarge(PathBuf),
    #[error(
        "there is no invite in it: an invite is a link that starts with \"{LINK_PREFIX}\", or a ticket that starts with \"exo1\""
    )]
    None,
    #[error("there is no file {0}: name the invite file or picture with its folder")]
    NoFile(PathBuf),
    #[error(transparent)]
    Ticket(#[from] TicketError),
    #[error("the picture cannot be read: save it again as a PNG file")]
    Picture,
    #[error("the picture is too large: at most {width} × {height} dots", width = picture::SIDE_MAX, height = picture::SIDE_MAX)]
    PictureSize,
    #[error("there is no readable QR code in the picture: take it again, straight and in focus")]
    NoCode,
    #[error("this invite is too long for a QR code: send it as a link or as a file")]
    TooLongForCode,
}

/// The invite as a link.
pub(crate) fn link(ticket: &Ticket) -> String {
    format!("{LINK_PREFIX}{ticket}")
}

/// Finds an invite in a text: the bare ticket, a link, or either within a
/// message, also where a mail program broke it into lines.
pub(crate) fn read_text(text: &str) -> Result<Ticket, InviteError> {
    text::find(text)
}

/// Reads an invite from what a person names: the ticket or link itself, or a
/// file ([`read_file`]).
pub(crate) fn read_source(source: &str) -> Result<Ticket, InviteError> {
    let source = source.trim();
    let path = Path::new(source);
    // A ticket is too long for a name, and a name holds no ticket.
    match read_text(source) {
        Err(InviteError::None) if path.is_file() => read_file(path),
        Err(InviteError::None) if looks_like_path(source) => Err(InviteError::NoFile(path.to_owned())),
        Err(InviteError::Ticket(_)) if path.is_file() => read_file(path),
        read => read,
    }
}

/// Whether somebody meant a file, which is not there.
fn looks_like_path(source: &str) -> bool {
    let ends = [FILE_EXTENSION, "png", "txt"];
    let is_one_line = !source.contains('\n');
    is_one_line && ends.iter().any(|end| source.to_lowercase().ends_with(&format!(".{end}")))
}

/// Reads an invite from a file: an invite file, a text, or a picture (PNG) of a
/// QR code.
pub(crate) fn read_file(path: &Path) -> Result<Ticket, InviteError> {
    let failed = |source| InviteError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(InviteError::TooLarge(path.to_owned()));
    }
    if picture::is_png(&bytes) {
        return read_picture(&bytes);
    }
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(InviteError::TooLarge(path.to_owned()));
    }
    read_text(&String::from_utf8_lossy(&bytes))
}

/// Reads an invite from the bytes of a picture (PNG).
fn read_picture(bytes: &[u8]) -> Result<Ticket, InviteError> {
    picture::read(bytes)
}

/// Writes an invite file: the link, on a line of its own.
pub(crate) fn write_file(path: &Path, ticket: &Ticket, replaces: bool) -> Result<(), InviteError> {
    write(path, format!("{}\n", link(ticket)).as_bytes(), replaces)
}

/// Writes a code as a picture (PNG).
pub(crate) fn write_picture(path: &Path, code: &Code, replaces: bool) -> Result<(), InviteError> {
    write(path, &code.png()?, replaces)
}

/// Writes beside the target and puts it in its place; readable by its owner
/// only.
fn write(path: &Path, bytes: &[u8], replaces: bool) -> Result<(), InviteError> {
    let failed = |source| InviteError::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut draft = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    draft.write_all(bytes).map_err(failed)?;
    draft.as_file().sync_all().map_err(failed)?;
    let placed = if replaces { draft.persist(path) } else { draft.persist_noclobber(path) };
    match placed {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(InviteError::Exists(path.to_owned()))
        }
        Err(error) => Err(failed(error.error)),
    }
}
