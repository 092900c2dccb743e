//! Commands in words, for the story of one seed.

use davy_alerting::release::Command;

pub(crate) fn show(command: &Command) -> String {
    match command {
        Command::Audit(a) => format!("writes {} {}: {} ({})", a.actor, a.action, a.outcome, a.reason),
        Command::Raise(alert) => format!("raises {}", alert.name()),
        Command::Resolve { .. } => "resolves an alert".to_owned(),
        Command::Read(_) => "reads".to_owned(),
        Command::Call(request) => format!("calls {} with key {}", request.desired.as_str(), request.key),
    }
}
