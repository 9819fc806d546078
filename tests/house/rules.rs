//! The rules. Each takes the whole tree and gives back its violations as `file:line: what`.

use std::collections::BTreeSet;

use crate::paths::{below, mentions, word_positions};
use crate::source::{Source, Tree, line_of, words};

const FACE_LINES: usize = 120;
const FILE_LINES: usize = 500;

/// A room and the rooms it may import. `wire` stands for everything generated.
struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
}

/// The floor plan of docs/ARCHITECTURE.md.
const PLAN: &[Room] = &[
    Room { name: "model", may_import: &[] },
    Room { name: "wire", may_import: &[] },
    Room { name: "runtime", may_import: &["model"] },
    Room { name: "observe", may_import: &["model"] },
    Room { name: "trust", may_import: &["model", "runtime"] },
    Room { name: "store", may_import: &["model", "runtime", "observe"] },
    Room { name: "route", may_import: &["store", "trust", "model", "runtime", "observe"] },
    Room { name: "auth", may_import: &["model"] },
    Room { name: "replica", may_import: &["store", "model", "runtime", "observe"] },
    Room { name: "broker", may_import: &["replica", "store", "model", "runtime", "observe"] },
    Room { name: "link", may_import: &["broker", "route", "trust", "model", "runtime", "observe"] },
    Room {
        name: "proxy",
        may_import: &["trust", "link", "broker", "route", "auth", "model", "runtime", "observe", "wire"],
    },
    Room { name: "console", may_import: &["link", "broker", "route", "auth", "model", "runtime", "observe"] },
    Room {
        name: "config",
        may_import: &[
            "console", "proxy", "link", "broker", "replica", "store", "route", "auth", "model", "runtime", "observe",
        ],
    },
    Room {
        name: "app",
        may_import: &[
            "trust", "config", "console", "proxy", "link", "broker", "replica", "store", "route", "auth", "model",
            "runtime", "observe", "wire",
        ],
    },
    Room { name: "cli", may_import: &["app", "config", "trust", "wire", "model", "runtime"] },
    Room { name: "main", may_import: &["cli", "app", "config", "observe", "runtime"] },
];

/// Imports beyond the plan: (file or folder ending in `/`, path that may be named there).
const DOORS: &[(&str, &[&str])] = &[
    ("route/remote.rs", &["wire"]),
    ("route/server.rs", &["wire"]),
    ("route/convert.rs", &["wire"]),
    ("route/convert/", &["wire"]),
    ("link/client/", &["wire"]),
    ("link/server/", &["wire"]),
    ("link/convert/", &["wire"]),
    ("replica/transport.rs", &["wire"]),
    ("cli/", &["store", "inspect"]),
];

/// `wire.rs` holds generated code, `wire_receive.rs` the one message written by hand in its place.
fn room_of(first: &str) -> &str {
    match first {
        "wire_receive" => "wire",
        other => other,
    }
}

fn within(file: &Source, place: &str) -> bool {
    file.path == place || (place.ends_with('/') && file.path.starts_with(place))
}

fn room(file: &Source) -> &str {
    room_of(file.path.split('/').next().unwrap_or("").trim_end_matches(".rs"))
}

pub fn imports(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.path != "lib.rs") {
        let Some(here) = PLAN.iter().find(|candidate| candidate.name == room(file)) else {
            found.push(format!("{}: the room {:?} is not on the floor plan", file.path, room(file)));
            continue;
        };
        for mention in mentions(file) {
            let there = room_of(&mention.path[0]);
            let on_plan = PLAN.iter().any(|candidate| candidate.name == there);
            let door = DOORS.iter().any(|(place, path)| {
                within(file, place)
                    && path.first() == Some(&there)
                    && path[1..].iter().zip(&mention.path[1..]).all(|(wanted, named)| wanted == named)
                    && mention.path.len() >= path.len()
            });
            if on_plan && there != here.name && !here.may_import.contains(&there) && !door {
                let what =
                    if there == "wire" { "a generated type past its border" } else { "an import the plan forbids" };
                found.push(format!(
                    "{}:{}: {what}: {} in {}",
                    file.path,
                    mention.line,
                    mention.path.join("::"),
                    here.name
                ));
            }
        }
    }
    found
}

