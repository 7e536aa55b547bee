//! The control plane: everything that is not serving a request. It loads, checks and numbers
//! configurations, hands them to the workers, and answers operators.

pub mod admin;
pub mod canary;
pub mod config;
pub mod control;
pub mod drain;
pub mod fleet;
pub mod history;
pub mod live;
pub mod prepare;
pub mod reload;
pub mod report;
pub mod resolver;
pub mod service;
pub mod signals;
pub mod watcher;
