//! The chart, as text: what it tells the processes must be settings that they know, and what it watches must be metrics that
//! they have. Rendering and schemas are checked by `scripts/kube/lint.sh`, which needs Helm.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bolide::config::{self, Sources};
use bolide::observe::catalog;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, into) } else { into.push(path) }
    }
}

/// All text below the folders and files, with the name of each file.
fn texts(places: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for place in places {
        let place = root().join(place);
        if place.is_dir() { files_below(&place, &mut files) } else { files.push(place) }
    }
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

/// Words that begin with `prefix` and go on with letters, digits and `_`.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let all = text.split(|c: char| !is_part(c));
    all.filter(|word| word.starts_with(prefix) && word.len() > prefix.len()).collect()
}

/// Settings by their names, as the processes know them.
fn known() -> BTreeSet<String> {
    config::load(&Sources::default()).unwrap().settings.iter().map(|setting| setting.key.to_owned()).collect()
}

fn variable(key: &str) -> String {
    format!("BOLIDE_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// `section.key: value`, also in a comment.
fn setting_in(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim().trim_start_matches('#').trim().split_once(": ")?;
    let (section, name) = key.split_once('.')?;
    let is_word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    (is_word(section) && is_word(name) && name != "yaml").then_some((key, value.trim_matches('"')))
}

#[test]
fn no_variable_of_the_chart_the_image_or_the_compose_file_is_unknown() {
    let known: BTreeSet<String> = known().iter().map(|key| variable(key)).collect();
    let mut seen = 0;
    for (file, text) in texts(&["helm/bolide/templates", "Dockerfile", "deploy/compose.yaml"]) {
        // One is for compose itself.
        for variable in words(&text, "BOLIDE_").into_iter().filter(|variable| *variable != "BOLIDE_IMAGE") {
            seen += 1;
            assert!(known.contains(variable), "{}: {variable} is no setting", file.display());
        }
    }
    assert!(seen > 20, "only {seen} variables were found; does the search still fit the files?");
}

#[test]
fn no_setting_in_the_values_is_unknown_or_out_of_bounds() {
    let known = known();
    let mut seen = 0;
    for (file, text) in
        texts(&["helm/bolide/values-small.yaml", "helm/bolide/values.yaml", "helm/bolide/templates/_helpers.tpl"])
    {
        let settings: Vec<_> = text.lines().filter_map(setting_in).collect();
        seen += settings.len();
        let environment = settings.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect();
        let loaded = config::load(&Sources { environment, ..Sources::default() });
        let loaded = loaded.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(loaded.ignored.is_empty(), "{}: {:?}", file.display(), loaded.ignored);
        for quoted in text.split('"').filter(|word| word.starts_with("storage.") || word.starts_with("limits.")) {
            seen += 1;
            assert!(known.contains(quoted), "{}: {quoted} is no setting", file.display());
        }
    }
    assert!(seen > 10, "only {seen} settings were found; does the search still fit the files?");
}

#[test]
fn no_alert_and_no_panel_watches_a_metric_that_nobody_exports() {
    let mut exported = BTreeSet::new();
    for def in catalog::ALL {
        exported.insert(def.name.to_owned());
        if !def.buckets.is_empty() {
            exported.extend(["_bucket", "_count", "_sum"].map(|end| format!("{}{end}", def.name)));
        }
    }
    let mut seen = 0;
    for (file, text) in texts(&["helm/bolide/templates/prometheusrule.yaml", "helm/bolide/dashboards"]) {
        for metric in words(&text, "rocketmq_").union(&words(&text, "bolide_")) {
            seen += 1;
            assert!(exported.contains(*metric), "{}: {metric} is no metric", file.display());
        }
    }
    assert!(seen > 20, "only {seen} metrics were found; does the search still fit the files?");
}

#[test]
fn every_alert_is_explained_in_the_manual() {
    let manual = std::fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let rules = std::fs::read_to_string(root().join("helm/bolide/templates/prometheusrule.yaml")).unwrap();
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 5, "only {} alerts were found", alerts.len());
    for alert in alerts {
        assert!(manual.contains(&format!("`{alert}`")), "docs/OPERATIONS.md does not say what {alert} means");
    }
}

#[test]
fn the_chart_installs_the_version_that_is_built() {
    let chart = std::fs::read_to_string(root().join("helm/bolide/Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"))), "{chart}");
}
