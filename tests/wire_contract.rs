//! The compiled descriptors of `apache.rocketmq.v2` say exactly what `tests/data/wire.json` says, in both directions.
//!
//! Both sides are turned into one table of facts (a key that names a thing, a text that says everything about it that
//! travels on the wire), and the tables are compared. Comments, declaration order and JSON names are not facts.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::Value;

const PACKAGE: &str = "apache.rocketmq.v2";
const SHOWN_DIFFERENCES: usize = 20;

type Facts = BTreeMap<String, String>;

/// How many of each kind of thing, in the order of `counts` in wire.json.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    services: u64,
    rpcs: u64,
    messages: u64,
    enums: u64,
    fields: u64,
    enum_values: u64,
}

impl Counts {
    fn of(facts: &Facts) -> Self {
        let starting = |prefix: &str| facts.keys().filter(|key| key.starts_with(prefix)).count() as u64;
        Self {
            services: starting("service "),
            rpcs: starting("rpc "),
            messages: starting("message "),
            enums: starting("enum "),
            fields: starting("field "),
            enum_values: starting("value "),
        }
    }
}

fn compiled() -> FileDescriptorSet {
    FileDescriptorSet::decode(bolide::wire::DESCRIPTOR_SET).expect("the build wrote an encoded descriptor set")
}

fn contract() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/wire.json");
    let text = std::fs::read_to_string(path).expect("tests/data/wire.json is part of the checkout");
    serde_json::from_str(&text).expect("wire.json is JSON")
}

// ---- facts of the contract -------------------------------------------------------------------------------------------

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("wire.json: no text {key:?} in {value}"))
}

fn number(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("wire.json: no number {key:?} in {value}"))
}

fn entries<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("wire.json: no list {key:?} in {value}"))
}

fn named<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value[key].as_object().unwrap_or_else(|| panic!("wire.json: no object {key:?}")).iter()
}

fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or_else(|| panic!("wire.json: no flag {key:?} in {value}"))
}

fn set_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("{:?}", names.collect::<BTreeSet<_>>())
}

fn facts_of_contract(contract: &Value) -> Facts {
    let mut facts = Facts::new();
    for file in entries(contract, "files") {
        let imports = set_of(entries(file, "imports").iter().map(|import| import.as_str().expect("a text")));
        let syntax = text(contract, "syntax");
        facts.insert(format!("file {}", text(file, "name")), format!("syntax {syntax}, imports {imports}"));
    }
    for (name, service) in named(contract, "services") {
        facts.insert(format!("service {name}"), format!("in {}", text(service, "file")));
        for rpc in entries(service, "rpcs") {
            let fact = format!(
                "path {}, request {}, response {}, streaming {} {}",
                text(rpc, "path"),
                text(rpc, "request"),
                text(rpc, "response"),
                flag(rpc, "client_streaming"),
                flag(rpc, "server_streaming"),
            );
            facts.insert(format!("rpc {name}/{}", text(rpc, "name")), fact);
        }
    }
    for (name, message) in named(contract, "messages") {
        let oneofs = set_of(entries(message, "oneofs").iter().map(|oneof| oneof.as_str().expect("a text")));
        facts.insert(format!("message {name}"), format!("in {}, oneofs {oneofs}", text(message, "file")));
        for field in entries(message, "fields") {
            let kind = match text(field, "label") {
                "map" => format!(
                    "map<{}, {}> of {}",
                    text(field, "key_type"),
                    text(field, "value_type"),
                    text(field, "value_kind")
                ),
                label => format!("{label} {} {}", text(field, "kind"), text(field, "type")),
            };
            let oneof = field.get("oneof").and_then(Value::as_str).unwrap_or("-");
            facts.insert(
                format!("field {name}#{}", number(field, "number")),
                format!("{}: {kind}, oneof {oneof}", text(field, "name")),
            );
        }
    }
    for (name, enumeration) in named(contract, "enums") {
        facts.insert(format!("enum {name}"), format!("in {}", text(enumeration, "file")));
        for value in entries(enumeration, "values") {
            facts.insert(format!("value {name}#{}", number(value, "number")), text(value, "name").to_string());
        }
    }
    facts
}

// ---- facts of the descriptors ----------------------------------------------------------------------------------------

fn facts_of_descriptors(set: &FileDescriptorSet) -> Facts {
    let mut facts = Facts::new();
    for file in set.file.iter().filter(|file| file.package() == PACKAGE) {
        let imports = set_of(file.dependency.iter().map(String::as_str));
        insert(&mut facts, format!("file {}", file.name()), format!("syntax {}, imports {imports}", file.syntax()));
        for service in &file.service {
            insert(&mut facts, format!("service {}", service.name()), format!("in {}", file.name()));
            for method in &service.method {
                let fact = format!(
                    "path /{PACKAGE}.{}/{}, request {}, response {}, streaming {} {}",
                    service.name(),
                    method.name(),
                    relative(method.input_type()),
                    relative(method.output_type()),
                    method.client_streaming(),
                    method.server_streaming(),
                );
                insert(&mut facts, format!("rpc {}/{}", service.name(), method.name()), fact);
            }
        }
        for message in &file.message_type {
            add_message(&mut facts, file.name(), "", message);
        }
        for enumeration in &file.enum_type {
            add_enum(&mut facts, file.name(), "", enumeration);
        }
    }
    facts
}

