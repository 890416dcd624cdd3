//! A segment of a log on disk, as damage or somebody else has left it.
#![cfg_attr(fuzzing, no_main)]

use codex_disk_log::{Found, Scanner};
use codex_fuzz::target;

/// What a log's checksums are salted with here.
const SALT: u32 = 7;

target!(|input: &[u8]| {
    let mut scanner = Scanner::new(input, SALT);
    let mut read = 0;
    loop {
        let before = scanner.at();
        match scanner.next().expect("memory can be read") {
            Found::Record(head) => {
                read += u64::from(head.length);
                if let Some(content) = scanner.content(&head).expect("memory can be read") {
                    assert_eq!(content.len() as u64, u64::from(head.length));
                }
            }
            Found::Damaged(bytes) => assert!(bytes > 0 && before + bytes == scanner.at()),
            Found::End(rest) => {
                assert_eq!(before + rest, input.len() as u64);
                break;
            }
        }
        assert!(scanner.at() > before && scanner.at() <= input.len() as u64);
    }
    assert!(read <= input.len() as u64);
});
