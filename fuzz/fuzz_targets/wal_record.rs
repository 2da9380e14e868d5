#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| concoord_fuzz::wal_record::run(data));
