//! The control plane: everything that is not serving a request. It loads, checks and numbers
//! configurations, hands them to the workers, and replies to operators.
//!
//! A module uses modules of lower layers only, which `tests/architecture.rs` holds.
//!
//! | layer | modules |
//! |---|---|
//! | 9 | `control` |
//! | 8 | `scrapes` |
//! | 7 | `admin`, `sd_notify` |
//! | 6 | `certificates`, `prepare`, `reload`, `report` |
//! | 5 | `learning` |
//! | 4 | `bucket_check`, `providers` |
//! | 3 | `credential_check`, `history`, `key_sets`, `resolver`, `signals`, `watcher` |
//! | 2 | `noted_files`, `services` |
//! | 1 | `compile`, `drain`, `files`, `fingerprints`, `http_client`, `jobs`, `live`, `tls`, `workers` |
//! | 0 | `backoff`, `patterns` |

pub mod admin;
pub mod backoff;
pub mod bucket_check;
pub mod certificates;
pub mod compile;
pub mod control;
pub mod credential_check;
pub mod drain;
pub mod files;
pub mod fingerprints;
pub mod history;
pub mod http_client;
pub mod jobs;
pub mod key_sets;
pub mod learning;
pub mod live;
pub mod noted_files;
pub mod patterns;
pub mod prepare;
pub mod providers;
pub mod reload;
pub mod report;
pub mod resolver;
pub mod scrapes;
pub mod sd_notify;
pub mod services;
pub mod signals;
pub mod tls;
pub mod watcher;
pub mod workers;