/// A call that only some files may make, because everything else must run in a simulated world.
struct Seam {
    what: &'static str,
    spellings: &'static [&'static str],
    allowed: &'static [&'static str],
}

const SEAMS: &[Seam] = &[
    Seam {
        what: "a clock is read",
        spellings: &["Instant::now", "SystemTime::now", "Uuid::now_v7", "Uuid::now_v6", "Uuid::now_v1"],
        allowed: &["runtime/clock.rs", "cli/"],
    },
    Seam {
        what: "a thread is used",
        spellings: &["std::thread", "thread::spawn", "thread::sleep", "thread::Builder", "thread::scope"],
        allowed: &["runtime/", "proxy/listener.rs", "cli/", "main.rs"],
    },
    Seam {
        what: "a task is started",
        spellings: &["tokio::spawn", "task::spawn", "spawn_blocking", "spawn_local", "block_in_place"],
        allowed: &["runtime/", "proxy/listener.rs", "cli/", "main.rs"],
    },
    Seam {
        what: "chance is used",
        spellings: &["rand::", "getrandom", "OsRng", "thread_rng", "Uuid::new_v4"],
        allowed: &["runtime/entropy.rs", "cli/"],
    },
    Seam {
        what: "a file is touched",
        spellings: &["std::fs", "tokio::fs", "File::open", "File::create", "OpenOptions", "rustix::fs"],
        allowed: &["runtime/", "store/files.rs", "store/files/", "store/mmap.rs", "cli/", "main.rs"],
    },
    Seam {
        what: "a connection is touched",
        spellings: &["TcpStream", "UdpSocket", "UnixStream"],
        // proxy/connection.rs holds what the listener has accepted, until TLS and preface are through; app/internal.rs is the
        // listener of the other port.
        allowed: &["runtime/", "proxy/listener.rs", "proxy/connection.rs", "app/internal.rs", "cli/", "main.rs"],
    },
    Seam {
        what: "a port is opened",
        spellings: &["TcpListener", "UnixListener"],
        allowed: &["runtime/", "proxy/listener.rs", "console/", "app/", "cli/", "main.rs"],
    },
];

pub fn seams(tree: &Tree) -> Vec<String> {
    let mut found = BTreeSet::new();
    for file in &tree.files {
        let grouped = grouped_imports(file);
        for seam in SEAMS.iter().filter(|seam| !seam.allowed.iter().any(|place| within(file, place))) {
            for spelling in seam.spellings {
                let plain = spelled(&file.code, spelling).into_iter().map(|at| line_of(&file.code, at));
                let in_group =
                    grouped.iter().filter(|(_, path)| !spelled(path, spelling).is_empty()).map(|(line, _)| *line);
                for line in plain.chain(in_group) {
                    found.insert(format!("{}:{line}: {}: {spelling}", file.path, seam.what));
                }
            }
        }
    }
    found.into_iter().collect()
}

/// `use std::{fs, thread};` as the paths it stands for.
fn grouped_imports(file: &Source) -> Vec<(usize, String)> {
    let spell_out = |root: &str| {
        let mentions = below(file, root);
        mentions
            .into_iter()
            .map(|mention| (mention.line, format!("{root}::{}", mention.path.join("::"))))
            .collect::<Vec<_>>()
    };
    ["std", "tokio", "rustix", "uuid"].into_iter().flat_map(spell_out).collect()
}

/// Like a word search, but a spelling may end in `::`.
fn spelled<'a>(code: &'a str, spelling: &'a str) -> Vec<usize> {
    match spelling.strip_suffix("::") {
        Some(word) => word_positions(code, word).filter(|at| code[at + word.len()..].starts_with("::")).collect(),
        None => word_positions(code, spelling).collect(),
    }
}

/// Crates that carry the wire or the web; behind the border nobody may know them.
const BORDER_CRATES: &[&str] = &["tonic", "tonic_prost", "prost", "prost_types", "axum", "hyper", "http"];
const BEHIND_THE_BORDER: &[&str] = &["model", "store", "auth", "broker", "config"];

