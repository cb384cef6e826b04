//! Tickets as QR codes: drawn for a file or a terminal, and read from a picture.
//!
//! A link in capitals needs letters of QR's own alphabet only, which takes two
//! thirds of the room; a ticket's text survives capitals. Where a code cannot
//! hold all contacts, addresses are left away from the last one on, and how
//! many is said.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use exo_model::invite::Ticket;
use png::{BitDepth, ColorType, Decoder, Encoder, Limits, Transformations};
use qrcode::types::QrError;
use qrcode::{Color, EcLevel, QrCode};
use rqrr::PreparedImage;

use super::{InviteError, link, read_text};

/// Longest side of a picture that is read, in dots.
pub(super) const SIDE_MAX: u32 = 8_192;
/// Most dots of a picture that is read; a byte is held for each, four while it
/// is unpacked.
const DOTS_MAX: u64 = 1 << 24;
/// Bytes that unpacking may take.
const DECODER_BYTES_MAX: usize = 96 << 20;
/// Codes tried in one picture.
const CODES_MAX: usize = 16;
/// Light squares around a code: readers need them.
const QUIET: usize = 4;
/// Dots of a square in a picture.
const SCALE: usize = 8;
/// Columns of a terminal that a code must fit in.
const COLUMNS: usize = 80;
const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What a terminal's text stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    Dark,
    Light,
}

/// A ticket as squares.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(super) squares: Vec<bool>,
    pub(super) side: usize,
    /// Addresses that the ticket has and the code has no room for; they are
    /// ways to the same community, of which one is enough.
    pub(crate) left_out: usize,
}

/// A code for a picture: as large as need be, and forgiving.
pub(crate) fn code_for_picture(ticket: &Ticket) -> Result<Code, InviteError> {
    fit(ticket, EcLevel::M, usize::MAX)
}

/// A code for a terminal of 80 columns.
pub(crate) fn code_for_terminal(ticket: &Ticket) -> Result<Code, InviteError> {
    fit(ticket, EcLevel::L, COLUMNS - 2 * QUIET)
}

/// A code of any text for a terminal of 80 columns, if it fits.
pub(crate) fn code_of_text(text: &str) -> Option<Code> {
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L).ok()?;
    (code.width() <= COLUMNS - 2 * QUIET).then(|| Code::new(code, 0))
}

/// Leaves addresses away until the code fits, at least one contact stays.
fn fit(ticket: &Ticket, level: EcLevel, side_max: usize) -> Result<Code, InviteError> {
    let mut ticket = ticket.clone();
    let mut left_out = 0;
    loop {
        let text = link(&ticket).to_ascii_uppercase();
        match QrCode::with_error_correction_level(text.as_bytes(), level) {
            Ok(code) if code.width() <= side_max => {
                return Ok(Code::new(code, left_out));
            }
            Ok(_) | Err(QrError::DataTooLong) if shorten(&mut ticket) => left_out += 1,
            _ => return Err(InviteError::TooLongForCode),
        }
    }
}

/// Takes the last address away, and its contact with the last one of it. The
/// first contact keeps one.
fn shorten(ticket: &mut Ticket) -> bool {
    let is_only = ticket.contacts.len() == 1;
    let Some(last) = ticket.contacts.last_mut() else { return false };
    if is_only && last.addresses.len() <= 1 {
        return false;
    }
    last.addresses.pop();
    if last.addresses.is_empty() && !is_only {
        ticket.contacts.pop();
    }
    true
}

impl Code {
    fn new(code: QrCode, left_out: usize) -> Self {
        let side = code.width();
        let squares = code.into_colors().into_iter().map(|color| color == Color::Dark).collect();
        Self { squares, side, left_out }
    }

