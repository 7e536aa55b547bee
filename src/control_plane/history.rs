//! The last good generations, for looking back and for going back.

use std::{collections::VecDeque, sync::Arc};

use crate::{control_plane::noted_files::Content, model::Generation};

/// Generations kept.
pub const HISTORY_LENGTH: usize = 8;

/// Cause of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The start of the process.
    Start,
    /// SIGHUP.
    Signal,
    /// `POST /admin/reload`.
    Api,
    /// The file changed.
    Watch,
    /// `POST /admin/rollback`.
    Rollback,
}

impl Trigger {
    /// The word in reports and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "sighup",
            Self::Api => "api",
            Self::Watch => "watch",
            Self::Rollback => "rollback",
        }
    }
}

/// One good generation.
#[derive(Clone, Debug)]
pub struct GoodGeneration {
    /// Its number.
    pub generation: Generation,
    /// Time of its adoption, in seconds since the Unix epoch.
    pub unix_seconds: u64,
    /// Its cause.
    pub trigger: Trigger,
    /// Key paths that it changed.
    pub applied: Vec<String>,
    /// Content of its files.
    pub content: Arc<Content>,
}

/// The last [`HISTORY_LENGTH`] good generations, oldest first.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<GoodGeneration>,
}

impl History {
    /// Adds the newest generation, and forgets the oldest one over the length.
    pub fn push(&mut self, entry: GoodGeneration) {
        if self.entries.len() == HISTORY_LENGTH {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The entry of a generation, if it is still kept.
    pub fn get(&self, generation: Generation) -> Option<&GoodGeneration> {
        self.entries.iter().find(|entry| entry.generation == generation)
    }

    /// Newest first.
    pub fn iter(&self) -> impl Iterator<Item = &GoodGeneration> {
        self.entries.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_ones_are_kept() {
        let mut history = History::default();
        for number in 1..=10 {
            history.push(GoodGeneration {
                generation: Generation(number),
                unix_seconds: number,
                trigger: Trigger::Signal,
                applied: Vec::new(),
                content: Arc::default(),
            });
        }
        let kept: Vec<u64> = history.iter().map(|entry| entry.generation.0).collect();
        assert_eq!(kept, [10, 9, 8, 7, 6, 5, 4, 3]);
        assert!(history.get(Generation(2)).is_none());
        assert!(history.get(Generation(3)).is_some());
    }
}
