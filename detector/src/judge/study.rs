//! Where our formulas depart from the study's on purpose, and how a test turns the departures off, so that all the
//! rest can be held against the study's reference number by number.
//!
//! They are: instance luck learned from both arms' instances instead of the baseline's alone, and worth what of
//! their spread is not sampling; Welch's degrees of freedom; a slow kernel beside Bartlett's; a copy of a process
//! that begins with what the first has learned.

/// Whether to do as the study does.
#[cfg(not(test))]
pub(crate) const fn is_followed() -> bool {
    false
}

#[cfg(test)]
pub(crate) fn is_followed() -> bool {
    FOLLOWED.get()
}

#[cfg(test)]
thread_local! {
    static FOLLOWED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// From now on in this test's thread.
#[cfg(test)]
pub(crate) fn follow() {
    FOLLOWED.set(true);
}
