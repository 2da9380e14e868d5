#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| concoord_fuzz::hello::run(data));
