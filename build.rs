//! Decides how the protos become code: compiled by protox, so that nobody needs protoc. Writes the descriptor set beside
//! the code; `proto/descriptor.binpb` is the committed base against which changes are judged.

use std::path::PathBuf;

const PROTOS: [&str; 5] = [
    "tongban/exchange/v1/exchange.proto",
    "tongban/evidence/v1/evidence.proto",
    "tongban/directory/v1/directory.proto",
    "tongban/routing/v1/routing.proto",
    "tongban/admin/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    std::fs::write(out.join("descriptor.binpb"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .bytes(".tongban.exchange.v1.Part.inline")
        .bytes(".tongban.exchange.v1.SealedParts.ciphertext")
        .bytes(".tongban.exchange.v1.UploadAttachmentRequest.chunk")
        .bytes(".tongban.exchange.v1.DownloadAttachmentResponse.chunk")
        .compile_fds(descriptors)?;
    Ok(())
}
