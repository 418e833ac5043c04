//! A line between two gateways that a test can cut, in one direction or in both: TCP passes through it byte for byte.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A line from `listen` to `target`.
#[derive(Clone)]
pub struct Line {
    /// Nothing comes back from the target.
    mute: Arc<AtomicBool>,
    /// Nothing gets to the target.
    deaf: Arc<AtomicBool>,
    /// Counts up to end all connections; odd: new ones are refused.
    cut: Arc<watch::Sender<u64>>,
    /// Connections that came, refused ones too.
    calls: Arc<AtomicU32>,
}

impl Line {
    pub async fn open(listen: String, target: String) -> Line {
        let listener = TcpListener::bind(&listen).await.unwrap();
        let (cut, calls) = (Arc::new(watch::Sender::new(0)), Arc::default());
        let line = Line { mute: Arc::default(), deaf: Arc::default(), cut, calls };
        let (mute, deaf, cut, calls) = (line.mute.clone(), line.deaf.clone(), line.cut.clone(), line.calls.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                calls.fetch_add(1, Ordering::SeqCst);
                let (target, mute, deaf, mut ended) = (target.clone(), mute.clone(), deaf.clone(), cut.subscribe());
                if *ended.borrow_and_update() % 2 == 1 {
                    continue;
                }
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(near, target, mute, deaf) => {}
                        _ = ended.changed() => {}
                    }
                });
            }
        });
        line
    }

    /// How many connections have come so far.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    /// From now on nothing comes back.
    pub fn mute(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }

    /// From now on nothing gets there.
    pub fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Ends all connections, and refuses new ones.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1 + *count % 2);
    }

    /// All goes through again; connections that were muted are ended.
    pub fn mend(&self) {
        self.mute.store(false, Ordering::SeqCst);
        self.deaf.store(false, Ordering::SeqCst);
        self.cut.send_modify(|count| *count += 2 - *count % 2);
    }
}

async fn pass(near: TcpStream, target: String, mute: Arc<AtomicBool>, deaf: Arc<AtomicBool>) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let there = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = near_in.read(&mut buffer).await {
            if !deaf.load(Ordering::SeqCst) && far_out.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = far_in.read(&mut buffer).await {
            if !mute.load(Ordering::SeqCst) && near_out.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(there, back);
}
