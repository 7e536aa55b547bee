//! The newest credentials of each source, as one core hands them to its requests.

use std::{cell::RefCell, collections::HashMap, ops::Deref, rc::Rc, sync::Arc};

use crate::handoff::{
    credentials::{LiveCredentials, SourceId},
    live::LiveTable,
};

/// Credentials that requests of one core count references to: those to the table's own are counted
/// by all cores in one place.
#[derive(Debug)]
pub(crate) struct CoreCredentials(Arc<LiveCredentials>);

impl Deref for CoreCredentials {
    type Target = LiveCredentials;

    fn deref(&self) -> &LiveCredentials {
        &self.0
    }
}

/// The newest credentials of each source.
#[derive(Debug, Default)]
pub(crate) struct NewestCredentials(RefCell<HashMap<SourceId, Rc<CoreCredentials>>>);

impl NewestCredentials {
    pub(crate) fn of_table(table: &LiveTable) -> Self {
        let newest = Self::default();
        newest.renew(table);
        newest
    }

    /// Takes what is new in the table. Requests keep what they began with.
    pub(crate) fn renew(&self, table: &LiveTable) {
        let mut held = self.0.borrow_mut();
        held.retain(|source, _| table.credentials(*source).is_some());
        for (source, newest) in table.all_credentials() {
            match held.get(&source) {
                Some(known) if Arc::ptr_eq(&known.0, newest) => {}
                _ => {
                    held.insert(source, Rc::new(CoreCredentials(Arc::clone(newest))));
                }
            }
        }
    }

    /// The newest credentials of a source.
    pub(crate) fn of(&self, source: SourceId) -> Option<Rc<CoreCredentials>> {
        self.0.borrow().get(&source).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{handoff::credentials::Credentials, model::Secret};

    fn credentials(key: &str) -> Credentials {
        Credentials {
            access_key: key.into(),
            secret_key: Secret::new("secret"),
            session_token: None,
        }
    }

    #[test]
    fn a_request_keeps_the_credentials_that_it_began_with() {
        let (one, two) = (SourceId(1), SourceId(2));
        let mut table = LiveTable::default();
        table.set_credentials(one, credentials("first"), None);
        table.set_credentials(two, credentials("other"), None);
        let newest = NewestCredentials::of_table(&table);
        let (first, other) = (newest.of(one).unwrap(), newest.of(two).unwrap());
        table.set_credentials(one, credentials("second"), None);
        newest.renew(&table);
        assert_eq!(&*first.credentials.access_key, "first");
        assert_eq!(&*newest.of(one).unwrap().credentials.access_key, "second");
        assert_ne!(first.serial, newest.of(one).unwrap().serial);
        assert!(Rc::ptr_eq(&other, &newest.of(two).unwrap()), "what did not change stays");
        table.keep_sources(&[two].into());
        newest.renew(&table);
        assert!(newest.of(one).is_none());
    }
}
