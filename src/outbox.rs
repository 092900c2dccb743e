//! `davy outbox`: messages that wait, arrived or were given up, and sending the latter again.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use davy_api::wire::{Message, Resent};
use serde_json::json;

use crate::exit;
use crate::running::{At, Order, Running, ask};

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Messages of one state, newest first.
    List(ListArgs),
    /// Send messages again that were given up, each under the id that it has.
    Resend(ResendArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[arg(long, default_value = "dead")]
    state: State,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Dead,
    Pending,
    Delivered,
}

#[derive(Debug, Args)]
pub struct ResendArgs {
    /// Ids of messages, as `davy outbox list` shows them.
    #[arg(required_unless_present_any = ["receiver", "all"])]
    ids: Vec<String>,
    /// All that were given up for this receiver.
    #[arg(long, conflicts_with_all = ["ids", "all"])]
    receiver: Option<String>,
    /// All that were given up.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    at: At,
}

pub fn run(what: &OutboxCommand) -> ExitCode {
    ask(async {
        match what {
            OutboxCommand::List(args) => list(args).await,
            OutboxCommand::Resend(args) => resend(args).await,
        }
    })
}

async fn list(args: &ListArgs) -> Result<u8, String> {
    let state = args.state.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    let messages: Vec<Message> = Running::at(&args.at)?.get(&["outbox"], &[("state", &state)]).await?;
    for m in &messages {
        println!("{}  {}  {}  {}", m.id, m.created_at, m.receiver, m.about);
        if !m.last_error.is_empty() {
            println!("    after {} attempts: {}", m.attempts, m.last_error);
        }
    }
    println!("{} messages are {state}", messages.len());
    Ok(exit::PASS)
}

async fn resend(args: &ResendArgs) -> Result<u8, String> {
    let body = json!({"ids": args.ids, "receiver": args.receiver, "all": args.all,
                      "actor": args.order.actor, "reason": args.order.reason});
    let resent: Resent = Running::at(&args.at)?.post(&["outbox", "resend"], &body).await?;
    resent.ids.iter().for_each(|id| println!("{id}"));
    println!("{} messages are sent again", resent.ids.len());
    Ok(exit::PASS)
}
