//! What a verdict may lead to.

use std::time::Duration;

/// What a release's verdict may lead to.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub on_fail: OnFail,
    /// How long a canary is watched before a pass closes the release.
    pub watch: Duration,
    /// How long after the call the rollback may take to show.
    pub verify_timeout: Duration,
    /// Name of the actuator that rolls back; required by `OnFail::Rollback`.
    pub rollback: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            on_fail: OnFail::Record,
            watch: Duration::from_secs(3600),
            verify_timeout: Duration::from_secs(120),
            rollback: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnFail {
    /// Write the verdict down and alert.
    Record,
    /// The same, and stop any promotion until a human resumes.
    Hold,
    /// The same, and call the rollback actuator.
    Rollback,
}

impl OnFail {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
        }
    }
}
