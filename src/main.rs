//! `davy`: one binary, a command for each job.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use davy::demo;

#[derive(Debug, Parser)]
#[command(name = "davy", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole story on this machine in about a minute.
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    DemoService(demo::service::DemoServiceArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::DemoService(args) => demo::service::run(args),
    }
}
