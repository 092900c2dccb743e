//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod smtp;
pub(crate) mod verdicts;
