//! Reports to operators on attempts to change the configuration.

use serde_json::{Map, Value, json};

use crate::{config::Problem, handoff::message::CallReply, model::Generation};

const JSON: &str = "application/json";

/// End of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every worker serves the generation, or nothing had to change.
    Success,
    /// A dry run that would succeed.
    WouldSucceed,
    /// The configuration was refused.
    Refused(Vec<Problem>),
    /// These workers have not adopted it in time.
    Partial(Vec<usize>),
    /// `If-Match` names another generation.
    PreconditionFailed,
    /// There is no such generation to go back to.
    UnknownGeneration,
    /// The process is stopping.
    Stopping,
}

/// The report on one attempt. It names keys, never values.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its end.
    pub outcome: Outcome,
    /// The generation that runs now.
    pub generation: Generation,
    /// Seconds since the Unix epoch.
    pub unix_seconds: u64,
    /// Set if another generation runs now (or would, for a dry run).
    pub changed: bool,
    /// Workers that serve the generation.
    pub workers: usize,
    /// From the trigger to the last acknowledgement, in milliseconds.
    pub duration_ms: f64,
    /// Key paths that changed.
    pub applied: Vec<String>,
    /// Keys that wait for a restart, with running and file value.
    pub restart_required: Vec<String>,
    /// Warnings, as sentences.
    pub warnings: Vec<String>,
}

impl Report {
    /// HTTP status of the reply.
    pub const fn status(&self) -> u16 {
        match self.outcome {
            Outcome::Success | Outcome::WouldSucceed => 200,
            Outcome::Refused(_) => 400,
            Outcome::UnknownGeneration => 404,
            Outcome::PreconditionFailed => 412,
            Outcome::Stopping => 503,
            Outcome::Partial(_) => 504,
        }
    }

    /// `code` of the reply, empty for success.
    pub const fn code(&self) -> &'static str {
        match self.outcome {
            Outcome::Success | Outcome::WouldSucceed => "",
            Outcome::Refused(_) => "configuration_refused",
            Outcome::UnknownGeneration => "unknown_generation",
            Outcome::PreconditionFailed => "precondition_failed",
            Outcome::Stopping => "shutting_down",
            Outcome::Partial(_) => "reload_partial",
        }
    }

    /// The sentence for people.
    pub const fn message(&self) -> &'static str {
        match self.outcome {
            Outcome::Success => "Configuration reloaded successfully",
            Outcome::WouldSucceed => "Configuration is valid; nothing was adopted (dry run)",
            Outcome::Refused(_) => "Configuration reload failed",
            Outcome::UnknownGeneration => "No such generation is kept; see /admin/config/history",
            Outcome::PreconditionFailed => "If-Match does not name the running generation",
            Outcome::Stopping => "The server is shutting down",
            Outcome::Partial(_) => "Not all workers have adopted the configuration in time",
        }
    }

    /// The report as JSON, without a request id.
    pub fn json(&self) -> Map<String, Value> {
        let status = match self.outcome {
            Outcome::Success | Outcome::WouldSucceed => "success",
            Outcome::Partial(_) => "partial",
            _ => "error",
        };
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| {
            body.insert(name.to_owned(), value);
        };
        set("status", json!(status));
        set("message", json!(self.message()));
        if !self.code().is_empty() {
            set("code", json!(self.code()));
        }
        set("config_generation", json!(self.generation.0));
        set("timestamp", json!(self.unix_seconds));
        match &self.outcome {
            Outcome::Refused(problems) => {
                set("error", json!(problems.first().map(|problem| &problem.message)));
                set("errors", problems.iter().map(problem).collect());
                set("duration_ms", json!(self.duration_ms));
            }
            Outcome::Success | Outcome::WouldSucceed | Outcome::Partial(_) => {
                set("changed", json!(self.changed));
                set("workers", json!(self.workers));
                set("duration_ms", json!(self.duration_ms));
                set("applied", json!(self.applied));
                set("restart_required", json!(self.restart_required));
                if let Outcome::Partial(lagging) = &self.outcome {
                    set("lagging_workers", json!(lagging));
                }
                if self.outcome == Outcome::WouldSucceed {
                    set("dry_run", json!(true));
                }
            }
            _ => {}
        }
        if !self.warnings.is_empty() {
            set("warnings", json!(self.warnings));
        }
        body
    }

    /// The reply to a client.
    pub fn reply(&self, request_id: &str) -> CallReply {
        reply(self.status(), self.code(), self.json().into(), request_id)
    }
}

/// A JSON reply that carries the request's id.
pub fn reply(status: u16, code: &'static str, mut body: Value, request_id: &str) -> CallReply {
    body["request_id"] = json!(request_id);
    let mut body = body.to_string().into_bytes();
    body.push(b'\n');
    CallReply { status, content_type: JSON, code, body: body.into() }
}

/// A problem with what is known of its place.
pub fn problem(problem: &Problem) -> Value {
    let mut object = json!({ "message": problem.message });
    if let Some(file) = &problem.file {
        object["file"] = json!(**file);
    }
    if let Some(line) = problem.line {
        object["line"] = json!(line);
    }
    if !problem.path.is_empty() {
        object["key"] = json!(problem.path);
    }
    object
}

/// Numbers of workers, for people.
pub fn listed<'w>(workers: impl IntoIterator<Item = &'w usize>) -> String {
    let numbers: Vec<_> = workers.into_iter().map(ToString::to_string).collect();
    numbers.join(", ")
}
