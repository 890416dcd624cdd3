//! `refuse ERRNO CALL[,CALL...] PROGRAM [ARGUMENT...]`: runs a program on a kernel that answers calls with an error, as an
//! older one, or a container's filter, does.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [errno, calls, program, rest @ ..] = &arguments[..] else { return ExitCode::from(2) };
    let calls = calls.split(',').map(|call| call.parse().expect("the number of a call")).collect::<Vec<_>>();
    codex_children::testing::refuse_calls(&calls, errno.parse().expect("an errno"));
    let error = Command::new(program).args(rest).exec();
    eprintln!("{program}: {error}");
    ExitCode::FAILURE
}
