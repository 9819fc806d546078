//! The floor plan as a test: reads `src/` and fails where the code leaves it. Every rule is first tried on a small bad
//! sample, so that a rule which has stopped seeing fails as loudly as one that was broken.

#[path = "house/paths.rs"]
mod paths;
#[path = "house/rules.rs"]
mod rules;
#[path = "house/source.rs"]
mod source;

use std::path::Path;
use std::sync::LazyLock;

use source::Tree;

fn house() -> &'static Tree {
    static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    assert!(TREE.file("lib.rs").is_some(), "src/lib.rs was not read");
    &TREE
}

#[track_caller]
fn clean(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} violations:\n  {}", violations.len(), violations.join("\n  "));
}

/// `violations` are exactly those that contain the given texts, in any order.
#[track_caller]
fn sees(violations: Vec<String>, wanted: &[&str]) {
    for text in wanted {
        assert!(violations.iter().any(|violation| violation.contains(text)), "not seen: {text}\nseen: {violations:#?}");
    }
    assert_eq!(violations.len(), wanted.len(), "seen: {violations:#?}");
}

#[test]
fn rooms_import_only_what_the_floor_plan_allows() {
    clean(rules::imports(house()));
}

#[test]
fn clocks_threads_chance_files_and_sockets_are_touched_in_their_own_files_only() {
    clean(rules::seams(house()));
}

#[test]
fn rooms_behind_the_border_know_no_wire_crate() {
    clean(rules::border_crates(house()));
}

#[test]
fn unsafe_has_one_file() {
    clean(rules::unsafe_code(house()));
}

#[test]
fn the_metric_catalogue_is_complete_and_nothing_in_it_is_dead() {
    clean(rules::metrics(house()));
}

#[test]
fn every_file_is_reached_by_a_mod_line() {
    clean(rules::unreached(house()));
}

#[test]
fn files_and_faces_keep_their_size() {
    clean(rules::sizes(house()));
}

#[test]
fn the_library_root_declares_modules_and_nothing_else() {
    clean(rules::library_root(house()));
}

mod the_rules_see {
    use super::*;

    #[test]
    fn an_upward_a_sideways_and_a_hidden_import() {
        let tree = Tree::sample(&[
            ("lib.rs", "pub mod model; pub mod store; pub mod broker; pub mod proxy; pub mod route; pub mod auth;"),
            ("store.rs", "mod log;\nuse crate::broker::Verbs;\n"),
            ("store/log.rs", "use super::super::proxy::server;\nuse super::log_helper;\nuse crate::model::Topic;"),
            ("route.rs", "use crate::{model::{Topic, Group as G}, auth::{Decision}};"),
            ("broker.rs", "use crate::store::Log; fn f() { crate::proxy::status::of(1) }"),
            ("proxy.rs", "use crate::{\n  broker::Verbs,\n  store::Log,\n};"),
            ("auth.rs", "pub(crate) struct A; pub(in crate::auth) struct B; use crate::runtime::Clock;"),
            ("model.rs", "use crate::wire::rocketmq as v2;"),
        ]);
        sees(
            rules::imports(&tree),
            &[
                "store.rs:2: an import the plan forbids: broker::Verbs in store",
                "store/log.rs:1: an import the plan forbids: proxy::server in store",
                "route.rs:1: an import the plan forbids: auth::Decision in route",
                "broker.rs:1: an import the plan forbids: proxy::status::of in broker",
                "proxy.rs:1: an import the plan forbids: store::Log in proxy",
                "auth.rs:1: an import the plan forbids: runtime::Clock in auth",
                "model.rs:1: a generated type past its border: wire::rocketmq in model",
            ],
        );
    }

    #[test]
    fn a_generated_type_past_its_border_and_the_doors_it_may_use() {
        let tree = Tree::sample(&[
            ("route/remote.rs", "use crate::wire::rocketmq as v2;"),
            ("route/table.rs", "use crate::wire_receive::Content;"),
            ("console/pages.rs", "type T = crate::wire::admin::Topic;"),
            ("proxy/send.rs", "use crate::wire::rocketmq as v2;"),
            ("cli/inspect.rs", "use crate::store::inspect::Log; use crate::store::Log as Direct;"),
            ("main.rs", "use bolide::cli; use bolide::store::Log;"),
            ("attic/x.rs", ""),
        ]);
        sees(
            rules::imports(&tree),
            &[
                "route/table.rs:1: a generated type past its border",
                "console/pages.rs:1: a generated type past its border",
                "cli/inspect.rs:1: an import the plan forbids: store::Log in cli",
                "main.rs:1: an import the plan forbids: store::Log in main",
                "attic/x.rs: the room \"attic\" is not on the floor plan",
            ],
        );
    }

