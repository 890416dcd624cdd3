//! Handles (10.10).

use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::{Fixture, limits, shown};
use crate::filesystem::handles::Reservation;
use crate::filesystem::{Handles, ToOpen, empty};
use crate::protocol::encode::Empty;
use crate::protocol::filesystem::{OpenMode, OpenParams, OpenResult, ReadBlockParams, WriteBlockParams};
use crate::protocol::{Block, RpcError};

fn open(handles: &Handles, params: &OpenParams) -> Result<OpenResult, RpcError> {
    settle(handles.reserve(params)?, params)
}

fn settle(reservation: Reservation, params: &OpenParams) -> Result<OpenResult, RpcError> {
    let (file, _) = ToOpen::from(params).open()?;
    if params.mode == OpenMode::Replace {
        empty(&file)?;
    }
    Ok(reservation.settle(file))
}

fn read_block(handles: &Handles, params: &ReadBlockParams) -> Result<Block, RpcError> {
    handles.claim(&params.handle_id)?.read_block(params)
}

fn write_block(handles: &Handles, params: &WriteBlockParams) -> Result<Empty, RpcError> {
    handles.claim(&params.handle_id)?.write_block(params)
}

/// Makes one request by its short name.
fn ask(at: &Fixture, handles: &Handles, method: &str, params: Value) -> Value {
    match method {
        "open" => shown(open(handles, &at.params(params))),
        "read" => shown(read_block(handles, &at.params(params))),
        "write" => shown(write_block(handles, &at.params(params))),
        _ => shown(Ok(handles.close(&at.params(params)))),
    }
}

#[test]
fn handles_answer_as_the_spec_says() {
    let at = Fixture::new();
    std::fs::write(at.path("blk"), (0..100).collect::<Vec<u8>>()).unwrap();
    let handles = Handles::new(&limits());
    let block = |offset: u64, len: u64| json!({"handleId": "h1", "offset": offset, "len": len});
    let steps = [
        ("open", json!({"handleId": "h1", "path": "blk"}), json!({"handleId": "h1"})),
        ("open", json!({"handleId": "h1", "path": "blk"}), json!(-32600)),
        ("open", json!({"handleId": "", "path": "blk"}), json!({"handleId": ""})),
        ("open", json!({"handleId": "x".repeat(33), "path": "blk"}), json!(-32600)),
        ("open", json!({"handleId": "x".repeat(32), "path": "blk"}), json!({"handleId": "x".repeat(32)})),
        ("open", json!({"handleId": "h2", "path": "zz"}), json!(-32004)),
        ("open", json!({"handleId": "h2", "path": "sub"}), json!(-32600)),
        ("open", json!({"handleId": "h2", "path": "fifo"}), json!(-32600)),
        ("open", json!({"handleId": "h2", "path": "/dev/null"}), json!(-32600)),
        ("open", json!({"handleId": "h2", "path": "link", "mode": "read"}), json!({"handleId": "h2"})),
        ("read", block(0, 10), json!({"chunk": "AAECAwQFBgcICQ==", "eof": false})),
        ("read", block(90, 10), json!({"chunk": "WltcXV5fYGFiYw==", "eof": false})),
        ("read", block(90, 11), json!({"chunk": "WltcXV5fYGFiYw==", "eof": true})),
        ("read", block(100, 5), json!({"chunk": "", "eof": true})),
        ("read", block(1000, 5), json!({"chunk": "", "eof": true})),
        ("read", block(0, 0), json!(-32600)),
        ("read", block(0, 1_048_577), json!(-32600)),
        ("read", block(98, 1_048_576), json!({"chunk": "YmM=", "eof": true})),
        ("read", json!({"handleId": "nope", "offset": 0, "len": 5}), json!(-32004)),
        ("read", block(u64::MAX, 5), json!(-32600)),
        ("read", block(0, 5), json!(-32004)),
        ("close", json!({"handleId": "h1"}), json!({})),
        ("close", json!({"handleId": "h1"}), json!({})),
        ("open", json!({"handleId": "h1", "path": "blk"}), json!({"handleId": "h1"})),
        ("write", json!({"handleId": "h1", "offset": 0, "chunk": "eA=="}), json!(-32603)),
        ("open", json!({"handleId": "w1", "path": "new", "mode": "replace"}), json!({"handleId": "w1"})),
        ("open", json!({"handleId": "w2", "path": "no/x", "mode": "replace"}), json!(-32004)),
        ("open", json!({"handleId": "w2", "path": "sub", "mode": "replace"}), json!(-32603)),
        ("open", json!({"handleId": "w2", "path": "fifo", "mode": "replace"}), json!(-32600)),
        ("open", json!({"handleId": "w2", "path": "link", "mode": "replace"}), json!({"handleId": "w2"})),
        ("write", json!({"handleId": "w1", "offset": 10, "chunk": "Z2Fw"}), json!({})),
        ("write", json!({"handleId": "w1", "offset": 0, "chunk": "aGVsbG8="}), json!({})),
        ("write", json!({"handleId": "w1", "offset": 0, "chunk": "Sg=="}), json!({})),
        ("write", json!({"handleId": "w1", "offset": 0, "chunk": ""}), json!(-32600)),
        ("write", json!({"handleId": "none", "offset": 0, "chunk": "eA=="}), json!(-32004)),
        ("write", json!({"handleId": "w1", "offset": u64::MAX, "chunk": "eA=="}), json!(-32600)),
        ("read", json!({"handleId": "w1", "offset": 0, "len": 5}), json!(-32603)),
    ];
    for (method, params, wanted) in steps {
        assert_eq!(ask(&at, &handles, method, params.clone()), wanted, "{method} {params}");
    }
    assert_eq!(std::fs::read(at.path("new")).unwrap(), b"Jello\0\0\0\0\0gap");
    assert_eq!(std::fs::read(at.path("a.txt")).unwrap(), b"", "replace truncates through a symlink");
}

