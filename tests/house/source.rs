//! Reads Rust source far enough for the house rules: what is comment, what is text in quotes, what is test code, and which
//! file a `mod` line reaches. Line numbers stay true, because everything removed leaves its line breaks behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One file of `src/`.
pub struct Source {
    /// Relative to `src/`, with forward slashes: `store/log/segment.rs`.
    pub path: String,
    /// Comments, the contents of texts and test items blanked out.
    pub code: String,
    /// Lines that are not part of a test item; 0 for a file that only tests reach.
    pub lines: usize,
    /// Every text literal outside test items, with its line.
    pub texts: Vec<(usize, String)>,
    /// Modules that this file declares without a body.
    pub declares: Vec<Module>,
}

/// `mod name;`
pub struct Module {
    name: String,
    /// Of `#[path = "…"]`.
    path: Option<String>,
    /// Only tests see it.
    test: bool,
}

/// All of `src/`.
pub struct Tree {
    pub files: Vec<Source>,
    /// Files that no `mod` line reaches.
    pub unreached: Vec<String>,
}

impl Tree {
    pub fn load(src: &Path) -> Self {
        let mut found = Vec::new();
        collect(src, src, &mut found);
        Self::from_texts(found)
    }

    /// For samples: pairs of path and text.
    pub fn sample(files: &[(&str, &str)]) -> Self {
        Self::from_texts(files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect())
    }

    fn from_texts(mut files: Vec<(String, String)>) -> Self {
        files.sort();
        let mut files: Vec<Source> = files.iter().map(|(path, text)| Source::read(path, text)).collect();
        let reached = reach(&files);
        let unreached = files.iter().map(|file| file.path.clone()).filter(|path| !reached.contains_key(path)).collect();
        for file in &mut files {
            if reached.get(&file.path) == Some(&true) {
                file.code = blank(&file.code);
                file.texts.clear();
                file.lines = 0;
            }
        }
        Self { files, unreached }
    }

    pub fn file(&self, path: &str) -> Option<&Source> {
        self.files.iter().find(|file| file.path == path)
    }

    pub fn has_folder(&self, folder: &str) -> bool {
        let prefix = format!("{folder}/");
        self.files.iter().any(|file| file.path.starts_with(&prefix))
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("a path below src").to_string_lossy().replace('\\', "/");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push((relative, text));
        }
    }
}

/// Which files the `mod` lines reach from `lib.rs` and `main.rs`, and whether only through test code.
fn reach(files: &[Source]) -> BTreeMap<String, bool> {
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut reached: BTreeMap<String, bool> = BTreeMap::new();
    let mut open: Vec<(String, bool)> = ["lib.rs", "main.rs"].map(|root| (root.to_string(), false)).into();
    while let Some((path, only_tests)) = open.pop() {
        let Some(file) = files.iter().find(|file| file.path == path) else {
            continue;
        };
        match reached.get(&path) {
            Some(&before) if !before || only_tests => continue,
            _ => reached.insert(path.clone(), only_tests),
        };
        let home = match path.as_str() {
            "lib.rs" | "main.rs" => String::new(),
            _ => match path.strip_suffix("/mod.rs") {
                Some(folder) => format!("{folder}/"),
                None => format!("{}/", path.trim_end_matches(".rs")),
            },
        };
        let folder = path.rfind('/').map_or("", |slash| &path[..=slash]);
        for Module { name, path, test } in &file.declares {
            let places = match path {
                Some(path) => vec![format!("{folder}{path}")],
                None => vec![format!("{home}{name}.rs"), format!("{home}{name}/mod.rs")],
            };
            for place in places.into_iter().filter(|place| known.contains(place.as_str())) {
                open.push((place, only_tests || *test));
            }
        }
    }
    reached
}

impl Source {
    fn read(path: &str, text: &str) -> Self {
        let (code, texts) = strip(text);
        let test_ranges = test_items(&code);
        let in_test = |at: usize| test_ranges.iter().any(|range| range.contains(&at));
        let declares = module_lines(&code)
            .into_iter()
            .map(|(at, name)| Module { name, path: path_attribute(&code[..at], &texts), test: in_test(at) })
            .collect();
        let mut kept = code.clone();
        let mut test_lines = 0;
        for range in &test_ranges {
            kept.replace_range(range.clone(), &blank(&code[range.clone()]));
            test_lines += code[range.clone()].matches('\n').count() + 1;
        }
        Self {
            path: path.to_string(),
            code: kept,
            lines: text.lines().count().saturating_sub(test_lines),
            texts: texts
                .into_iter()
                .filter(|(at, _)| !in_test(*at))
                .map(|(at, literal)| (line_of(&code, at), literal))
                .collect(),
            declares,
        }
    }
}

