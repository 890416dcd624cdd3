//! Compiles `proto/relay.proto` to Rust, in pure Rust: no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    const SCHEMA: &str = "proto/relay.proto";
    println!("cargo::rerun-if-changed={SCHEMA}");
    let schema = protox::compile([SCHEMA], ["proto"])?;
    // `Bytes` keeps a payload inside the buffer of the message that it came in.
    prost_build::Config::new().bytes(["."]).compile_fds(schema)?;
    Ok(())
}
