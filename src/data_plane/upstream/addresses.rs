//! The addresses of one endpoint, as one core uses them: which comes first for a new connection,
//! and which have failed or gone.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use crate::system::clock::Monotonic;

/// Time for which an address that failed is tried after all others. Doubles with each failure.
const AVOIDED_MIN: Duration = Duration::from_secs(5);

/// The same at most: a server that was away for long is found again in this time.
const AVOIDED_MAX: Duration = Duration::from_secs(80);

/// An address and its record.
#[derive(Debug)]
pub(crate) struct Address {
    at: SocketAddr,
    /// Connections that are open.
    open: Cell<usize>,
    /// Failures since something last worked.
    failures: Cell<u32>,
    failed: Cell<Monotonic>,
    /// Time since which the resolver no longer gives it.
    gone: Cell<Option<Monotonic>>,
}

impl Address {
    fn new(at: SocketAddr) -> Self {
        Self {
            at,
            open: Cell::new(0),
            failures: Cell::new(0),
            failed: Cell::new(Monotonic(0)),
            gone: Cell::new(None),
        }
    }

    /// The address itself.
    pub(crate) fn socket_address(&self) -> SocketAddr {
        self.at
    }

    /// Time since which the resolver no longer gives it, if that is so.
    pub(crate) fn gone_since(&self) -> Option<Monotonic> {
        self.gone.get()
    }

    /// Notes that a connection could not be established, or that one gave no response.
    pub(crate) fn fails(&self, now: Monotonic) {
        self.failures.set(self.failures.get().saturating_add(1));
        self.failed.set(now);
    }

    /// Notes that a connection gave a response.
    pub(crate) fn works(&self) {
        self.failures.set(0);
    }

    /// Notes that it is being tried. If it failed before, other connections avoid it meanwhile.
    pub(crate) fn is_tried(&self, now: Monotonic) {
        self.failed.set(now);
    }

    fn is_avoided(&self, now: Monotonic) -> bool {
        let Some(doublings) = self.failures.get().checked_sub(1) else { return false };
        let avoided = AVOIDED_MIN.saturating_mul(1 << doublings.min(16)).min(AVOIDED_MAX);
        now < self.failed.get().plus(avoided)
    }
}

/// Counts a connection to an address for as long as it lives.
#[derive(Debug)]
pub(crate) struct ToAddress(Rc<Address>);

impl ToAddress {
    pub(crate) fn new(address: &Rc<Address>) -> Self {
        address.open.set(address.open.get() + 1);
        Self(Rc::clone(address))
    }
}

impl std::ops::Deref for ToAddress {
    type Target = Address;

    fn deref(&self) -> &Address {
        &self.0
    }
}

impl Drop for ToAddress {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// All addresses of one endpoint.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// Addresses that the resolver gives, and others that still have connections.
    all: RefCell<Vec<Rc<Address>>>,
    /// Index among equals at which the next new connection begins.
    turn: Cell<usize>,
}

impl Addresses {
    /// None yet. `turn` should differ from core to core, or all of them begin with the same
    /// address.
    pub(crate) fn new(turn: usize) -> Self {
        Self { all: RefCell::default(), turn: Cell::new(turn) }
    }

    /// Takes over what the resolver gives now.
    pub(crate) fn replace(&self, given: &[SocketAddr], now: Monotonic) {
        let mut all = self.all.borrow_mut();
        for address in all.iter() {
            if given.contains(&address.at) {
                address.gone.set(None);
            } else if address.gone.get().is_none() {
                address.gone.set(Some(now));
            }
        }
        all.retain(|address| address.gone.get().is_none() || address.open.get() > 0);
        for at in given {
            if !all.iter().any(|known| known.at == *at) {
                all.push(Rc::new(Address::new(*at)));
            }
        }
    }

