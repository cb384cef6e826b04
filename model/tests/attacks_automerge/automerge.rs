//! What Automerge does with a change that nobody judged: version 0.12, without
//! its debug assertions. A later version that does better moves an expectation
//! in `attacks_automerge.rs`, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::transaction::Transactable as _;
use automerge::{Automerge, Change, ROOT, ReadDoc as _, ScalarValue, Value};

/// What comes of applying a change to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It is refused, and the document is as before.
    Refused,
    /// It is taken, and nothing is wrong with the document.
    None,
    /// It is taken, and becomes a value of so many bytes.
    Inflated(usize),
    /// It is taken, and nothing can be written after it.
    LastWord,
    /// It is taken, and the document saves to something that does not load.
    Unloadable,
    /// The program stops.
    Panic,
}

/// Applies a change to a document and goes on with that, as a program would.
pub(crate) fn harm(document: &[u8], change: &[u8]) -> Harm {
    quietly(|| apply(document, change)).unwrap_or(Harm::Panic)
}

fn apply(document: &[u8], bytes: &[u8]) -> Harm {
    let mut document = Automerge::load(document).expect("an honest document");
    let Ok(change) = Change::try_from(bytes) else { return Harm::Refused };
    if document.apply_changes([change]).is_err() {
        return Harm::Refused;
    }
    if !loads_again(&document) {
        return Harm::Unloadable;
    }
    let largest = document.values(ROOT).map(|value| len(&value.0)).max().unwrap_or(0);
    if largest > bytes.len() {
        return Harm::Inflated(largest);
    }
    let later = quietly(|| {
        let written = document.transact(|transaction| transaction.put(ROOT, "later", 1));
        written.is_ok() && loads_again(&document)
    });
    if later == Some(true) { Harm::None } else { Harm::LastWord }
}

fn len(value: &Value<'_>) -> usize {
    match value {
        Value::Scalar(scalar) => match scalar.as_ref() {
            ScalarValue::Bytes(bytes) => bytes.len(),
            _ => 0,
        },
        Value::Object(_) => 0,
    }
}

fn loads_again(document: &Automerge) -> bool {
    let again = quietly(|| Automerge::load(&document.save()).map(|again| again.get_heads()));
    again.is_some_and(|heads| heads.ok() == Some(document.get_heads()))
}

/// Runs what may panic; `None` where it did.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
