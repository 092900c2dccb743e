//! Exit codes of the commands that answer a question: 0 pass, 1 fail, 3 insufficient, 2 where there is no answer.

use std::process::ExitCode;

pub const PASS: u8 = 0;
/// Wrong use, or a question that cannot be answered.
pub const NO_ANSWER: u8 = 2;

/// Of a verdict by its name.
pub fn code(verdict: &str) -> u8 {
    match verdict {
        "pass" => PASS,
        "fail" => 1,
        _ => 3,
    }
}

/// Ends a command; why there is no answer goes to standard error.
pub fn with(answer: Result<u8, String>) -> ExitCode {
    ExitCode::from(answer.unwrap_or_else(|error| {
        eprintln!("davy: {error}");
        NO_ANSWER
    }))
}
