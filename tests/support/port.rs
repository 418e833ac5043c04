//! Finds ports for gateways of a test.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Below those that the system gives to connections: such a port, free now, could be a connection's before it is a gateway's.
const PORTS: Range<u64> = 10_000..32_000;

/// An address of this machine that is free now. No two are alike: they are counted, from a place that is this process's own.
pub fn free_address() -> SocketAddr {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut first = DefaultHasher::new();
    (std::process::id(), module_path!()).hash(&mut first);
    let first = first.finish() >> 1;
    let count = PORTS.end - PORTS.start;
    let mut addresses = (0..count).map(|_| {
        let place = (first + COUNT.fetch_add(1, Ordering::Relaxed)) % count;
        SocketAddr::from((Ipv4Addr::LOCALHOST, (PORTS.start + place) as u16))
    });
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}
