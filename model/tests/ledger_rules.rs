//! The ledger's rules under attack, and against a second implementation.

#[path = "ledger_rules/attacks.rs"]
mod attacks;
#[path = "ledger_rules/fake.rs"]
mod fake;
#[path = "ledger_rules/histories.rs"]
mod histories;
#[path = "ledger_rules/reference.rs"]
mod reference;
#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;
