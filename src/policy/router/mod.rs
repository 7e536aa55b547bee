//! Routing from a host and a canonical path to a bucket.
//!
//! Candidates are the buckets that name the request's host and those that name none. Of these the
//! longest prefix wins, and of equal prefixes that of an exact host, then of a wildcard, then of no
//! host. Each of the three has a table of its own (`prefixes`), and hosts are found by hash. So
//! the cost grows neither with the number of buckets nor with that of hosts, and where no bucket
//! names a host there is one table and one branch.

mod hosts;
mod prefixes;

use hosts::Hosts;
pub use hosts::{HostPattern, Place};
use prefixes::Prefixes;
pub use prefixes::{DuplicatePlace, Routed, validate_path_prefix};

/// The routes of one configuration generation. The default one has none.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// Those of buckets without hosts.
    any_host: Prefixes,
    /// Those of buckets with hosts, if there are any.
    hosts: Option<Box<Hosts>>,
}

impl Router {
    /// Builds the tables from the places of buckets and the caller's number for each bucket.
    ///
    /// # Errors
    /// A place comes a second time.
    pub fn build<'a>(
        places: impl IntoIterator<Item = (Place<'a>, usize)>,
    ) -> Result<Self, DuplicatePlace> {
        let (with_hosts, without): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(place, _)| !place.hosts.is_empty());
        let any_host =
            Prefixes::build(without.into_iter().map(|(place, bucket)| (place.prefix, bucket)))?;
        let hosts =
            if with_hosts.is_empty() { None } else { Some(Box::new(Hosts::build(with_hosts)?)) };
        Ok(Self { any_host, hosts })
    }

    /// The bucket for `canonical_path` at the host, and the key in it. The host is without port.
    pub fn route<'p, 'h>(
        &self,
        host: impl FnOnce() -> &'h [u8],
        canonical_path: &'p [u8],
    ) -> Option<Routed<'p>> {
        match &self.hosts {
            None => self.any_host.route(canonical_path),
            Some(hosts) => self.route_by_host(hosts, host(), canonical_path),
        }
    }

    fn route_by_host<'p>(
        &self,
        hosts: &Hosts,
        host: &[u8],
        canonical_path: &'p [u8],
    ) -> Option<Routed<'p>> {
        let named = hosts.find(host);
        let candidates = [named.exact, named.wildcard, Some(&self.any_host)];
        let routed =
            candidates.into_iter().flatten().filter_map(|table| table.route(canonical_path));
        // The first of those with the longest prefix, which is the one with the shortest key.
        routed.min_by_key(|routed| routed.key.map_or(0, <[u8]>::len))
    }

    /// Returns true if some bucket is served for the host, whatever the path.
    pub fn serves(&self, host: &[u8]) -> bool {
        match &self.hosts {
            None => true,
            Some(hosts) => !self.any_host.is_empty() || hosts.knows(host),
        }
    }

    /// Returns true if the bucket is another one than the name of the TLS handshake leads to for
    /// this path. A name that no bucket names, such as that of a load balancer's target, says
    /// nothing about buckets.
    pub fn is_of_another<'h>(
        &self,
        sni: Option<&str>,
        host: impl FnOnce() -> &'h [u8],
        canonical_path: &[u8],
        bucket: usize,
    ) -> bool {
        let (Some(hosts), Some(sni)) = (&self.hosts, sni) else { return false };
        if sni.as_bytes().eq_ignore_ascii_case(host()) || !hosts.knows(sni.as_bytes()) {
            return false;
        }
        let by_sni = self.route_by_host(hosts, sni.as_bytes(), canonical_path);
        by_sni.is_none_or(|routed| routed.bucket != bucket)
    }
}

#[cfg(test)]
mod tests;
