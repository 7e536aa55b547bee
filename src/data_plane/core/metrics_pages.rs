//! Metrics pages on their way to clients.
//!
//! Anybody may ask for the page, and need not take it: what a client holds must neither add up nor
//! keep the page from others. So it is pages that are bounded, not those who read them. While
//! [`PAGES_FRESH`] pages are under way, those who ask share the newest one for [`SHARED_FOR`]. The
//! page that has been under way for longest is recalled when there are more than [`PAGES_MAX`].
//! Nobody is refused for the sake of a slow client, and nobody has less time for a page than
//! [`PAGES_MAX`] and [`SHARED_FOR`] give, whoever else asks how often.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use crate::{
    data_plane::core::recall::Recall, handoff::message::CallReply, system::clock::Monotonic,
};

/// Pages that one core has under way at once. With a thousand buckets one takes some megabytes.
const PAGES_MAX: usize = 16;

/// Pages that may be under way before those who ask share one: more than a few scrapers that read
/// at once. Their pages are newer than their requests.
const PAGES_FRESH: usize = 4;

/// Time for which a page is shared. A client that takes some megabytes slowly has 24 s for them in
/// the worst case, because each of the twelve pages behind [`PAGES_FRESH`] comes so much later than
/// the one before it. Prometheus gives up after 10 s (`scrape_timeout`), and does not ask as often
/// as every two seconds, so the age of such a page does not matter to it.
const SHARED_FOR: Duration = Duration::from_secs(2);

/// One page that clients read.
#[derive(Debug)]
pub(crate) struct MetricsPage {
    pub(crate) reply: CallReply,
    pub(crate) recall: Recall,
    came: Monotonic,
}

/// The pages of one core that clients read, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct MetricsPages(RefCell<VecDeque<Weak<MetricsPage>>>);

impl MetricsPages {
    /// The page that a request gets without asking for one, if it is to share.
    pub(crate) fn to_share(&self, now: Monotonic) -> Option<Rc<MetricsPage>> {
        let mut pages = self.0.borrow_mut();
        pages.retain(|page| page.strong_count() > 0);
        let newest = pages.back().filter(|_| pages.len() >= PAGES_FRESH)?.upgrade()?;
        (u128::from(now.since(newest.came)) < SHARED_FOR.as_nanos()).then_some(newest)
    }

    /// The page that a request gets which has asked for one: this one, or one to share by now.
    pub(crate) fn add(&self, reply: CallReply, now: Monotonic) -> Rc<MetricsPage> {
        if let Some(shared) = self.to_share(now) {
            return shared;
        }
        let mut pages = self.0.borrow_mut();
        let mut sent = pages.iter().filter_map(Weak::upgrade);
        if let Some(same) = sent.find(|page| Arc::ptr_eq(&page.reply.body, &reply.body)) {
            return same;
        }
        drop(sent);
        let page = Rc::new(MetricsPage { reply, recall: Recall::default(), came: now });
        pages.push_back(Rc::downgrade(&page));
        if pages.len() > PAGES_MAX
            && let Some(oldest) = pages.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.recall.make();
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn reply() -> CallReply {
        CallReply { status: 200, content_type: "", code: "", body: vec![b'x'].into() }
    }

    fn is_recalled(page: &MetricsPage) -> bool {
        let polled = pin!(page.recall.or(ready(()))).poll(&mut Context::from_waker(Waker::noop()));
        polled == Poll::Ready(None)
    }

    #[test]
    fn a_request_has_a_page_of_its_own_while_few_are_read() {
        let pages = MetricsPages::default();
        for second in 0..100 {
            let now = Monotonic(second * SECOND_NS);
            assert!(pages.to_share(now).is_none());
            let body = reply();
            let page = pages.add(body.clone(), now);
            assert!(Arc::ptr_eq(&page.reply.body, &body.body));
            assert!(Rc::ptr_eq(&page, &pages.add(body, now)), "those who waited together");
        }
    }

    #[test]
    fn readers_who_never_end_hold_few_pages_and_each_has_its_time() {
        let pages = MetricsPages::default();
        let mut read = Vec::new();
        let mut recalled = 0;
        // A request each tenth of a second, for ten minutes.
        for tenth in 0..6_000 {
            let now = Monotonic(tenth * SECOND_NS / 10);
            let page = pages.to_share(now).unwrap_or_else(|| pages.add(reply(), now));
            assert!(now.since(page.came) <= 2 * SECOND_NS, "an old page");
            read.push(page);
            read.retain(|page| {
                let is_over = is_recalled(page);
                recalled += u64::from(is_over);
                assert!(!is_over || now.since(page.came) >= 24 * SECOND_NS, "not its time");
                !is_over
            });
            let mut held: Vec<_> = read.iter().map(Rc::as_ptr).collect();
            held.dedup();
            assert!(held.len() <= PAGES_MAX, "{} pages", held.len());
        }
        assert!(recalled > 5_000, "{recalled} recalled");
    }

    #[test]
    fn those_who_asked_before_it_was_time_to_share_do_not_bring_more_pages() {
        let pages = MetricsPages::default();
        let now = Monotonic(0);
        let read: Vec<_> = (0..PAGES_MAX * 2).map(|_| pages.add(reply(), now)).collect();
        assert!(Rc::ptr_eq(&read[PAGES_FRESH - 1], &read[PAGES_MAX * 2 - 1]));
        assert!(read.iter().all(|page| !is_recalled(page)));
    }
}
