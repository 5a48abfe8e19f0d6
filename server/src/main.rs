//! The `cento` binary: parses the command line and hands it to a command.

use cento::{Args, commands};
use clap::Parser as _;
use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(args.log.filter())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    match commands::run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        // `cento models | head` closes our standard output: not a failure of ours.
        Err(error) if commands::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
