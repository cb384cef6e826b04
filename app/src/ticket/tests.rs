use exo_model::id::{CommunityId, DeviceId};
use exo_model::invite::{CONTACTS_MAX, Contact, TICKET_CHARS_MAX};
use exo_model::signature::SecretKey;

use super::*;

/// A ticket with so many contacts, of so many addresses each.
fn ticket(contacts: u8, addresses: u8) -> Ticket {
    let contact = |number: u8| Contact {
        device: DeviceId::from_bytes([number; 32]),
        addresses: (0..addresses).map(|at| format!("192.168.{number}.{at}:5{number}1{at}")).collect(),
    };
    let secret = SecretKey::from_bytes(&[9; 32]);
    let contacts = (0..contacts).map(contact).collect();
    Ticket::new(CommunityId::from_bytes([3; 32]), "Garden".into(), &secret, 1_000, contacts)
}

/// What a terminal shows, as a picture.
fn picture_of(lines: &str, ground: Ground) -> Vec<u8> {
    let rows: Vec<Vec<char>> = lines.lines().map(|line| line.chars().collect()).collect();
    let (width, height, scale) = (rows[0].len(), rows.len() * 2, 4);
    let is_written = |x: usize, y: usize| match rows[y / 2][x] {
        '█' => true,
        '▀' => y.is_multiple_of(2),
        '▄' => !y.is_multiple_of(2),
        _ => false,
    };
    let white = |x, y| is_written(x, y) == (ground == Ground::Dark);
    let mut bytes = Vec::new();
    let side = |squares: usize| u32::try_from(squares * scale).expect("small");
    let mut encoder = png::Encoder::new(&mut bytes, side(width), side(height));
    encoder.set_color(png::ColorType::Rgba);
    let dots: Vec<u8> = (0..height * scale)
        .flat_map(|y| (0..width * scale).map(move |x| (x, y)))
        .flat_map(|(x, y)| if white(x / scale, y / scale) { [255, 255, 255, 0] } else { [0, 0, 0, 255] })
        .collect();
    encoder.write_header().expect("written").write_image_data(&dots).expect("written");
    bytes
}

#[test]
fn a_link_is_found_in_whatever_it_is_pasted_with() {
    let ticket = ticket(2, 2);
    let (bare, link) = (ticket.to_string(), link(&ticket));
    let (start, rest) = link.split_at(70);
    let texts = [
        bare.clone(),
        link.clone(),
        link.to_uppercase(),
        format!("  {link}\r\n"),
        format!("Hi Ben,\n\njoin us: {link}.\nSee you! Bring your exo1skeleton."),
        format!("<a href=\"{link}\">join</a>"),
        format!("see exo1 and ({link})"),
        format!("> {start}\r\n> {rest}\r\n> see you"),
        format!("{start}=\r\n{rest}"),
        format!("{start}\n{rest} thanks"),
    ];
    for text in texts {
        assert_eq!(read_text(&text).expect(&text).to_string(), bare, "{text}");
    }
}

#[test]
fn texts_without_an_invite_say_so() {
    for text in ["", "hello", "https://example.org/join", &"x".repeat(TEXT_BYTES_MAX + 1)] {
        assert!(matches!(read_text(text), Err(InviteError::None)));
    }
    let whole = link(&ticket(1, 1));
    for text in [&whole[..whole.len() - 1], &whole.replace("exo1q", "exo1r"), "exo1", "exo1 and more words"] {
        let refused = read_text(text);
        assert!(matches!(refused, Err(InviteError::Ticket(TicketError::Damaged))), "{text}: {refused:?}");
    }
    // As much as a text can make us try.
    let text = format!("exo1{}", "aaaa ".repeat(TEXT_BYTES_MAX / 5 - 1));
    assert!(read_text(&text).is_err());
    let text = "exo1 ".repeat(TEXT_BYTES_MAX / 5);
    assert!(read_text(&text).is_err());
    assert!(read_text(&format!("exo1{}", "a".repeat(TICKET_CHARS_MAX))).is_err());
}

#[test]
fn tickets_of_every_size_come_back_from_their_picture() {
    for contacts in 1..=8 {
        for addresses in [1, 2, 5] {
            let ticket = ticket(contacts, addresses);
            let code = code_for_picture(&ticket).expect("fits");
            let read = read_picture(&code.png().expect("drawn")).expect("readable");
            assert_eq!(read.key(), ticket.key());
            assert_eq!(code.left_out, 0, "{contacts} contacts of {addresses}");
            assert_eq!(read.to_string(), ticket.to_string());
        }
    }
}

#[test]
fn what_does_not_fit_is_left_out_from_the_end_and_counted() {
    let most = ticket(u8::try_from(CONTACTS_MAX).expect("few"), 16);
    let code = code_for_picture(&most).expect("fits");
    let read = read_picture(&code.png().expect("drawn")).expect("readable");
    let count =
        |ticket: &Ticket| ticket.contacts.iter().map(|contact| contact.addresses.len()).sum::<usize>();
    assert!(code.left_out > 0);
    assert_eq!(count(&read) + code.left_out, count(&most));
    for (kept, given) in read.contacts.iter().zip(&most.contacts) {
        assert_eq!(kept.device, given.device);
        assert!(given.addresses.starts_with(&kept.addresses));
    }
    assert_eq!(read.key(), most.key());

    // The last address of the only contact is not given up.
    let mut long = ticket(1, 0);
    long.contacts[0].addresses = vec!["x".repeat(3_000)];
    assert!(matches!(code_for_picture(&long), Err(InviteError::TooLongForCode)));
    assert!(matches!(code_for_terminal(&long), Err(InviteError::TooLongForCode)));
}