/// Two things with one key would hide each other.
fn insert(facts: &mut Facts, key: String, fact: String) {
    if let Some(before) = facts.insert(key.clone(), fact) {
        facts.insert(format!("{key} (declared twice)"), before);
    }
}

fn relative(type_name: &str) -> &str {
    type_name.strip_prefix(".apache.rocketmq.v2.").unwrap_or(type_name)
}

fn add_message(facts: &mut Facts, file: &str, outer: &str, message: &DescriptorProto) {
    let name = format!("{outer}{}", message.name());
    let synthetic: BTreeSet<i32> =
        message.field.iter().filter(|field| field.proto3_optional()).filter_map(|field| field.oneof_index).collect();
    let oneofs = message
        .oneof_decl
        .iter()
        .enumerate()
        .filter(|(index, _)| !synthetic.contains(&(*index as i32)))
        .map(|(_, oneof)| oneof.name());
    insert(facts, format!("message {name}"), format!("in {file}, oneofs {}", set_of(oneofs)));
    for field in &message.field {
        insert(facts, format!("field {name}#{}", field.number()), field_fact(message, field));
    }
    let inner = format!("{name}.");
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        add_message(facts, file, &inner, nested);
    }
    for enumeration in &message.enum_type {
        add_enum(facts, file, &inner, enumeration);
    }
}

fn add_enum(facts: &mut Facts, file: &str, outer: &str, enumeration: &EnumDescriptorProto) {
    let name = format!("{outer}{}", enumeration.name());
    insert(facts, format!("enum {name}"), format!("in {file}"));
    for value in &enumeration.value {
        insert(facts, format!("value {name}#{}", value.number()), value.name().to_string());
    }
}

fn field_fact(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let real_oneof = match (field.oneof_index, field.proto3_optional()) {
        (Some(index), false) => Some(message.oneof_decl[index as usize].name()),
        _ => None,
    };
    let kind = if let Some(entry) = map_entry(message, field) {
        let (_, key) = kind_and_type(&entry.field[0]);
        let (value_kind, value) = kind_and_type(&entry.field[1]);
        format!("map<{key}, {value}> of {value_kind}")
    } else {
        let label = if field.label() == Label::Repeated {
            "repeated"
        } else if field.proto3_optional() {
            "optional"
        } else if real_oneof.is_some() {
            "oneof"
        } else {
            "singular"
        };
        let (kind, type_name) = kind_and_type(field);
        format!("{label} {kind} {type_name}")
    };
    format!("{}: {kind}, oneof {}", field.name(), real_oneof.unwrap_or("-"))
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn map_entry<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a DescriptorProto> {
    let entry = field.type_name().rsplit('.').next()?;
    message.nested_type.iter().find(|nested| is_map_entry(nested) && nested.name() == entry)
}

fn kind_and_type(field: &FieldDescriptorProto) -> (&'static str, String) {
    let full_name = || field.type_name().trim_start_matches('.').to_string();
    let scalar = |name: &str| ("scalar", name.to_string());
    match field.r#type() {
        Type::Message | Type::Group => ("message", full_name()),
        Type::Enum => ("enum", full_name()),
        Type::Double => scalar("double"),
        Type::Float => scalar("float"),
        Type::Int64 => scalar("int64"),
        Type::Uint64 => scalar("uint64"),
        Type::Int32 => scalar("int32"),
        Type::Fixed64 => scalar("fixed64"),
        Type::Fixed32 => scalar("fixed32"),
        Type::Bool => scalar("bool"),
        Type::String => scalar("string"),
        Type::Bytes => scalar("bytes"),
        Type::Uint32 => scalar("uint32"),
        Type::Sfixed32 => scalar("sfixed32"),
        Type::Sfixed64 => scalar("sfixed64"),
        Type::Sint32 => scalar("sint32"),
        Type::Sint64 => scalar("sint64"),
    }
}

// ---- comparison ------------------------------------------------------------------------------------------------------

fn differences(contract: &Facts, compiled: &Facts) -> Vec<String> {
    let keys: BTreeSet<&String> = contract.keys().chain(compiled.keys()).collect();
    keys.into_iter()
        .filter_map(|key| match (contract.get(key), compiled.get(key)) {
            (Some(wanted), Some(found)) if wanted == found => None,
            (Some(wanted), Some(found)) => Some(format!("{key}: contract {wanted:?}, compiled {found:?}")),
            (Some(wanted), None) => Some(format!("{key}: only in the contract: {wanted:?}")),
            (None, Some(found)) => Some(format!("{key}: only compiled: {found:?}")),
            (None, None) => None,
        })
        .collect()
}