#[test]
fn a_block_of_the_largest_size_passes_and_one_byte_more_is_refused() {
    let at = Fixture::new();
    let handles = Handles::new(&limits());
    open(&handles, &at.params(json!({"handleId": "w", "path": "big", "mode": "replace"}))).unwrap();
    for (bytes, fine) in [(1 << 20, true), ((1 << 20) + 1, false)] {
        let mut params: crate::protocol::filesystem::WriteBlockParams =
            at.params(json!({"handleId": "w", "offset": 0, "chunk": ""}));
        params.chunk.0 = vec![7; bytes];
        assert_eq!(write_block(&handles, &params).is_ok(), fine);
    }
    assert_eq!(std::fs::metadata(at.path("big")).unwrap().len(), 1 << 20);
}

#[test]
fn at_most_128_handles_are_open_and_a_failed_open_takes_no_place() {
    let at = Fixture::new();
    let handles = Handles::new(&limits());
    let open = |id: usize, path: &str| {
        shown(open(&handles, &at.params(json!({"handleId": format!("m{id}"), "path": path}))))
    };
    for id in 0..128 {
        assert_eq!(open(1000, "missing"), json!(-32004));
        assert_eq!(open(id, "a.txt"), json!({"handleId": format!("m{id}")}));
    }
    assert_eq!(open(128, "a.txt"), json!(-32600));
    handles.close(&at.params(json!({"handleId": "m5"})));
    assert_eq!(open(128, "a.txt"), json!({"handleId": "m128"}));
}

#[test]
fn a_block_waits_for_its_handle_that_is_still_being_opened() {
    let at = Fixture::new();
    let handles = Arc::new(Handles::new(&limits()));
    let open = at.params(json!({"handleId": "h", "path": "a.txt"}));
    let reservation = handles.reserve(&open).unwrap();
    assert!(handles.reserve(&open).is_err(), "the id is taken");
    let claim = handles.claim("h").unwrap();
    let params = at.params(json!({"handleId": "h", "offset": 0, "len": 5}));
    let reader = thread::spawn(move || claim.read_block(&params));
    settle(reservation, &open).unwrap();
    assert_eq!(reader.join().unwrap().unwrap().chunk.0, b"hello");
}

#[test]
fn a_block_behind_a_failed_open_and_one_behind_an_abandoned_open_are_not_found() {
    let at = Fixture::new();
    let handles = Handles::new(&limits());
    let read = at.params(json!({"handleId": "h", "offset": 0, "len": 5}));
    let open = at.params(json!({"handleId": "h", "path": "missing"}));
    let reservation = handles.reserve(&open).unwrap();
    let claim = handles.claim("h").unwrap();
    assert!(settle(reservation, &open).is_err());
    assert_eq!(claim.read_block(&read).unwrap_err().code.0, -32004);
    drop(handles.reserve(&open).unwrap());
    assert_eq!(handles.len(), 0);
}

#[test]
fn closing_while_opening_frees_the_id_and_does_not_touch_its_next_owner() {
    let at = Fixture::new();
    let handles = Handles::new(&limits());
    let open = at.params(json!({"handleId": "h", "path": "a.txt"}));
    let first = handles.reserve(&open).unwrap();
    handles.close(&at.params(json!({"handleId": "h"})));
    let second = handles.reserve(&open).unwrap();
    settle(second, &open).unwrap();
    drop(first);
    assert_eq!(handles.len(), 1);
    assert!(read_block(&handles, &at.params(json!({"handleId": "h", "offset": 0, "len": 5}))).is_ok());
}

#[test]
fn a_block_that_finds_no_room_says_what_the_file_holds_of_it() {
    let at = Fixture::new();
    let handles = Handles::new(&limits());
    open(&handles, &at.params(json!({"handleId": "w", "path": "/dev/full", "mode": "replace"}))).unwrap();
    let params: crate::protocol::filesystem::WriteBlockParams =
        at.params(json!({"handleId": "w", "offset": 0, "chunk": "YWJj"}));
    let refused = write_block(&handles, &params).unwrap_err();
    assert_eq!(refused.code.0, -32603);
    let words = "No space left on device (os error 28): the file holds the first 0 of this block's 3 bytes";
    assert_eq!(refused.message, words);
}

#[test]
fn threads_write_their_own_blocks_of_one_file() {
    let at = Arc::new(Fixture::new());
    let handles = Arc::new(Handles::new(&limits()));
    open(&handles, &at.params(json!({"handleId": "w", "path": "many", "mode": "replace"}))).unwrap();
    let threads: Vec<_> = (0..8u8)
        .map(|number| {
            let (at, handles) = (Arc::clone(&at), Arc::clone(&handles));
            thread::spawn(move || {
                let mut params: crate::protocol::filesystem::WriteBlockParams =
                    at.params(json!({"handleId": "w", "offset": u64::from(number) * 1000, "chunk": ""}));
                params.chunk.0 = vec![number; 1000];
                write_block(&handles, &params).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let data = std::fs::read(at.path("many")).unwrap();
    assert!(data.len() == 8000 && data.iter().enumerate().all(|(at, byte)| at / 1000 == usize::from(*byte)));
}