#[test]
fn a_terminal_of_80_columns_shows_it_on_either_ground() {
    for (contacts, addresses) in [(1, 1), (1, 3), (3, 2), (8, 16)] {
        let ticket = ticket(contacts, addresses);
        let code = code_for_terminal(&ticket).expect("fits");
        for ground in [Ground::Dark, Ground::Light] {
            let lines = code.lines(ground);
            assert!(lines.lines().all(|line| line.chars().count() <= 80), "{contacts} × {addresses}");
            let read = read_picture(&picture_of(&lines, ground)).expect("readable");
            assert_eq!(read.key(), ticket.key());
            assert!(!read.contacts[0].addresses.is_empty());
        }
    }
}

#[test]
fn files_come_back_and_are_private_and_replaced_only_when_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ticket = ticket(2, 2);
    let path = folder.path().join(format!("garden.{FILE_EXTENSION}"));
    write_file(&path, &ticket, false).expect("written");
    assert_eq!(read_file(&path).expect("readable").to_string(), ticket.to_string());
    assert!(matches!(write_file(&path, &ticket, false), Err(InviteError::Exists(_))));
    write_file(&path, &ticket, true).expect("replaced");
    let picture = folder.path().join("garden.png");
    write_picture(&picture, &code_for_picture(&ticket).expect("fits"), false).expect("written");
    assert_eq!(read_file(&picture).expect("readable").to_string(), ticket.to_string());
    #[cfg(unix)]
    for path in [&path, &picture] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    assert!(matches!(read_file(&folder.path().join("none")), Err(InviteError::Io { .. })));
    std::fs::write(&path, vec![b'x'; TEXT_BYTES_MAX + 1]).expect("written");
    assert!(matches!(read_file(&path), Err(InviteError::TooLarge(_))));
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 2, "no draft is left");
}

/// A PNG's first chunk, with a checksum that fits.
fn header_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = png::Encoder::new(&mut bytes, width, height);
    drop(encoder.write_header());
    bytes
}

#[test]
fn hostile_pictures_are_refused() {
    for (width, height) in [(u32::MAX >> 1, u32::MAX >> 1), (1, 100_000_000), (8_193, 1), (8_000, 8_000)] {
        let refused = read_picture(&header_of(width, height));
        assert!(matches!(refused, Err(InviteError::PictureSize)), "{width} × {height}: {refused:?}");
    }
    let good = code_for_picture(&ticket(2, 2)).expect("fits").png().expect("drawn");
    for len in (0..good.len()).step_by(41) {
        assert!(read_picture(&good[..len]).is_err(), "the first {len} bytes");
    }
    // Changed anywhere: the right ticket, or none.
    let right = ticket(2, 2).to_string();
    let mut state = 1_u64;
    for _ in 0..60 {
        let mut changed = good.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).expect("31 bits") % changed.len();
            changed[at] ^= 0x55;
        }
        if let Ok(read) = read_picture(&changed) {
            assert_eq!(read.to_string(), right);
        }
    }
    let blank = picture_of(&format!("{}\n", " ".repeat(40)).repeat(20), Ground::Light);
    assert!(matches!(read_picture(&blank), Err(InviteError::NoCode)));
    assert!(matches!(read_picture(b"GIF89a"), Err(InviteError::Picture)));
}

#[test]
fn a_code_of_something_else_is_no_invite() {
    let code = qrcode::QrCode::new(b"https://example.org").expect("short");
    let side = code.width();
    let squares = code.into_colors().into_iter().map(|color| color == qrcode::Color::Dark).collect();
    let code = Code { squares, side, left_out: 0 };
    assert!(matches!(read_picture(&code.png().expect("drawn")), Err(InviteError::None)));
}

#[test]
fn an_invite_is_taken_in_whatever_form_it_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ticket = ticket(2, 2);
    let file = folder.path().join("garden.exoinvite");
    let picture = folder.path().join("exo1-garden.png");
    write_file(&file, &ticket, false).expect("written");
    write_picture(&picture, &code_for_picture(&ticket).expect("fits"), false).expect("written");
    let sources =
        [ticket.to_string(), link(&ticket), file.display().to_string(), picture.display().to_string()];
    for source in sources {
        assert_eq!(read_source(&format!(" {source} ")).expect(&source).to_string(), ticket.to_string());
    }
    assert!(matches!(read_source("gone.png"), Err(InviteError::NoFile(_))));
    assert!(matches!(read_source("hello"), Err(InviteError::None)));
    let cut = link(&ticket)[..80].to_owned();
    assert!(matches!(read_source(&cut), Err(InviteError::Ticket(TicketError::Damaged))));
}

#[test]
fn a_short_text_fits_a_terminal_and_a_long_one_is_left_out() {
    let link = format!("exo-device:{}", "a1b2c3d4".repeat(24));
    let code = code_of_text(&link).expect("it fits");
    assert_eq!(code.left_out, 0);
    assert!(code.lines(Ground::Dark).lines().all(|line| line.chars().count() <= 80));
    assert!(code_of_text(&"a".repeat(1_000)).is_none(), "wider than a terminal");
}
