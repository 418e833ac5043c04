//! Claims of the accept loop when file descriptors run out. Alone in its process, because it lowers the process's
//! limit.

#[path = "support/gate.rs"]
mod gate;
#[path = "support/pki.rs"]
mod pki;

use std::fs::File;
use std::time::Duration;

use gate::{channel, check, share, start};
use pki::{AWAY, Ca, HOME, gateway, trusted};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, interval};
use tongban::tls::accept::Bounds;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_at_the_descriptor_limit_neither_lock_out_nor_spin() {
    let before = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(256), maximum: before.maximum };
    setrlimit(Resource::Nofile, lowered).unwrap();
    assert_eq!(Bounds::default().connections_max, 256 - 64);

    let (home, away) = (Ca::root("home root"), Ca::root("away root"));
    let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away)]);
    let server = start(trust.clone(), home.issue(&gateway(HOME)).own()).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // The last socket exists before the descriptors are gone, and knocks when they are: accepting it fails with EMFILE.
    let last = TcpSocket::new_v4().unwrap();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    silent.push(last.connect(server.address).await.unwrap());
    let (spent, began) = (processor_time(), Instant::now());
    let mut tick = interval(Duration::from_millis(500));
    for _ in 0..3 {
        tick.tick().await;
    }
    let share = (processor_time() - spent).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share <= 0.05, "{:.0} % of a core while nobody can be accepted", share * 100.0);

    files.truncate(files.len() - 20);
    let began = Instant::now();
    check(channel(trust, away.issue(&gateway(AWAY)).own(), HOME, server.address)).await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(6), "{:?}", began.elapsed());
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
