//! Listings that one core makes and sends. Each is held in memory as a whole until its client has
//! it, so their number is bounded, and what a client can do with its share is too.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
    time::Duration,
};

use crate::{data_plane::core::recall::Recall, model::ClientAddress, system::clock::Monotonic};

/// Pages that one core makes at once, counted until the client has them. One takes up to 8 MiB
/// as S3 sends it, and up to 16 MiB as the client gets it, with the room that a buffer grows
/// by: HTML has up to nine bytes for each byte of a key, which is in the link and in its text.
const LISTINGS_MAX: usize = 32;

/// Pages of those for one client, whatever connections it has: one that takes none of them leaves
/// as many to others. More than the 8 that rclone lists at once.
const LISTINGS_OF_CLIENT_MAX: usize = 16;

/// Bytes of a page that a client takes in a second, or else it is too slow: half a megabit, less
/// than a bad mobile connection. A page of common keys then takes some five seconds, the longest
/// one four minutes. Who is slower keeps the page all the same until others need the room.
const TAKEN_BYTES_PER_SECOND: u64 = 65_536;

/// Time that comes on top, for pauses. Less than `client_write`: one that takes nothing for so long
/// loses its page by that, and would ask for the next.
const PAUSES: Duration = Duration::from_secs(5);

/// Length of the part of an IPv6 address that tells customers apart, in bits: a site has several
/// networks of 64 bits (RFC 6177 section 2).
const CUSTOMER_BITS: u32 = 56;

/// The listings that one core makes.
#[derive(Debug, Default)]
pub(crate) struct Listings(RefCell<Vec<Rc<Making>>>);

#[derive(Debug)]
struct Making {
    client: IpAddr,
    /// End of the time that the client has to take it; none before it is sent.
    due: Cell<Option<Monotonic>>,
    recall: Recall,
}

/// The room for one listing.
#[derive(Debug)]
pub(crate) struct ListingRoom<'l> {
    listings: &'l Listings,
    making: Rc<Making>,
}

impl Listings {
    /// Room for a listing for this client. If there is none, the listing whose client has had its
    /// time for longest is recalled, if there is one.
    pub(crate) fn begin(&self, client: ClientAddress, now: Monotonic) -> Option<ListingRoom<'_>> {
        let client = customer(client.ip());
        let mut all = self.0.borrow_mut();
        let of_client = all.iter().filter(|making| making.client == client).count();
        let has_its_share = of_client >= LISTINGS_OF_CLIENT_MAX;
        if has_its_share || all.len() >= LISTINGS_MAX {
            let overdue = all.iter().enumerate().filter_map(|(place, making)| {
                let due = making.due.get().filter(|due| *due <= now)?;
                (!has_its_share || making.client == client).then_some((due, place))
            });
            let (_, place) = overdue.min()?;
            all.remove(place).recall.make();
        }
        let making = Rc::new(Making { client, due: Cell::default(), recall: Recall::default() });
        all.push(Rc::clone(&making));
        Some(ListingRoom { listings: self, making })
    }
}

impl ListingRoom<'_> {
    /// Notes that a page of so many bytes is sent from now on.
    pub(crate) fn begin_to_send(&self, bytes: usize, now: Monotonic) {
        let taken = Duration::from_secs(bytes as u64 / TAKEN_BYTES_PER_SECOND);
        self.making.due.set(Some(now.plus(PAUSES + taken)));
    }

    /// The recall of the page.
    pub(crate) fn recall(&self) -> &Recall {
        &self.making.recall
    }

    /// Leaves the room to others: there is nothing in it any more.
    pub(crate) fn leave(&self) {
        self.listings.0.borrow_mut().retain(|making| !Rc::ptr_eq(making, &self.making));
    }
}

impl Drop for ListingRoom<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The part of an address that tells clients apart.
fn customer(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from(ip.to_bits() & !(u128::MAX >> CUSTOMER_BITS)).into(),
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

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    fn client(ip: &str) -> ClientAddress {
        ClientAddress::new(ip.parse().unwrap(), None)
    }

    fn is_recalled(room: &ListingRoom<'_>) -> bool {
        let recalled = pin!(room.recall().or(ready(())));
        recalled.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(None)
    }

    #[test]
    fn a_client_gets_its_share_and_no_more_whatever_its_address() {
        let listings = Listings::default();
        let begin = |ip: String| listings.begin(client(&ip), at(0));
        let of_one: Vec<_> = (0..20).map_while(|n| begin(format!("2001:db8:0:{n}::1"))).collect();
        assert_eq!(of_one.len(), LISTINGS_OF_CLIENT_MAX);
        let others: Vec<_> = (0..20).map_while(|n| begin(format!("192.0.2.{n}"))).collect();
        assert_eq!(others.len(), LISTINGS_MAX - LISTINGS_OF_CLIENT_MAX);
        others[0].leave();
        assert!(begin("2001:db8::ffff".to_owned()).is_none());
        let other = begin("2001:db8:0:100::".to_owned());
        assert!(other.is_some() && begin("192.0.2.99".to_owned()).is_none());
        drop(of_one);
        assert!(begin("2001:db8::ffff".to_owned()).is_some());
    }

    #[test]
    fn the_one_that_is_overdue_for_longest_makes_room_and_no_other() {
        let listings = Listings::default();
        let begin = |ip: &str, now| listings.begin(client(ip), at(now));
        let first: Vec<_> = (0..16).map(|_| begin("192.0.2.1", 0).unwrap()).collect();
        let second: Vec<_> = (0..16).map(|_| begin("192.0.2.2", 0).unwrap()).collect();
        // Those that S3 has not answered yet have no time to be over.
        assert!(begin("192.0.2.3", 10_000).is_none());
        first[3].begin_to_send(65_536 * 10, at(0));
        second[5].begin_to_send(0, at(1));
        assert!(begin("192.0.2.3", 5).is_none());
        let third = begin("192.0.2.3", 10);
        assert!(third.is_some() && is_recalled(&second[5]) && !is_recalled(&first[3]));
        // One of its own makes room for a client that has its share.
        second[6].begin_to_send(0, at(1));
        second[7].begin_to_send(0, at(0));
        assert!(!is_recalled(&second[7]));
        first[4].begin_to_send(0, at(2));
        let fourth = begin("192.0.2.1", 10);
        assert!(fourth.is_some() && is_recalled(&first[4]) && !is_recalled(&second[7]));
        assert_eq!(listings.0.borrow().len(), LISTINGS_MAX);
    }
}
