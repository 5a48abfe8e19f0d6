//! The commands: one file each, from checked configuration to output.

mod calibration;
mod demo;
mod doctor;
mod generate;
mod models;
mod pull;
mod serve;

use crate::{
    args::Command,
    config::{EngineConfig, GenerateConfig, ServeConfig},
};
use std::io;

/// Runs a command to its end.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => serve::run(ServeConfig::try_from(args)?),
        Command::Generate(args) => generate::run(&GenerateConfig::try_from(args)?),
        Command::Pull(args) => pull::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Doctor(args) => {
            doctor::run(&EngineConfig::single(args.engine)?, args.calibrate, args.json)
        }
        Command::Demo(args) => demo::run(&EngineConfig::single(args.engine)?),
    }
}

/// The reader of our standard output went away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
