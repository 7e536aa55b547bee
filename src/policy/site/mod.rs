//! Rules of one bucket for browsers and websites. Each rule has a file of its own and a field
//! here, which is none where nothing of it is configured.

/// Rules of one bucket for browsers and websites.
#[derive(Debug, Default)]
pub struct Site {}
