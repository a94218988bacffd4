#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_bearer::local::check_command_output(data));
