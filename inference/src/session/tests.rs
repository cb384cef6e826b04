use std::collections::BTreeSet;

use exo_model::id::JobId;

use super::*;
use crate::engine::{Activations, ForwardError, StageCompute, StageInput, StageOutput};
use crate::sample::Sampling;

pub(super) const SESSION: JobId = JobId::from_bytes([1; 16]);
const VOCABULARY: usize = 50;

/// Computes nothing, but checks positions; as a tail its likeliest token is
/// a function of the position and of the last row it was given.
pub(super) struct Fake {
    pub(super) tail: bool,
    pub(super) position: u32,
}

impl StageCompute for Fake {
    fn position(&self) -> u32 {
        self.position
    }

    fn forward(&mut self, input: StageInput<'_>, position: u32) -> Result<StageOutput, ForwardError> {
        if position > self.position {
            return Err(ForwardError::Gap { position, expected: self.position });
        }
        let rows: Vec<f32> = match &input {
            StageInput::Tokens(tokens) => tokens.iter().map(|&token| token as f32).collect(),
            StageInput::Hidden(activations) => activations.values().to_vec(),
        };
        if rows.iter().any(|value| !value.is_finite()) {
            return Err(ForwardError::NonFiniteInput);
        }
        self.position = position + rows.len() as u32;
        if !self.tail {
            let rows = Activations::new(rows.len(), 1, rows)?;
            return Ok(StageOutput::Hidden(rows));
        }
        let last = rows[rows.len() - 1] as usize;
        let mut logits = vec![0.0; VOCABULARY];
        logits[(last * 7 + self.position as usize) % (VOCABULARY - 1)] = 1.0;
        Ok(StageOutput::Logits(logits))
    }
}

pub(super) fn settings(unvouched_positions_max: u64) -> StageSettings {
    let sampling = Sampling::GREEDY;
    StageSettings { session: SESSION, epoch: 1, sampling, unvouched_positions_max }
}

fn request(prompt: usize, max_tokens: u32) -> SessionRequest {
    SessionRequest {
        session: SESSION,
        prompt: (0..prompt as u32).map(|index| index % 40).collect(),
        max_tokens,
        end_tokens: BTreeSet::from([VOCABULARY as u32 - 1]),
        context_tokens: 10_000,
    }
}

fn begun(request: SessionRequest) -> (RequesterSession, Vec<RequesterOutput>) {
    let mut session = RequesterSession::new(request).unwrap();
    let outputs = session.handle(RequesterInput::Begin { epoch: 1 }).unwrap();
    (session, outputs)
}

fn token(position: u32, token: u32) -> RequesterInput {
    RequesterInput::Token(TokenFrame { session: SESSION, epoch: 1, position, token })
}

fn sent(outputs: &[RequesterOutput]) -> Vec<(u32, u32)> {
    let span = |output: &RequesterOutput| match output {
        RequesterOutput::Send(frame) => Some((frame.position, frame.end())),
        _ => None,
    };
    outputs.iter().filter_map(span).collect()
}

#[test]
fn a_prompt_travels_in_frames_of_64_and_few_at_a_time() {
    let (mut session, outputs) = begun(request(400, 5));
    assert_eq!(sent(&outputs), [(0, 64), (64, 128), (128, 192), (192, 256)]);
    let outputs = session.handle(token(64, 3)).unwrap();
    assert_eq!(outputs[0], RequesterOutput::Computed { positions: 64 });
    assert_eq!(sent(&outputs), [(256, 320)]);
    assert_eq!(outputs.len(), 2, "a token inside the prompt is no answer");
    for position in [128, 192] {
        session.handle(token(position, 3)).unwrap();
    }
    assert!(sent(&session.handle(token(256, 3)).unwrap()).is_empty());
    for position in [320, 384] {
        session.handle(token(position, 3)).unwrap();
    }
    let outputs = session.handle(token(400, 9)).unwrap();
    assert_eq!(session.computed(), 400);
    assert_eq!(outputs[1], RequesterOutput::Token { position: 400, token: 9 });
    assert_eq!(sent(&outputs), [(400, 401)]);
    assert_eq!(session.answer(), [9]);
}

#[test]
fn an_answer_ends_for_one_stated_reason() {
    let finish = |outputs: &[RequesterOutput]| match outputs.last() {
        Some(RequesterOutput::Finished(reason)) => Some(*reason),
        _ => None,
    };
    let (mut session, _) = begun(request(3, 5));
    let outputs = session.handle(token(3, 49)).unwrap();
    assert_eq!(finish(&outputs), Some(FinishReason::EndToken));
    assert!(session.answer().is_empty());
    assert_eq!(session.handle(token(4, 1)), Err(RequesterError::NotRunning));

    let (mut session, _) = begun(request(3, 2));
    assert_eq!(finish(&session.handle(token(3, 1)).unwrap()[..2]), None);
    let outputs = session.handle(token(4, 2)).unwrap();
    assert_eq!(finish(&outputs), Some(FinishReason::MaxTokens));
    assert_eq!((session.answer(), session.computed()), (&[1, 2][..], 4));

    let (mut session, _) = begun(SessionRequest { context_tokens: 4, ..request(3, 9) });
    session.handle(token(3, 1)).unwrap();
    let outputs = session.handle(token(4, 2)).unwrap();
    assert_eq!(finish(&outputs), Some(FinishReason::ContextFull));
    assert_eq!(session.answer(), [1, 2]);

    let (mut session, _) = begun(request(3, 9));
    let outputs = session.handle(RequesterInput::Stop).unwrap();
    assert_eq!(finish(&outputs), Some(FinishReason::Stopped));
    assert_eq!(session.finished(), Some(FinishReason::Stopped));

    let (_, outputs) = begun(request(3, 0));
    assert_eq!(outputs, [RequesterOutput::Finished(FinishReason::MaxTokens)]);
    assert!(RequesterSession::new(request(0, 1)).is_err());
    let full = SessionRequest { context_tokens: 2, ..request(3, 1) };
    assert!(RequesterSession::new(full).is_err());
}

