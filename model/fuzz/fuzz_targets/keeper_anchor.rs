//! Feeds the fuzzer's bytes to the target `keeper_anchor` of `targets.rs`.

#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "each target is one of these functions")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = targets::keeper_anchor(bytes);
});
