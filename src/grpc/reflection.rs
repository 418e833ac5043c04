//! Decides what a gateway tells of its own services to tools that ask (gRPC server reflection, versions 1 and 1 alpha): what
//! the published protos say, to whoever has proved who they are. Never tells anything of this gateway in particular.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::peer;
use crate::limits::REFLECTIONS_MAX;
use crate::reason::Reason;
use crate::wire::pb::reflection::v1::server_reflection_request::MessageRequest as Question;
use crate::wire::pb::reflection::v1::server_reflection_response::MessageResponse as Answer;
use crate::wire::pb::reflection::{v1, v1alpha};
use crate::wire::pb::{DESCRIPTORS, reflection};
use crate::wire::status::{Refused, to_status};

/// The door of reflection.
#[derive(Clone)]
pub struct Reflection {
    known: Arc<Known>,
    stop: CancellationToken,
}

/// What the descriptors say.
#[derive(Default)]
struct Known {
    /// Files by their names: each encoded, and the names of those it imports.
    files: BTreeMap<String, (Vec<u8>, Vec<String>)>,
    /// The file that declares each service, method and type.
    symbols: BTreeMap<String, String>,
    services: BTreeSet<String>,
}

impl Reflection {
    /// The door, which closes with `stop`.
    pub fn new(stop: CancellationToken) -> Reflection {
        Reflection { known: Arc::new(Known::of(&[DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET])), stop }
    }

    /// Answers one question after the other, so many at most.
    fn answers<T>(&self, request: Request<Streaming<v1::ServerReflectionRequest>>) -> Result<Response<T>, Status>
    where
        T: From<Answers>,
    {
        peer(&request)?;
        let known = self.known.clone();
        let questions = request.into_inner().take_until(self.stop.clone().cancelled_owned()).enumerate();
        let answers = questions.map(move |(count, question)| match question? {
            _ if count >= REFLECTIONS_MAX => {
                Err(to_status(&Refused::new(Reason::Busy).with_detail("ask on a new stream")))
            }
            question => Ok(known.answer(question)),
        });
        Ok(Response::new(T::from(Box::pin(answers))))
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::ServerReflectionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl reflection::v1::server_reflection_server::ServerReflection for Reflection {
    type ServerReflectionInfoStream = Answers;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1::ServerReflectionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        self.answers(request)
    }
}

#[tonic::async_trait]
impl v1alpha::server_reflection_server::ServerReflection for Reflection {
    type ServerReflectionInfoStream = Answers;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1::ServerReflectionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        self.answers(request)
    }
}

impl Known {
    fn of(sets: &[&[u8]]) -> Known {
        let mut known = Known::default();
        // What was built in decodes: a test asks for every service.
        let sets = sets.iter().filter_map(|set| FileDescriptorSet::decode(*set).ok());
        for file in sets.flat_map(|set| set.file) {
            known.add(&file);
        }
        known
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let mut symbols = vec![];
        for service in &file.service {
            let name = named(file.package(), service.name());
            symbols.extend(service.method.iter().map(|method| named(&name, method.name())));
            symbols.push(name.clone());
            self.services.insert(name);
        }
        symbols.extend(file.enum_type.iter().map(|one| named(file.package(), one.name())));
        file.message_type.iter().for_each(|one| types(file.package(), one, &mut symbols));
        self.symbols.extend(symbols.into_iter().map(|symbol| (symbol, file.name().to_owned())));
        self.files.insert(file.name().to_owned(), (file.encode_to_vec(), file.dependency.clone()));
    }

    fn answer(&self, question: v1::ServerReflectionRequest) -> v1::ServerReflectionResponse {
        let answer = match &question.message_request {
            Some(Question::FileByFilename(name)) => self.file(name),
            Some(Question::FileContainingSymbol(symbol)) => {
                let symbol = symbol.strip_prefix('.').unwrap_or(symbol);
                self.symbols.get(symbol).and_then(|name| self.file(name))
            }
            Some(Question::AllExtensionNumbersOfType(name)) if self.symbols.contains_key(name) => {
                let (base_type_name, extension_number) = (name.clone(), vec![]);
                Some(Answer::AllExtensionNumbersResponse(v1::ExtensionNumberResponse {
                    base_type_name,
                    extension_number,
                }))
            }
            // Our protos extend nothing.
            Some(Question::AllExtensionNumbersOfType(_) | Question::FileContainingExtension(_)) => None,
            Some(Question::ListServices(_)) => {
                let service = self.services.iter().map(|name| v1::ServiceResponse { name: name.clone() }).collect();
                Some(Answer::ListServicesResponse(v1::ListServiceResponse { service }))
            }
            None => Some(failure(Code::InvalidArgument, "nothing is asked")),
        };
        let answer = answer.unwrap_or_else(|| failure(Code::NotFound, "not known here"));
        let (valid_host, original_request) = (question.host.clone(), Some(question));
        v1::ServerReflectionResponse { valid_host, original_request, message_response: Some(answer) }
    }

    /// A file, and all that it imports.
    fn file(&self, name: &str) -> Option<Answer> {
        let (mut wanted, mut seen, mut files) = (vec![name], BTreeSet::new(), vec![]);
        self.files.get(name)?;
        while let Some(name) = wanted.pop() {
            if let Some((file, imports)) = self.files.get(name).filter(|_| seen.insert(name)) {
                files.push(file.clone());
                wanted.extend(imports.iter().map(String::as_str));
            }
        }
        Some(Answer::FileDescriptorResponse(v1::FileDescriptorResponse { file_descriptor_proto: files }))
    }
}

fn named(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn types(scope: &str, message: &DescriptorProto, symbols: &mut Vec<String>) {
    let name = named(scope, message.name());
    symbols.extend(message.enum_type.iter().map(|one| named(&name, one.name())));
    message.nested_type.iter().for_each(|nested| types(&name, nested, symbols));
    symbols.push(name);
}

fn failure(code: Code, words: &str) -> Answer {
    Answer::ErrorResponse(v1::ErrorResponse { error_code: code as i32, error_message: words.to_owned() })
}
