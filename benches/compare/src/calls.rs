//! Decides how a gateway is asked for single answers, and how long each takes: evidence, lists, proofs, checks, tables. Reads of an
//! answer only what the next question needs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tonic::Request;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::city::City;

/// A connection to a gateway as one of its systems or people.
pub struct Calls {
    runtime: Runtime,
    channel: Channel,
}

/// One answer, and how long it took.
pub struct Answered<A> {
    pub answer: A,
    pub took: Duration,
}

/// How long the gateway may take for one answer, beyond which the curve has bent enough.
const PATIENCE: Duration = Duration::from_secs(120);

impl Calls {
    /// Connects as `systems/NAME` or `ops/NAME`. A connection that is not used is closed by the gateway: connect for each series.
    pub fn connect(city: &City, who: &str) -> Result<Calls> {
        let certs = city.folder.join("certs").join(&city.code);
        let config = client(&certs, who)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = city.endpoint.clone();
        let connect = tower::service_fn(move |_| {
            let (connector, endpoint) = (TlsConnector::from(config.clone()), endpoint.clone());
            async move {
                let tcp = TcpStream::connect(&endpoint).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").expect("a name");
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
            }
        });
        let address = format!("https://{}", city.endpoint).parse::<Endpoint>()?.http2_adaptive_window(true);
        let channel = runtime.block_on(address.connect_with_connector(connect))?;
        Ok(Calls { runtime, channel })
    }

    /// One unary call.
    fn call<Q, A>(&self, path: &'static str, question: Q) -> Result<Answered<A>>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut request = Request::new(question);
        request.set_timeout(PATIENCE);
        self.runtime.block_on(async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(64 << 20);
            grpc.ready().await?;
            let begun = Instant::now();
            let answer = grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default()).await;
            let took = begun.elapsed();
            let answer = answer.map_err(|status| anyhow!("{path}: {status}"))?.into_inner();
            Ok(Answered { answer, took })
        })
    }

    /// One page of the newest messages to a city; to any city where it is empty.
    pub fn list(&self, to_city: &str, size: u32) -> Result<Answered<Vec<Summary>>> {
        let filter = Filter { to_city: to_city.to_owned() };
        let asked = ListRequest { filter: Some(filter), size };
        let told = self.call::<_, ListAnswer>("/tongban.exchange.v1.ExchangeService/ListMessages", asked)?;
        Ok(Answered { answer: told.answer.messages, took: told.took })
    }

    /// The receipts of a message of the caller's own city: the size of the log of the last one.
    pub fn evidence(&self, id: &str) -> Result<Answered<u64>> {
        let asked = EvidenceRequest { message_id: id.to_owned() };
        let told = self.call::<_, EvidenceAnswer>("/tongban.evidence.v1.EvidenceService/GetMessageEvidence", asked)?;
        let checkpoint = told.answer.receipts.last().map(|receipt| receipt.checkpoint.as_str());
        let size = checkpoint.and_then(|note| note.lines().nth(1)?.parse().ok());
        Ok(Answered { answer: size.with_context(|| format!("{id} has no receipt"))?, took: told.took })
    }

    /// The proof that the log of one size grew out of that of another: how many hashes.
    pub fn consistency(&self, old_size: u64, new_size: u64) -> Result<Answered<usize>> {
        let asked = ConsistencyRequest { old_size, new_size };
        let told =
            self.call::<_, ConsistencyAnswer>("/tongban.evidence.v1.EvidenceService/GetConsistencyProof", asked)?;
        ensure!(!told.answer.hashes.is_empty(), "a proof from {old_size} to {new_size} without a hash");
        Ok(Answered { answer: told.answer.hashes.len(), took: told.took })
    }

    /// All examinations that a gateway makes of itself: how many findings.
    pub fn checks(&self) -> Result<Answered<usize>> {
        let told = self.call::<_, ChecksAnswer>("/tongban.admin.v1.AdminService/RunChecks", Empty {})?;
        Ok(Answered { answer: told.answer.findings.len(), took: told.took })
    }

    /// The etag of the routing tables in force; only where they are few.
    pub fn tables(&self) -> Result<String> {
        Ok(self.call::<_, Tables>("/tongban.routing.v1.RoutingService/GetTables", Empty {})?.answer.etag)
    }

    /// Puts tables in force beside those of other owners: the new etag.
    pub fn publish(&self, etag: &str, tables: Vec<String>) -> Result<Answered<String>> {
        let asked = PublishRequest { etag: etag.to_owned(), tables };
        let told = self.call::<_, Tables>("/tongban.routing.v1.RoutingService/PublishTables", asked)?;
        Ok(Answered { answer: told.answer.etag, took: told.took })
    }
}

/// Believes the one certificate that lies in the gateway's own folder.
#[derive(Debug)]
struct Pinned {
    gateway: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let other = || rustls::Error::General("another gateway".to_owned());
        (*shown == self.gateway).then(ServerCertVerified::assertion).ok_or_else(other)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn client(certs: &Path, who: &str) -> Result<Arc<ClientConfig>> {
    let chain = |path: String| -> Result<Vec<CertificateDer<'static>>> {
        let path = certs.join(path);
        let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
        read.with_context(|| path.display().to_string())
    };
    let gateway = chain("gateway.pem".to_owned())?.into_iter().next().context("no certificate of the gateway")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { gateway, provider }));
    let key = PrivateKeyDer::from_pem_file(certs.join(format!("{who}.key")))?;
    let mut config = builder.with_client_auth_cert(chain(format!("{who}.pem"))?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

// Of the gateway's messages, the fields that are asked and read here; the numbers are those of its proto files.

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct Filter {
    #[prost(string, tag = "3")]
    to_city: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<Filter>,
    #[prost(uint32, tag = "2")]
    size: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListAnswer {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<Summary>,
}

/// One message in a list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    #[prost(string, tag = "1")]
    pub id: String,
    /// 1 held by the sender's gateway, 2 by the next hop, 3 in the mailbox …
    #[prost(int32, tag = "7")]
    pub state: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EvidenceRequest {
    #[prost(string, tag = "2")]
    message_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EvidenceAnswer {
    #[prost(message, repeated, tag = "1")]
    receipts: Vec<Receipt>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Receipt {
    #[prost(string, tag = "4")]
    checkpoint: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ConsistencyRequest {
    #[prost(uint64, tag = "2")]
    old_size: u64,
    #[prost(uint64, tag = "3")]
    new_size: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ConsistencyAnswer {
    #[prost(bytes = "vec", repeated, tag = "1")]
    hashes: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChecksAnswer {
    #[prost(message, repeated, tag = "1")]
    findings: Vec<Empty>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PublishRequest {
    #[prost(string, tag = "1")]
    etag: String,
    #[prost(string, repeated, tag = "2")]
    tables: Vec<String>,
}

/// A set of tables, and what came of a publication: the etag has one place in both.
#[derive(Clone, PartialEq, prost::Message)]
struct Tables {
    #[prost(string, tag = "2")]
    etag: String,
}
