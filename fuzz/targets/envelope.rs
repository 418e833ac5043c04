//! See `envelope` in parsers.rs.

#![no_main]

#[path = "../parsers.rs"]
#[allow(dead_code, reason = "each target uses its own parser")]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    parsers::envelope(bytes);
});
