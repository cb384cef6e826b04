use super::*;
use crate::engine::Activations;
use crate::session::tests::{Fake, SESSION, settings};

fn tokens_frame(position: u32, rows: u32) -> StageFrame {
    let payload = Payload::Tokens((0..rows).collect());
    StageFrame { session: SESSION, epoch: 1, position, payload, sample_last: true }
}

#[test]
fn a_stage_refuses_what_is_not_its_turn() {
    let mut session = StageSession::new(settings(u64::MAX)).unwrap();
    let mut fake = Fake { tail: true, position: 0 };
    let mut handle = |frame| session.handle(&mut fake, StageMessage::Frame(frame));
    let events = handle(tokens_frame(0, 4)).unwrap();
    assert!(matches!(events[..], [StageEvent::Token(TokenFrame { position: 4, .. })]));
    let refused = [
        StageFrame { session: JobId::from_bytes([2; 16]), ..tokens_frame(4, 1) },
        StageFrame { epoch: 0, ..tokens_frame(4, 1) },
        StageFrame { epoch: 2, ..tokens_frame(4, 1) },
        tokens_frame(5, 1),
        tokens_frame(u32::MAX, 1),
    ];
    for frame in refused {
        assert!(handle(frame).unwrap_err().is_rejection());
    }
    let payload = Payload::Hidden(Activations::new(1, 1, vec![f32::NAN]).unwrap());
    let error = handle(StageFrame { payload, ..tokens_frame(4, 1) }).unwrap_err();
    assert!(matches!(error, StageError::Forward(ForwardError::NonFiniteInput)));
    assert!(error.is_rejection());
    // A lower position starts over from there; work counts every time.
    handle(tokens_frame(2, 1)).unwrap();
    handle(StageFrame { sample_last: false, ..tokens_frame(3, 1) }).unwrap();
    assert_eq!((session.computed(), fake.position), (6, 4));
}

#[test]
fn a_stage_stops_when_too_much_is_unvouched_and_goes_on_when_paid() {
    let mut session = StageSession::new(settings(64)).unwrap();
    let mut fake = Fake { tail: false, position: 0 };
    let mut handle = |message| session.handle(&mut fake, message);
    let frame = |index: u32| StageMessage::Frame(tokens_frame(index * 64, 64));
    assert!(matches!(handle(frame(0)).unwrap()[..], [StageEvent::Forward(_)]));
    // 64 are not more than 64: one more frame, which is all that can be lost.
    assert!(matches!(handle(frame(1)).unwrap()[..], [StageEvent::Forward(_)]));
    let waiting = StageEvent::Waiting { computed: 128, vouched: 0 };
    assert_eq!(handle(frame(2)).unwrap(), [waiting]);
    for index in 3..6 {
        assert!(handle(frame(index)).unwrap().is_empty(), "said once");
    }
    assert!(matches!(handle(frame(6)), Err(StageError::QueueFull)));
    let gap = handle(frame(9)).unwrap_err();
    assert!(matches!(gap, StageError::Gap { found: 576, expected: 384 }));
    assert!(handle(StageMessage::Vouched { positions: 63 }).unwrap().is_empty());
    let events = handle(StageMessage::Vouched { positions: 128 }).unwrap();
    assert!(matches!(
        events[..],
        [StageEvent::Forward(_), StageEvent::Forward(_), StageEvent::Waiting { computed: 256, .. }]
    ));
    // An older voucher takes nothing back.
    assert!(handle(StageMessage::Vouched { positions: 5 }).unwrap().is_empty());
    let events = handle(StageMessage::Vouched { positions: 384 }).unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!((session.computed(), session.vouched()), (384, 384));
}

#[test]
fn a_new_epoch_drops_waiting_frames_and_refuses_old_ones() {
    let mut session = StageSession::new(settings(0)).unwrap();
    let mut fake = Fake { tail: true, position: 0 };
    let mut handle = |message| session.handle(&mut fake, message);
    handle(StageMessage::Frame(tokens_frame(0, 4))).unwrap();
    handle(StageMessage::Frame(tokens_frame(4, 1))).unwrap();
    assert!(handle(StageMessage::Epoch { epoch: 1 }).is_err());
    assert!(handle(StageMessage::Epoch { epoch: 3 }).unwrap().is_empty());
    assert!(handle(StageMessage::Vouched { positions: 99 }).unwrap().is_empty());
    assert!(handle(StageMessage::Frame(tokens_frame(4, 1))).is_err());
    let frame = StageFrame { epoch: 3, ..tokens_frame(2, 1) };
    assert_eq!(handle(StageMessage::Frame(frame)).unwrap().len(), 1);
    assert_eq!(session.epoch(), 3);
}