#[test]
fn the_compiled_protocol_is_the_contract_and_nothing_else() {
    let contract = contract();
    assert_eq!(text(&contract, "package"), PACKAGE);
    let wanted = facts_of_contract(&contract);
    let found = facts_of_descriptors(&compiled());
    let differences = differences(&wanted, &found);
    for difference in differences.iter().take(SHOWN_DIFFERENCES) {
        println!("{difference}");
    }
    assert!(differences.is_empty(), "{} differences, the first {SHOWN_DIFFERENCES} above", differences.len());
}

#[test]
fn neither_side_of_the_comparison_is_empty_or_shorter_than_the_contract_declares() {
    let contract = contract();
    let counts = &contract["counts"];
    let declared = |key| number(counts, key) as u64;
    let declared = Counts {
        services: declared("services"),
        rpcs: declared("rpcs"),
        messages: declared("messages"),
        enums: declared("enums"),
        fields: declared("fields"),
        enum_values: declared("enum_values"),
    };
    assert_eq!((declared.services, declared.rpcs, declared.messages), (2, 33, 106));
    assert_eq!((declared.enums, declared.fields, declared.enum_values), (17, 365, 128));
    assert_eq!(Counts::of(&facts_of_contract(&contract)), declared);
    assert_eq!(Counts::of(&facts_of_descriptors(&compiled())), declared);
}

/// One way in which a careless edit could change the protocol.
struct Alteration {
    name: &'static str,
    apply: fn(&mut FileDescriptorSet),
}

fn file<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut prost_types::FileDescriptorProto {
    let path = format!("apache/rocketmq/v2/{name}.proto");
    set.file.iter_mut().find(|file| file.name() == path).expect("compiled file")
}

fn message<'a>(set: &'a mut FileDescriptorSet, in_file: &str, name: &str) -> &'a mut DescriptorProto {
    file(set, in_file).message_type.iter_mut().find(|message| message.name() == name).expect("compiled message")
}

fn field<'a>(set: &'a mut FileDescriptorSet, in_file: &str, owner: &str, name: &str) -> &'a mut FieldDescriptorProto {
    message(set, in_file, owner).field.iter_mut().find(|field| field.name() == name).expect("compiled field")
}

const ALTERATIONS: &[Alteration] = &[
    Alteration {
        name: "a field renumbered",
        apply: |set| field(set, "definition", "Message", "body").number = Some(9),
    },
    Alteration {
        name: "a field renamed",
        apply: |set| field(set, "definition", "Status", "message").name = Some("text".into()),
    },
    Alteration {
        name: "a field of another integer type",
        apply: |set| field(set, "definition", "SystemProperties", "queue_offset").set_type(Type::Sint64),
    },
    Alteration {
        name: "an optional field made singular",
        apply: |set| field(set, "definition", "SystemProperties", "tag").proto3_optional = None,
    },
    Alteration {
        name: "a repeated field made singular",
        apply: |set| field(set, "service", "SendMessageRequest", "messages").set_label(Label::Optional),
    },
    Alteration {
        name: "a field moved out of its oneof",
        apply: |set| field(set, "service", "ReceiveMessageResponse", "status").oneof_index = None,
    },
    Alteration {
        name: "a map with another value type",
        apply: |set| message(set, "definition", "Message").nested_type[0].field[1].set_type(Type::Bytes),
    },
    Alteration {
        name: "a field too many",
        apply: |set| {
            let mut extra = field(set, "definition", "Status", "message").clone();
            extra.name = Some("extra".into());
            extra.number = Some(77);
            message(set, "definition", "Status").field.push(extra);
        },
    },
    Alteration { name: "a message missing", apply: |set| file(set, "service").message_type.truncate(3) },
    Alteration {
        name: "an enum value renumbered",
        apply: |set| file(set, "definition").enum_type[0].value[1].number = Some(99),
    },
    Alteration {
        name: "an rpc that no longer streams",
        apply: |set| {
            for method in &mut file(set, "service").service[0].method {
                method.server_streaming = None;
            }
        },
    },
    Alteration {
        name: "an import added",
        apply: |set| file(set, "service").dependency.push("google/protobuf/any.proto".into()),
    },
];

#[test]
fn an_altered_descriptor_is_seen() {
    let wanted = facts_of_contract(&contract());
    for alteration in ALTERATIONS {
        let mut set = compiled();
        (alteration.apply)(&mut set);
        let seen = differences(&wanted, &facts_of_descriptors(&set));
        assert!(!seen.is_empty(), "not seen: {}", alteration.name);
    }
}

#[test]
fn the_descriptor_set_resolves_its_own_imports_and_holds_the_admin_service() {
    // Reflection clients follow imports; one that is not in the set makes the whole service unreadable for them.
    let set = compiled();
    let names: BTreeSet<&str> = set.file.iter().map(|file| file.name()).collect();
    for file in &set.file {
        for import in &file.dependency {
            assert!(names.contains(import.as_str()), "{} imports {import}, which is missing", file.name());
        }
    }
    assert!(names.contains("bolide/admin/v1/admin.proto"));
}
