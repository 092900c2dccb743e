//! What may be called: named actuators.

use std::time::Duration;

use secrecy::SecretString;

use crate::release::Level;

/// A named actuator.
#[derive(Debug, Clone)]
pub struct ActionSpec {
    pub name: String,
    pub actuator: ActuatorConfig,
}

impl ActionSpec {
    pub fn level(&self) -> Level {
        self.actuator.level()
    }
}

#[derive(Debug, Clone)]
pub enum ActuatorConfig {
    /// One POST of the rollback body; at most once.
    Webhook { url: SecretString, signing_secret: Option<SecretString>, timeout: Duration },
}

impl ActuatorConfig {
    pub fn level(&self) -> Level {
        match self {
            Self::Webhook { .. } => Level::C,
        }
    }

    /// Whether it can set any share of the requests, or only one version or the other.
    pub fn sets_shares(&self) -> bool {
        match self {
            Self::Webhook { .. } => true,
        }
    }
}