pub fn border_crates(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| BEHIND_THE_BORDER.contains(&room(file))) {
        for name in BORDER_CRATES {
            for at in word_positions(&file.code, name) {
                let used = file.code[at + name.len()..].starts_with("::");
                let part_of_a_path = file.code[..at].ends_with("::");
                if used && !part_of_a_path {
                    found.push(format!("{}:{}: {name} behind the border", file.path, line_of(&file.code, at)));
                }
            }
        }
    }
    found
}

pub fn unsafe_code(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.path != "store/mmap.rs") {
        for at in word_positions(&file.code, "unsafe") {
            found.push(format!("{}:{}: unsafe outside store/mmap.rs", file.path, line_of(&file.code, at)));
        }
    }
    found
}

fn is_catalog(file: &Source) -> bool {
    within(file, "observe/catalog.rs") || within(file, "observe/catalog/")
}

fn is_metric_name(text: &str) -> bool {
    let has_prefix = text.starts_with("rocketmq_") || text.starts_with("bolide_");
    has_prefix && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

pub fn metrics(tree: &Tree) -> Vec<String> {
    let catalog: Vec<&Source> = tree.files.iter().filter(|file| is_catalog(file)).collect();
    let listed: BTreeSet<&str> = catalog
        .iter()
        .flat_map(|file| &file.texts)
        .map(|(_, text)| text.as_str())
        .filter(|text| is_metric_name(text))
        .collect();
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !is_catalog(file)) {
        for (line, text) in file.texts.iter().filter(|(_, text)| is_metric_name(text)) {
            if !listed.contains(text.as_str()) {
                found.push(format!("{}:{line}: metric {text} is missing from observe/catalog.rs", file.path));
            }
        }
    }
    let used: BTreeSet<&str> =
        tree.files.iter().filter(|file| !is_catalog(file)).flat_map(|file| words(&file.code)).collect();
    for file in catalog {
        for (line, name) in metric_constants(&file.code) {
            if !used.contains(name) {
                found.push(format!("{}:{line}: metric {name} is in the catalogue and nobody records it", file.path));
            }
        }
    }
    found
}

/// Names of `const NAME: Metric…` and `static NAME: Metric…`, with their line.
fn metric_constants(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for keyword in ["const", "static"] {
        for at in word_positions(code, keyword) {
            let rest = code[at + keyword.len()..].trim_start();
            let Some((name, kind)) = rest.split_once(':') else {
                continue;
            };
            let is_name = words(name).count() == 1 && !name.contains(['(', '<', ';', '{']);
            let is_metric = words(kind)
                .find(|word| !matches!(*word, "crate" | "observe" | "catalog" | "super"))
                .is_some_and(|word| word.starts_with("Metric"));
            if is_name && is_metric && !kind.trim_start().starts_with('&') {
                found.push((line_of(code, at), name.trim()));
            }
        }
    }
    found
}

pub fn unreached(tree: &Tree) -> Vec<String> {
    tree.unreached.iter().map(|path| format!("{path}: no `mod` line reaches this file")).collect()
}

pub fn sizes(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for file in &tree.files {
        let name = file.path.trim_end_matches(".rs");
        let face = !name.contains('/') && tree.has_folder(name);
        if face && file.lines > FACE_LINES {
            found.push(format!("{}: {} lines in a face, {FACE_LINES} at most", file.path, file.lines));
        } else if file.lines > FILE_LINES {
            found.push(format!(
                "{}: {} lines, {FILE_LINES} at most: which second idea moved in?",
                file.path, file.lines
            ));
        }
    }
    found
}

/// `lib.rs` is the floor plan: modules and documentation.
pub fn library_root(tree: &Tree) -> Vec<String> {
    let Some(root) = tree.file("lib.rs") else {
        return vec!["lib.rs: missing".to_string()];
    };
    let items = ["fn", "struct", "enum", "trait", "impl", "static", "const", "type", "use"];
    let mut found = Vec::new();
    for item in items {
        for at in word_positions(&root.code, item) {
            found.push(format!("lib.rs:{}: {item}: modules only", line_of(&root.code, at)));
        }
    }
    found
}
