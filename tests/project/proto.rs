//! Decides whether the services still speak to those who compiled the committed base, `proto/descriptor.binpb`: what it
//! holds must be there unchanged; more may be. Never judges style: that is `buf lint`'s affair.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

const BASE: &[u8] = include_bytes!("../../proto/descriptor.binpb");

/// What a peer may rely on, one entry for each thing with a name of its own: its place, and what must stay as it is.
type Contract = BTreeMap<String, String>;

fn contract(set: &FileDescriptorSet) -> Contract {
    let mut contract = Contract::new();
    for file in &set.file {
        let package = file.package();
        file.message_type.iter().for_each(|message| add_message(&mut contract, package, message, file));
        file.enum_type.iter().for_each(|values| add_enum(&mut contract, package, values));
        for service in &file.service {
            for method in &service.method {
                let streams = (method.client_streaming(), method.server_streaming());
                let shape = format!("{} -> {} {streams:?}", method.input_type(), method.output_type());
                contract.insert(format!("method /{package}.{}/{}", service.name(), method.name()), shape);
            }
        }
    }
    contract
}

fn add_message(contract: &mut Contract, scope: &str, message: &DescriptorProto, file: &FileDescriptorProto) {
    let scope = format!("{scope}.{}", message.name());
    contract.insert(format!("message {scope}"), format!("{:?}", file.syntax()));
    for field in &message.field {
        contract.insert(format!("field {scope} {}", field.number()), shape(field, message));
    }
    message.nested_type.iter().for_each(|nested| add_message(contract, &scope, nested, file));
    message.enum_type.iter().for_each(|nested| add_enum(contract, &scope, nested));
}

fn add_enum(contract: &mut Contract, scope: &str, values: &EnumDescriptorProto) {
    let scope = format!("{scope}.{}", values.name());
    for value in &values.value {
        contract.insert(format!("value {scope} {}", value.number()), value.name().to_owned());
    }
}

/// All of a field that is seen on the wire or in JSON, and the oneof that it belongs to.
fn shape(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(index as usize)).map(|oneof| oneof.name());
    let (label, kind) = (field.label(), field.r#type());
    let packed = field.options.as_ref().and_then(|options| options.packed);
    format!(
        "{} {label:?} {kind:?} {} {} oneof {oneof:?} {packed:?}",
        field.name(),
        field.type_name(),
        field.json_name()
    )
}

/// What of the base is gone or changed.
fn broken(base: &FileDescriptorSet, now: &FileDescriptorSet) -> Vec<String> {
    let now = contract(now);
    let judge = |(place, was): (String, String)| match now.get(&place) {
        None => Some(format!("{place}: gone, was {was}")),
        Some(is) if *is != was => Some(format!("{place}: {is}, was {was}")),
        Some(_) => None,
    };
    contract(base).into_iter().filter_map(judge).collect()
}

fn set(bytes: &[u8]) -> FileDescriptorSet {
    FileDescriptorSet::decode(bytes).unwrap()
}

#[test]
fn the_services_keep_what_the_base_promises() {
    let base = set(BASE);
    assert!(contract(&base).len() > 150, "the base is read");
    let broken = broken(&base, &set(tongban::wire::pb::DESCRIPTORS));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

// Bad samples: the base, spoilt in one place each, must be reported; and additions must not.

fn envelope(set: &mut FileDescriptorSet) -> &mut DescriptorProto {
    let messages = set.file.iter_mut().flat_map(|file| &mut file.message_type);
    messages.into_iter().find(|message| message.name() == "Envelope").unwrap()
}

fn case_no(set: &mut FileDescriptorSet) -> &mut FieldDescriptorProto {
    envelope(set).field.iter_mut().find(|field| field.name() == "case_no").unwrap()
}

fn exchange(set: &mut FileDescriptorSet) -> &mut FileDescriptorProto {
    set.file.iter_mut().find(|file| file.package() == "tongban.exchange.v1").unwrap()
}

#[test]
fn reports_what_breaks_a_peer() {
    type Spoil = fn(&mut FileDescriptorSet);
    let spoilt: [(&str, Spoil); 11] = [
        ("a field removed", |set| envelope(set).field.retain(|field| field.name() != "case_no")),
        ("a field's type changed", |set| case_no(set).set_type(prost_types::field_descriptor_proto::Type::Bytes)),
        ("a field renamed", |set| case_no(set).name = Some("case".into())),
        ("a field repeated", |set| case_no(set).set_label(prost_types::field_descriptor_proto::Label::Repeated)),
        ("a field renumbered", |set| case_no(set).number = Some(99)),
        ("a field moved into a oneof", |set| {
            envelope(set).oneof_decl.push(prost_types::OneofDescriptorProto { name: Some("x".into()), options: None });
            case_no(set).oneof_index = Some(0);
        }),
        ("a number reused", |set| {
            let number = case_no(set).number;
            case_no(set).number = Some(98);
            envelope(set).field.iter_mut().find(|field| field.name() == "step").unwrap().number = number;
        }),
        ("a message removed", |set| exchange(set).message_type.retain(|message| message.name() != "Withdrawn")),
        ("an enum value renamed", |set| exchange(set).enum_type[0].value[1].name = Some("MODE_ELSE".into())),
        ("a method removed", |set| exchange(set).service[0].method.truncate(1)),
        ("a method no longer a stream", |set| exchange(set).service[0].method[1].client_streaming = None),
    ];
    for (what, spoil) in spoilt {
        let mut now = set(BASE);
        spoil(&mut now);
        assert!(!broken(&set(BASE), &now).is_empty(), "{what}");
    }
}

#[test]
fn additions_break_nobody() {
    let mut now = set(BASE);
    let added = FieldDescriptorProto { name: Some("more".into()), number: Some(90), ..case_no(&mut now).clone() };
    envelope(&mut now).field.push(added);
    exchange(&mut now).message_type.push(DescriptorProto { name: Some("More".into()), ..Default::default() });
    let method = exchange(&mut now).service[0].method[0].clone();
    exchange(&mut now).service[0]
        .method
        .push(prost_types::MethodDescriptorProto { name: Some("More".into()), ..method });
    assert_eq!(broken(&set(BASE), &now), Vec::<String>::new());
}