    #[test]
    fn calls_past_a_seam_but_not_in_comments_texts_and_tests() {
        let tree = Tree::sample(&[
            ("lib.rs", "mod broker; mod runtime; mod store;"),
            (
                "broker.rs",
                "// Instant::now\n/* SystemTime::now /* nested */ */\nconst A: &str = \"std::fs\";\nconst B: &str = r#\"tokio::spawn \" \"#;\n\
                 const C: char = '\"'; fn f<'a>(operand: &'a str) { my_rand::x(); }\n\
                 #[cfg(test)]\nmod tests {\n fn f() { let _ = std::time::Instant::now(); }\n}\n\
                 fn g() { let _ = tokio::time::Instant::now(); }\n#[cfg(test)] use std::fs;\nfn h() { rand::random() }\n",
            ),
            ("runtime/clock.rs", "fn now() { std::time::Instant::now(); }"),
            ("store/files/real.rs", "use std::fs::File;"),
            ("store/log.rs", "use std::{\n  fs::File,\n  io,\n};\nuse std::thread;\n#[cfg(test)]\nmod tests;\n"),
            ("store/log/tests.rs", "use std::fs;"),
            ("store.rs", "pub mod log; pub mod files; use tokio::net::TcpStream; #[cfg(not(test))] use tokio::spawn;"),
        ]);
        sees(
            rules::seams(&tree),
            &[
                "broker.rs:10: a clock is read: Instant::now",
                "broker.rs:12: chance is used: rand::",
                "store/log.rs:1: a file is touched: std::fs",
                "store/log.rs:5: a thread is used: std::thread",
                "store.rs:1: a connection is touched: TcpStream",
                "store.rs:1: a task is started: tokio::spawn",
            ],
        );
    }

    #[test]
    fn a_wire_crate_behind_the_border() {
        let tree = Tree::sample(&[
            ("broker/publish.rs", "use tonic::Status;\nuse crate::model::http::X;"),
            ("proxy/server.rs", "use tonic::Status;"),
            ("model/message.rs", "fn f() { prost_types::Timestamp::default(); }"),
        ]);
        sees(rules::border_crates(&tree), &["broker/publish.rs:1: tonic", "model/message.rs:1: prost_types"]);
    }

    #[test]
    fn unsafe_code_elsewhere_but_not_the_lint_of_that_name() {
        let tree = Tree::sample(&[
            ("lib.rs", "#![deny(unsafe_code)]"),
            ("store/mmap.rs", "fn f() { unsafe { g() } }"),
            ("store/log.rs", "// unsafe\nfn f() { unsafe { g() } }"),
        ]);
        sees(rules::unsafe_code(&tree), &["store/log.rs:2: unsafe"]);
    }

    #[test]
    fn a_metric_that_only_one_side_knows() {
        let tree = Tree::sample(&[
            (
                "observe/catalog.rs",
                "pub const SENT: Metric = Metric::counter(\"rocketmq_messages_in_total\");\n\
                 pub const DEAD: MetricDef = MetricDef::counter(\"bolide_dead\");\n\
                 pub const ALL: &[Metric] = &[SENT, DEAD];\nconst fn of(name: &str) -> Metric { todo() }\n",
            ),
            (
                "broker/publish.rs",
                "fn f() { count(SENT); count_by_name(\"rocketmq_messages_in_total\"); count_by_name(\"bolide_typo_total\"); \
                 log(\"bolide_x is a sentence\"); }",
            ),
        ]);
        sees(
            rules::metrics(&tree),
            &[
                "broker/publish.rs:1: metric bolide_typo_total is missing",
                "observe/catalog.rs:2: metric DEAD is in the catalogue",
            ],
        );
    }

    #[test]
    fn a_file_that_no_mod_line_reaches() {
        let tree = Tree::sample(&[
            ("lib.rs", "pub mod store; // mod ghost;\n"),
            ("main.rs", "mod helper;"),
            ("helper.rs", ""),
            ("store.rs", "mod log;\npub(crate) mod kv;\n#[cfg(test)]\nmod tests;"),
            ("store/log.rs", "#[cfg(test)]\n#[path = \"log_tests.rs\"]\nmod tests;"),
            ("store/log_tests.rs", ""),
            ("store/kv/mod.rs", "mod lease;"),
            ("store/kv/lease.rs", ""),
            ("store/kv/forgotten.rs", ""),
            ("store/tests.rs", ""),
            ("ghost.rs", ""),
        ]);
        sees(rules::unreached(&tree), &["ghost.rs", "store/kv/forgotten.rs"]);
    }

    #[test]
    fn a_face_and_a_file_that_grew_too_long_without_their_tests() {
        let lines = |count: usize| "fn f() {}\n".repeat(count);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(600));
        let tree = Tree::sample(&[
            ("lib.rs", "mod store; mod route; mod wire_receive;"),
            ("store.rs", &(lines(121) + "mod log;mod kv;")),
            ("store/log.rs", &lines(501)),
            ("store/kv.rs", &(lines(499) + &tests)),
            ("route.rs", &(lines(110) + "mod table;\n" + &tests)),
            ("route/table.rs", ""),
            ("wire_receive.rs", &lines(300)),
        ]);
        sees(rules::sizes(&tree), &["store.rs: 122 lines in a face", "store/log.rs: 501 lines"]);
    }

    #[test]
    fn an_item_in_the_library_root() {
        let tree =
            Tree::sample(&[("lib.rs", "//! fn in a comment\n#![deny(unsafe_code)]\npub mod store;\npub fn f() {}\n")]);
        sees(rules::library_root(&tree), &["lib.rs:4: fn"]);
    }
}
