//! Providers of values that renew themselves, where that takes more than a look-up.

pub mod credentials;
