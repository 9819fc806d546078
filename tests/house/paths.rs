//! Which modules of the crate a file names: every `crate::…` and every `super::…` that climbs out of its room.

use crate::source::{Source, is_word, line_of};

/// A path from the crate's root, as far as it is spelled out: `["store", "inspect"]`.
pub struct Mention {
    pub line: usize,
    pub path: Vec<String>,
}

pub fn mentions(file: &Source) -> Vec<Mention> {
    let mut found = below(file, "crate");
    if file.path == "main.rs" {
        found.extend(below(file, "bolide"));
    }
    found.extend(climbing(file));
    found
}

/// Every path written below the name `root`, use groups spelled out; `root` itself is left off.
pub fn below(file: &Source, root: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    for at in word_positions(&file.code, root) {
        let mut paths = Vec::new();
        if let Some(rest) = after_colons(&file.code[at + root.len()..]) {
            read_tree(rest, &mut Vec::new(), &mut paths);
        }
        let line = line_of(&file.code, at);
        found.extend(paths.into_iter().map(|path| Mention { line, path }));
    }
    found
}

/// `super::super::model` written in a file two modules below the root means the room `model`.
fn climbing(file: &Source) -> Vec<Mention> {
    let module = module_of(&file.path);
    let mut found = Vec::new();
    for at in word_positions(&file.code, "super") {
        let follows_super = file.code[..at].trim_end().ends_with("super::");
        if follows_super {
            continue;
        }
        let (mut climbed, mut rest) = (1, &file.code[at + "super".len()..]);
        while let Some(more) = after_colons(rest).and_then(|tail| tail.strip_prefix("super")) {
            (climbed, rest) = (climbed + 1, more);
        }
        if climbed < module.len() {
            continue;
        }
        let mut paths = Vec::new();
        if let Some(tail) = after_colons(rest) {
            read_tree(tail, &mut Vec::new(), &mut paths);
        }
        let line = line_of(&file.code, at);
        found.extend(paths.into_iter().map(|path| Mention { line, path }));
    }
    found
}

fn module_of(path: &str) -> Vec<&str> {
    match path {
        "lib.rs" | "main.rs" => Vec::new(),
        _ => path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect(),
    }
}

fn after_colons(code: &str) -> Option<&str> {
    code.trim_start().strip_prefix("::").map(str::trim_start)
}

/// Byte offsets at which `word` stands as a word of its own.
pub fn word_positions<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let free_before = at == 0 || !is_word(bytes[at - 1]);
        let free_after = bytes.get(at + word.len()).is_none_or(|&byte| !is_word(byte));
        free_before && free_after
    })
}

/// Reads a path or a use tree at the start of `code`; gives back what follows it.
fn read_tree<'a>(code: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = read_tree(rest, prefix, found);
            if rest.len() == before {
                return rest; // not a use tree after all
            }
        }
    }
    let name: String = code.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    if name.is_empty() {
        if !prefix.is_empty() {
            found.push(prefix.clone());
        }
        return code.strip_prefix('*').unwrap_or(code);
    }
    let mut rest = &code[name.len()..];
    prefix.push(name);
    match after_colons(rest) {
        Some(tail) => rest = read_tree(tail, prefix, found),
        None => {
            found.push(prefix.clone());
            if let Some(alias) = rest.trim_start().strip_prefix("as ") {
                rest = alias.trim_start().trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_');
            }
        }
    }
    prefix.pop();
    rest
}
