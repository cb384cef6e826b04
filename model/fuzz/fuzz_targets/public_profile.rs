//! Feeds the fuzzer's bytes to the target `public_profile` of `targets.rs`.

#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "each target is one of these functions")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = targets::public_profile(bytes);
});