/// The line (from 1) on which byte `at` stands.
pub fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Spaces of the same length in bytes, line breaks kept.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Blanks comments and the contents of texts; gives back the code, of the same length, and the texts with their offset.
fn strip(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut texts = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let after_word = at > 0 && is_word(bytes[at - 1]);
        let end = if rest.starts_with("//") {
            let end = at + rest.find('\n').unwrap_or(rest.len());
            code.push_str(&blank(&text[at..end]));
            end
        } else if rest.starts_with("/*") {
            let end = at + block_comment_len(rest);
            code.push_str(&blank(&text[at..end]));
            end
        } else if let Some((open, inner, close)) = quoted(rest, after_word) {
            let inner = at + open..at + open + inner;
            texts.push((at, text[inner.clone()].to_string()));
            code.push_str(&text[at..inner.start]);
            code.push_str(&blank(&text[inner.clone()]));
            code.push_str(&text[inner.end..inner.end + close]);
            inner.end + close
        } else if let Some(len) = character(rest) {
            code.push_str(&blank(&text[at..at + len]));
            at + len
        } else {
            let len = rest.chars().next().map_or(1, char::len_utf8);
            code.push_str(&rest[..len]);
            at + len
        };
        at = end;
    }
    (code, texts)
}

fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Lengths of the opening, the contents and the closing of the text literal that `text` begins with.
fn quoted(text: &str, after_word: bool) -> Option<(usize, usize, usize)> {
    let prefix = if after_word { 0 } else { text.len() - text.trim_start_matches(['b', 'c']).len() };
    let tail = &text[prefix..];
    if let Some(raw) = tail.strip_prefix('r').filter(|_| !after_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inner = raw[hashes..].strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let len = inner.find(&close).unwrap_or(inner.len());
        return Some((prefix + 1 + hashes + 1, len, close.len().min(inner.len() - len)));
    }
    let inner = tail.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((prefix + 1, at, 1)),
            _ => {}
        }
    }
    Some((prefix + 1, inner.len(), 0))
}

/// Length of the character literal that `text` begins with; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if let Some(escape) = inner.strip_prefix('\\') {
        let skipped = escape.chars().next()?.len_utf8();
        let close = escape[skipped..].find('\'')?;
        return Some(2 + skipped + close + 1);
    }
    let first = inner.chars().next()?.len_utf8();
    inner[first..].starts_with('\'').then_some(1 + first + 1)
}

/// Byte ranges of items under `#[cfg(test)]`, the attribute included; the whole file under `#![cfg(test)]`.
fn test_items(code: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in code.match_indices("cfg(") {
        let condition = &code[at + 4..at + 4 + code[at + 4..].find(']').unwrap_or(0)];
        let names_test = words(condition).any(|word| word == "test") && !words(condition).any(|word| word == "not");
        let before = code[..at].trim_end();
        if !names_test || ranges.last().is_some_and(|range| range.contains(&at)) {
            continue;
        }
        if before.ends_with("#![") {
            return std::iter::once(0..code.len()).collect();
        }
        if let Some(start) = before.strip_suffix("#[").map(str::len) {
            ranges.push(start..item_end(code, at));
        }
    }
    ranges
}

/// End of the item whose attribute contains byte `at`: its closing brace, or its semicolon.
fn item_end(code: &str, at: usize) -> usize {
    let (mut brackets, mut braces) = (1, 0);
    for (offset, byte) in code[at..].bytes().enumerate() {
        match byte {
            b'[' | b'(' => brackets += 1,
            b']' | b')' => brackets -= 1,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces <= 0 {
                    return at + offset + usize::from(braces == 0);
                }
            }
            b';' | b',' if braces == 0 && brackets == 0 => return at + offset + 1,
            _ => {}
        }
    }
    code.len()
}

pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|word| !word.is_empty())
}

/// Every `mod name;`, with its offset.
fn module_lines(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("mod ") {
        if at > 0 && is_word(code.as_bytes()[at - 1]) {
            continue;
        }
        let rest = code[at + 4..].trim_start();
        let name = rest.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).next().unwrap_or("");
        if !name.is_empty() && rest[name.len()..].trim_start().starts_with(';') {
            found.push((at, name.to_string()));
        }
    }
    found
}

/// The text of a `#[path = "…"]` among the attributes at the end of `before`.
fn path_attribute(before: &str, texts: &[(usize, String)]) -> Option<String> {
    let item = before.rfind([';', '{', '}']).map_or(0, |end| end + 1);
    let attribute = item + before[item..].find("path = \"")?;
    texts.iter().find(|(at, _)| *at > attribute).map(|(_, text)| text.clone())
}
