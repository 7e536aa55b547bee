//! Lines of the log about an attempt: the same as the report.

use crate::{
    control_plane::{
        history::Trigger,
        report::{Outcome, Report, listed},
    },
    model::Generation,
};

/// Keys and problems named in the log about one attempt; the full list is in the report.
const LOGGED_KEYS_MAX: usize = 50;

pub(super) fn write(report: &Report, trigger: Trigger) {
    let Report { generation: Generation(generation), duration_ms, changed, .. } = report;
    let trigger = trigger.as_str();
    for warning in &report.warnings {
        tracing::warn!(trigger, "{warning}");
    }
    match &report.outcome {
        Outcome::Success | Outcome::WouldSucceed => {
            let named: Vec<&str> =
                report.applied.iter().take(LOGGED_KEYS_MAX).map(String::as_str).collect();
            tracing::info!(
                trigger,
                config_generation = generation,
                changed,
                workers = report.workers,
                duration_ms,
                applied = named.join(", "),
                applied_keys = report.applied.len(),
                "{}",
                report.message()
            );
        }
        Outcome::Refused(problems) => {
            for problem in problems.iter().take(LOGGED_KEYS_MAX) {
                tracing::error!(trigger, "{problem}");
            }
            tracing::error!(
                trigger,
                config_generation = generation,
                problems = problems.len(),
                "{}; the running configuration goes on",
                report.message()
            );
        }
        Outcome::Partial(lagging) => tracing::error!(
            trigger,
            config_generation = generation,
            lagging = listed(lagging),
            duration_ms,
            "{}",
            report.message()
        ),
        _ => tracing::warn!(trigger, config_generation = generation, "{}", report.message()),
    }
}
