//! Decides how the protos become code: compiled by protox, so that nobody needs protoc. Writes the descriptor set beside
//! the code; `proto/descriptor.binpb` is the committed base against which changes are judged.

use std::path::PathBuf;

const PROTOS: [&str; 8] = [
    "tongban/exchange/v1/exchange.proto",
    "tongban/evidence/v1/evidence.proto",
    "tongban/directory/v1/directory.proto",
    "tongban/routing/v1/routing.proto",
    "tongban/admin/v1/admin.proto",
    "tongban/admin/v1/members.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
];

/// Where the messages of reflection, version 1, stand in the crate.
const REFLECTION: &str = "crate::wire::pb::grpc::reflection::v1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    std::fs::write(out.join("descriptor.binpb"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        // Both versions of reflection have the same messages.
        .extern_path(
            ".grpc.reflection.v1alpha.ServerReflectionRequest",
            format!("{REFLECTION}::ServerReflectionRequest"),
        )
        .extern_path(
            ".grpc.reflection.v1alpha.ServerReflectionResponse",
            format!("{REFLECTION}::ServerReflectionResponse"),
        )
        .bytes(".tongban.evidence.v1.Receipt.inclusion_path")
        .bytes(".tongban.exchange.v1.Part.inline")
        .bytes(".tongban.exchange.v1.SealedParts.ciphertext")
        .bytes(".tongban.exchange.v1.UploadAttachmentRequest.chunk")
        .bytes(".tongban.exchange.v1.DownloadAttachmentResponse.chunk")
        .compile_fds(descriptors)?;
    Ok(())
}
