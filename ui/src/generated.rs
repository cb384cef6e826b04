//! What the Slint compiler made of `ui/app.slint`.
//!
//! Generated code keeps none of our house rules, so they are lifted here and
//! nowhere else.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::todo,
    clippy::unwrap_used
)]

slint::include_modules!();
