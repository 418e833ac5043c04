//! Shows that a tool which knows nothing of a gateway learns from it, by both versions of reflection, what it needs to call
//! every service; and that answers are bounded.

use std::collections::BTreeSet;

use crate::alliance::{Alliance, Client, reason};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tokio_stream::StreamExt;
use tongban::limits::{ENCODE_BYTES_MAX, REFLECTIONS_MAX};
use tongban::wire::pb::reflection::v1::server_reflection_client::ServerReflectionClient;
use tongban::wire::pb::reflection::v1::server_reflection_request::MessageRequest as Question;
use tongban::wire::pb::reflection::v1::server_reflection_response::MessageResponse as Answer;
use tongban::wire::pb::reflection::v1::{ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse};
use tongban::wire::pb::reflection::v1alpha::server_reflection_client::ServerReflectionClient as AlphaClient;
use tonic::{Code, Status};

const A: &str = "450200";

#[derive(Clone, Copy, Debug)]
enum Version {
    One,
    Alpha,
}

/// Asks these questions on one stream.
async fn ask(client: &Client, version: Version, questions: Vec<Question>) -> Result<Vec<Answer>, Status> {
    let request = |question| ServerReflectionRequest { host: "h".to_owned(), message_request: Some(question) };
    let requests: Vec<_> = questions.into_iter().map(request).collect();
    let asked = tokio_stream::iter(requests.clone());
    let channel = client.channel.clone();
    let stream = match version {
        Version::One => {
            let mut client = ServerReflectionClient::new(channel).max_decoding_message_size(ENCODE_BYTES_MAX);
            client.server_reflection_info(asked).await?.into_inner()
        }
        Version::Alpha => {
            let mut client = AlphaClient::new(channel).max_decoding_message_size(ENCODE_BYTES_MAX);
            client.server_reflection_info(asked).await?.into_inner()
        }
    };
    let answers: Vec<ServerReflectionResponse> = stream.collect::<Result<_, _>>().await?;
    assert_eq!(answers.len(), requests.len(), "one answer each");
    let told = answers.into_iter().zip(requests).map(|(answer, request)| {
        assert_eq!((answer.valid_host.as_str(), answer.original_request), ("h", Some(request)));
        answer.message_response.unwrap()
    });
    Ok(told.collect())
}

async fn one(client: &Client, version: Version, question: Question) -> Answer {
    ask(client, version, vec![question]).await.unwrap().remove(0)
}

fn files(answer: Answer) -> Vec<FileDescriptorProto> {
    let Answer::FileDescriptorResponse(files) = answer else { panic!("files: {answer:?}") };
    files.file_descriptor_proto.iter().map(|file| FileDescriptorProto::decode(&file[..]).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_learns_every_service_with_all_that_its_file_imports() {
    let alliance = Alliance::new(&[(A, &["window"])]);
    let _gateway = alliance.start(A).await;
    let client = alliance.client(A, "window");
    let sets = [tongban::wire::pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let all: Vec<_> = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file).collect();
    let services = all
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| format!("{}.{}", file.package(), service.name())));
    let services: BTreeSet<String> = services.collect();
    assert!(services.len() >= 8 && services.contains("grpc.health.v1.Health"));
    for version in [Version::One, Version::Alpha] {
        let Answer::ListServicesResponse(listed) = one(&client, version, Question::ListServices("x".to_owned())).await
        else {
            panic!("services")
        };
        assert_eq!(listed.service.into_iter().map(|one| one.name).collect::<BTreeSet<_>>(), services);
        for service in &services {
            let told = files(one(&client, version, Question::FileContainingSymbol(service.clone())).await);
            let names: BTreeSet<_> = told.iter().map(|file| file.name().to_owned()).collect();
            assert_eq!(names.len(), told.len(), "each file once");
            assert!(told.iter().flat_map(|file| &file.dependency).all(|import| names.contains(import)), "{service}");
            let (package, name) = service.rsplit_once('.').unwrap();
            assert!(told[0].package() == package && told[0].service.iter().any(|one| one.name() == name));
            assert!(all.contains(&told[0]), "as it was built");
        }
        for symbol in [
            "tongban.exchange.v1.ExchangeService.Submit",
            "tongban.exchange.v1.Envelope",
            "tongban.evidence.v1.State",
            ".tongban.admin.v1.Lane",
        ] {
            assert!(!files(one(&client, version, Question::FileContainingSymbol(symbol.to_owned())).await).is_empty());
        }
        let by_name =
            files(one(&client, version, Question::FileByFilename("google/protobuf/timestamp.proto".to_owned())).await);
        assert_eq!(by_name[0].package(), "google.protobuf");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_said_so_and_no_stream_asks_for_ever() {
    let alliance = Alliance::new(&[(A, &["window"])]);
    let gateway = alliance.start(A).await;
    let client = alliance.client(A, "window");
    let text = str::to_owned;
    let envelope = || text("tongban.exchange.v1.Envelope");
    for version in [Version::One, Version::Alpha] {
        let unknown = [
            Question::FileByFilename(text("../../etc/passwd")),
            Question::FileContainingSymbol(text("tongban.exchange.v1")),
            Question::FileContainingSymbol(String::new()),
            Question::FileContainingExtension(ExtensionRequest { containing_type: envelope(), extension_number: 1 }),
            Question::AllExtensionNumbersOfType(text("tongban.None")),
        ];
        let count = unknown.len();
        let answers = ask(&client, version, unknown.to_vec()).await.unwrap();
        let not_found = |answer: &Answer| matches!(answer, Answer::ErrorResponse(error) if error.error_code == Code::NotFound as i32);
        assert_eq!(answers.iter().filter(|answer| not_found(answer)).count(), count, "{answers:?}");
        let extensions = one(&client, version, Question::AllExtensionNumbersOfType(envelope())).await;
        assert!(matches!(extensions, Answer::AllExtensionNumbersResponse(none) if none.extension_number.is_empty()));
        let many = |count| vec![Question::ListServices(String::new()); count];
        assert!(ask(&client, version, many(REFLECTIONS_MAX)).await.is_ok());
        assert_eq!(reason(&ask(&client, version, many(REFLECTIONS_MAX + 1)).await.unwrap_err()), "BUSY");
    }
    gateway.stop().await;
}