    /// Whether there is a dark square, around the code nowhere.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        let within = |at: usize| at.checked_sub(QUIET).filter(|at| *at < self.side);
        match (within(x), within(y)) {
            (Some(x), Some(y)) => self.squares[y * self.side + x],
            _ => false,
        }
    }

    /// Squares along a side, those around it included.
    fn width(&self) -> usize {
        self.side + 2 * QUIET
    }

    /// The picture (PNG), black on white.
    pub(crate) fn png(&self) -> Result<Vec<u8>, InviteError> {
        let dots = self.width() * SCALE;
        let side = u32::try_from(dots).map_err(|_| InviteError::TooLongForCode)?;
        let mut pixels = Vec::with_capacity(dots * dots);
        for y in 0..dots {
            pixels.extend((0..dots).map(|x| if self.is_dark(x / SCALE, y / SCALE) { 0 } else { u8::MAX }));
        }
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, side, side);
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
        written.map_err(|_| InviteError::Picture)?;
        Ok(bytes)
    }

    /// Lines of half blocks, two rows of squares each. What is written is light
    /// on a dark ground, and dark on a light one.
    pub(crate) fn lines(&self, ground: Ground) -> String {
        let mut text = String::new();
        for y in (0..self.width()).step_by(2) {
            for x in 0..self.width() {
                // Below the last row the ground goes on.
                let upper = self.is_dark(x, y) == (ground == Ground::Light);
                let lower = y + 1 < self.width() && self.is_dark(x, y + 1) == (ground == Ground::Light);
                text.push(match (upper, lower) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            text.push('\n');
        }
        text
    }
}

/// Whether these are the first bytes of a PNG file.
pub(super) fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(PNG_MAGIC)
}

/// Reads a ticket from a picture.
pub(super) fn read(bytes: &[u8]) -> Result<Ticket, InviteError> {
    // The readers of pictures and codes are others' and may have faults that a
    // crafted picture finds; they leave nothing behind.
    catch_unwind(AssertUnwindSafe(|| {
        let (width, height, grey) = unpack(bytes)?;
        let mut image = PreparedImage::prepare_from_greyscale(width, height, |x, y| grey[y * width + x]);
        let mut failure = InviteError::NoCode;
        for grid in image.detect_grids().into_iter().take(CODES_MAX) {
            let Ok((_, text)) = grid.decode() else { continue };
            match read_text(&text) {
                Ok(ticket) => return Ok(ticket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }))
    .unwrap_or(Err(InviteError::Picture))
}

/// The grey of each dot, transparent ones being white.
fn unpack(bytes: &[u8]) -> Result<(usize, usize, Vec<u8>), InviteError> {
    let unreadable = |_| InviteError::Picture;
    let limits = Limits { bytes: DECODER_BYTES_MAX };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let (width, height) = decoder.read_header_info().map_err(unreadable)?.size();
    let dots = u64::from(width) * u64::from(height);
    if width.max(height) > SIDE_MAX || dots > DOTS_MAX {
        return Err(InviteError::PictureSize);
    }
    let mut reader = decoder.read_info().map_err(unreadable)?;
    let len = reader.output_buffer_size().ok_or(InviteError::PictureSize)?;
    let mut pixels = vec![0; len];
    let frame = reader.next_frame(&mut pixels).map_err(unreadable)?;
    let samples = frame.color_type.samples();
    let (width, height) = (width as usize, height as usize);
    let lines = pixels.chunks_exact(frame.line_size.max(1)).take(height);
    let grey: Vec<u8> = lines
        .flat_map(|line| line.chunks_exact(samples).take(width))
        .map(|dot| match *dot {
            [grey] => grey,
            [grey, alpha] => on_white(grey, alpha),
            [red, green, blue] => luma(red, green, blue),
            [red, green, blue, alpha] => on_white(luma(red, green, blue), alpha),
            _ => u8::MAX,
        })
        .collect();
    if grey.len() == width * height { Ok((width, height, grey)) } else { Err(InviteError::Picture) }
}

fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = u32::from(red) * 77 + u32::from(green) * 150 + u32::from(blue) * 29;
    u8::try_from(sum >> 8).unwrap_or(u8::MAX)
}

fn on_white(grey: u8, alpha: u8) -> u8 {
    let mixed = u32::from(grey) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
    u8::try_from(mixed / 255).unwrap_or(u8::MAX)
}