    /// The addresses in the order in which a new connection should try them: those that failed
    /// lately last, then by the number of connections that are open, and in turn among equals.
    pub(crate) fn in_order(&self, now: Monotonic) -> Vec<Rc<Address>> {
        let all = self.all.borrow();
        let mut order: Vec<_> =
            all.iter().filter(|address| address.gone.get().is_none()).cloned().collect();
        if order.is_empty() {
            return order;
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let begin = turn % order.len();
        order.rotate_left(begin);
        order.sort_by_key(|address| (address.is_avoided(now), address.open.get()));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(1_000_000_000);

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn three(turn: usize) -> Addresses {
        let addresses = Addresses::new(turn);
        addresses.replace(&[at(1), at(2), at(3)], NOW);
        addresses
    }

    fn first(addresses: &Addresses, now: Monotonic) -> Rc<Address> {
        addresses.in_order(now).swap_remove(0)
    }

    #[test]
    fn connections_that_end_at_once_go_round() {
        let addresses = three(2);
        let seen: Vec<_> = (0..6).map(|_| first(&addresses, NOW).at).collect();
        assert_eq!(seen, [at(3), at(1), at(2), at(3), at(1), at(2)]);
    }

    #[test]
    fn a_new_connection_goes_where_the_fewest_are_open() {
        let addresses = three(0);
        let mut held: Vec<_> = (0..30).map(|_| ToAddress::new(&first(&addresses, NOW))).collect();
        for last in 1..=3 {
            assert_eq!(held.iter().filter(|to| to.at == at(last)).count(), 10);
        }
        held.retain(|to| to.at != at(2));
        for _ in 0..10 {
            held.push(ToAddress::new(&first(&addresses, NOW)));
        }
        assert_eq!(held.iter().filter(|to| to.at == at(2)).count(), 10);
    }

    #[test]
    fn one_that_failed_is_tried_last_and_for_longer_each_time() {
        let addresses = three(0);
        let mut now = NOW;
        for avoided in [5, 10, 20, 40, 80, 80] {
            let failed = addresses.in_order(now).into_iter().find(|known| known.at == at(1));
            failed.unwrap().fails(now);
            for after in [Duration::ZERO, Duration::from_millis(avoided * 1_000 - 1)] {
                for _ in 0..3 {
                    assert_eq!(addresses.in_order(now.plus(after))[2].at, at(1), "{avoided}");
                }
            }
            now = now.plus(Duration::from_secs(avoided));
            assert!((0..3).any(|_| first(&addresses, now).at == at(1)), "{avoided}");
        }
    }

    #[test]
    fn one_connection_tries_an_address_that_failed_and_the_others_wait_for_it() {
        let addresses = three(0);
        let failed = first(&addresses, NOW);
        failed.fails(NOW);
        let later = NOW.plus(AVOIDED_MIN);
        failed.is_tried(later);
        assert!((0..3).all(|_| addresses.in_order(later)[2].at == failed.at));
        failed.works();
        assert!((0..3).any(|_| first(&addresses, later).at == failed.at));
    }

    #[test]
    fn what_the_resolver_no_longer_gives_is_not_tried_and_what_it_gives_again_is_the_same() {
        let addresses = three(0);
        let held = ToAddress::new(&addresses.in_order(NOW)[0]);
        addresses.replace(&[at(2), at(4)], NOW.plus(Duration::from_secs(1)));
        assert_eq!(held.gone_since(), Some(NOW.plus(Duration::from_secs(1))));
        let mut given: Vec<_> = addresses.in_order(NOW).iter().map(|known| known.at).collect();
        given.sort();
        assert_eq!(given, [at(2), at(4)]);
        // What had no connection is forgotten.
        assert_eq!(addresses.all.borrow().len(), 3);
        addresses.replace(&[at(1)], NOW.plus(Duration::from_secs(2)));
        assert_eq!(held.gone_since(), None);
        assert_eq!(first(&addresses, NOW).open.get(), 1);
    }
}