#[test]
fn a_requester_refuses_what_it_does_not_await() {
    let (mut session, _) = begun(request(100, 5));
    let before = format!("{session:?}");
    let frame =
        |session, epoch, position| RequesterInput::Token(TokenFrame { session, epoch, position, token: 1 });
    let other = JobId::from_bytes([2; 16]);
    let unexpected = |found| Err(RequesterError::UnexpectedPosition { found, expected: Some(64) });
    assert_eq!(session.handle(frame(other, 1, 64)), Err(RequesterError::Stale));
    assert_eq!(session.handle(frame(SESSION, 0, 64)), Err(RequesterError::Stale));
    assert_eq!(session.handle(frame(SESSION, 1, 100)), unexpected(100));
    assert_eq!(session.handle(frame(SESSION, 1, u32::MAX)), unexpected(u32::MAX));
    let again = RequesterInput::Begin { epoch: 1 };
    let not_new = RequesterError::EpochNotNew { epoch: 1, current: 1 };
    assert_eq!(session.handle(again), Err(not_new));
    assert_eq!(format!("{session:?}"), before);
    let mut idle = RequesterSession::new(request(3, 1)).unwrap();
    assert_eq!(idle.handle(token(3, 1)), Err(RequesterError::NotRunning));
}

#[test]
fn a_new_epoch_computes_again_and_keeps_the_answer() {
    let (mut session, _) = begun(request(70, 5));
    session.handle(token(64, 0)).unwrap();
    session.handle(token(70, 8)).unwrap();
    let outputs = session.handle(RequesterInput::Begin { epoch: 2 }).unwrap();
    assert_eq!(sent(&outputs), [(0, 64), (64, 71)]);
    assert_eq!(session.handle(token(64, 0)), Err(RequesterError::Stale));
    let frame =
        |position, token| RequesterInput::Token(TokenFrame { session: SESSION, epoch: 2, position, token });
    session.handle(frame(64, 0)).unwrap();
    let outputs = session.handle(frame(71, 9)).unwrap();
    assert_eq!(outputs[0], RequesterOutput::Computed { positions: 70 + 71 });
    assert_eq!(session.answer(), [8, 9]);
}

/// Runs a request through stages with everything encoded on its way, paying
/// what the requester says was computed; gives the answer.
fn run_chain(stages: usize, request: SessionRequest, unvouched: u64) -> Vec<u32> {
    let mut chain: Vec<_> = (0..stages)
        .map(|index| {
            let fake = Fake { tail: index + 1 == stages, position: 0 };
            (StageSession::new(settings(unvouched)).unwrap(), fake)
        })
        .collect();
    let (mut requester, mut outputs) = begun(request);
    while requester.finished().is_none() {
        let mut messages: Vec<(usize, StageMessage)> = Vec::new();
        for output in outputs.drain(..) {
            match output {
                RequesterOutput::Send(frame) => messages.push((0, StageMessage::Frame(frame))),
                RequesterOutput::Computed { positions } => {
                    messages.extend((0..stages).map(|at| (at, StageMessage::Vouched { positions })))
                }
                RequesterOutput::Token { .. } | RequesterOutput::Finished(_) => {}
            }
        }
        let mut tokens = Vec::new();
        while !messages.is_empty() {
            let (at, message) = messages.remove(0);
            let (session, fake) = &mut chain[at];
            for event in session.handle(fake, message).unwrap() {
                match event {
                    StageEvent::Forward(frame) => {
                        let frame = StageFrame::decode(&frame.encode()).unwrap();
                        messages.push((at + 1, StageMessage::Frame(frame)));
                    }
                    StageEvent::Token(token) => {
                        tokens.push(TokenFrame::decode(&token.encode()).unwrap());
                    }
                    StageEvent::Waiting { .. } => {}
                }
            }
        }
        assert!(!tokens.is_empty(), "the chain fell silent");
        for token in tokens {
            if requester.finished().is_none() {
                outputs.extend(requester.handle(RequesterInput::Token(token)).unwrap());
            }
        }
    }
    requester.answer().to_vec()
}

#[test]
fn chains_of_any_length_and_any_payment_limit_give_one_answer() {
    let expected = run_chain(1, request(300, 20), u64::MAX);
    assert_eq!(expected.len(), 20);
    for stages in 1..=4 {
        for unvouched in [0, 1, 64, 1_000] {
            assert_eq!(run_chain(stages, request(300, 20), unvouched), expected);
        }
    }
}
