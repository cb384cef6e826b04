use super::*;
use crate::sample::mix;
use crate::session::tests::SESSION;

fn tokens_frame(position: u32, rows: u32) -> StageFrame {
    let payload = Payload::Tokens((0..rows).collect());
    StageFrame { session: SESSION, epoch: 1, position, payload, sample_last: true }
}

/// Frames, their bytes, and nothing else: a change needs a new version.
fn golden() -> [(StageFrame, String); 2] {
    let session = "01".repeat(16);
    let hidden = Payload::Hidden(Activations::new(1, 2, vec![1.0, -2.0]).unwrap());
    let frame =
        |payload, sample_last| StageFrame { session: SESSION, epoch: 2, position: 300, payload, sample_last };
    [
        (frame(Payload::Tokens(vec![5, 70_000]), true), format!("8550{session}0219012c820082051a00011170f5")),
        (frame(hidden, false), format!("8550{session}0219012c84010102480000803f000000c0f4")),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn frames_have_golden_bytes_and_come_back() {
    for (frame, bytes) in golden() {
        assert_eq!(hex(&frame.encode()), bytes);
        assert_eq!(StageFrame::decode(&frame.encode()).unwrap(), frame);
    }
    let token = TokenFrame { session: SESSION, epoch: 2, position: 300, token: 5 };
    assert_eq!(hex(&token.encode()), format!("8450{}0219012c05", "01".repeat(16)));
    assert_eq!(TokenFrame::decode(&token.encode()).unwrap(), token);
}

#[test]
fn frames_out_of_bounds_are_refused() {
    let bytes_of = |payload| StageFrame { payload, ..tokens_frame(0, 1) }.encode();
    let hidden =
        |rows, width| Payload::Hidden(Activations::new(rows, width, vec![0.0; rows * width]).unwrap());
    for (payload, expected) in [
        (Payload::Tokens(Vec::new()), "number of rows"),
        (Payload::Tokens(vec![0; 65]), "number of rows"),
        (hidden(0, 5), "number of rows"),
        (hidden(65, 5), "number of rows"),
        (hidden(5, 0), "width"),
        (hidden(1, 65_537), "width"),
    ] {
        let error = StageFrame::decode(&bytes_of(payload)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(StageFrame::decode(&bytes_of(hidden(64, 65_535))).is_ok());
    let longest = bytes_of(hidden(64, 65_536));
    assert!(matches!(StageFrame::decode(&longest), Err(FrameError::TooLong(_))));
    let mut trailing = bytes_of(hidden(1, 1));
    trailing.push(0);
    assert!(matches!(StageFrame::decode(&trailing), Err(FrameError::Trailing)));
}

#[test]
fn mutated_frames_never_panic_and_what_decodes_encodes_to_a_frame_again() {
    let seeds: Vec<Vec<u8>> = golden().iter().map(|(frame, _)| frame.encode()).collect();
    for seed in 0..20_000_u64 {
        let mut bytes = seeds[(seed % 2) as usize].clone();
        for round in 0..=seed % 3 {
            let bits = mix(seed, round);
            let at = (bits >> 8) as usize % bytes.len();
            bytes[at] = bits as u8;
        }
        bytes.truncate(bytes.len() - (mix(seed, 9) % 3) as usize);
        if let Ok(frame) = StageFrame::decode(&bytes) {
            let again = StageFrame::decode(&frame.encode()).unwrap();
            assert_eq!(again.encode(), frame.encode());
        }
        let _ = TokenFrame::decode(&bytes);
    }
}
