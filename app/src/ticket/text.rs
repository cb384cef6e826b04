//! Finding a ticket in a text.

use exo_model::invite::{TICKET_CHARS_MAX, TICKET_PREFIX, Ticket, TicketError};

use super::{InviteError, TEXT_BYTES_MAX};

/// Places in a text that are tried.
const PLACES_MAX: usize = 16;
/// Pieces that a ticket may have been broken into.
const PIECES_MAX: usize = 256;

/// The first ticket in a text. A ticket's checksum says where it ends.
pub(super) fn find(text: &str) -> Result<Ticket, InviteError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(InviteError::None);
    }
    // Of the same length, byte for byte.
    let lower = text.to_ascii_lowercase();
    let mut failure = None;
    for (at, _) in lower.match_indices(TICKET_PREFIX).take(PLACES_MAX) {
        match read_at(&lower[at..]) {
            Ok(ticket) => return Ok(ticket),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.map_or(InviteError::None, InviteError::Ticket))
}

/// Reads the ticket that a text starts with, over as many line breaks and
/// quotation marks (`>`) as need be.
fn read_at(text: &str) -> Result<Ticket, TicketError> {
    let mut ticket = String::new();
    let mut rest = text;
    for _ in 0..PIECES_MAX {
        let end = rest.find(|c: char| !is_of_ticket(c)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        if piece.is_empty() || ticket.len() + piece.len() > TICKET_CHARS_MAX {
            break;
        }
        ticket.push_str(piece);
        match ticket.parse() {
            // It may go on in the next line.
            Err(TicketError::Damaged) => {}
            settled => return settled,
        }
        rest = after.trim_start_matches(|c: char| c.is_whitespace() || c == '>' || c == '=');
        if rest.len() == after.len() {
            break;
        }
    }
    Err(TicketError::Damaged)
}

/// Base 32, and the `1` of the prefix.
fn is_of_ticket(c: char) -> bool {
    c.is_ascii_lowercase() || ('1'..='7').contains(&c)
}
