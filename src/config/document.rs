//! Puts file, environment and flags together and keeps where each value came from.

use std::collections::BTreeMap;
use std::path::Path;

use config::{File, FileFormat, Value, ValueKind};

use crate::config::environment::{self, Meaning};
use crate::config::keys::{self, Key};
use crate::config::{Config, ConfigError, Ignored, Loaded, Origin, Setting, Sources};

/// Values by key (unit suffix included), a later source on top of an earlier one.
type Given = BTreeMap<String, (String, Origin)>;

pub(super) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut ignored = Vec::new();
    let variable = |name: &str| sources.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.into());
    let layers = [
        match sources.file.clone().or_else(|| variable("BOLIDE_CONFIG")) {
            Some(path) => from_file(&path, &mut problems),
            None => Given::new(),
        },
        from_environment(sources, &mut problems, &mut ignored),
        from_flags(sources),
    ];
    let mut config = Config::of(sources.role);
    let mut settings = Vec::new();
    for key in keys::all() {
        let default = key.access.read(&mut config);
        let mut origin = Origin::Default;
        for layer in &layers {
            if let Some((value, from)) = of_key(key, layer, &mut problems) {
                match key.access.write(&mut config, &value) {
                    Ok(()) => origin = from,
                    Err(reason) => problems.push(format!("{} ({from}): {reason}", key.name)),
                }
            }
        }
        settings.push(Setting {
            key: key.name,
            value: key.access.read(&mut config),
            origin,
            default,
            bounds: key.access.bounds(),
            help: key.help,
        });
    }
    cross_check(&config, &mut problems);
    if problems.is_empty() { Ok(Loaded { config, settings, ignored }) } else { Err(ConfigError { problems }) }
}

/// The value of a key in one layer, its unit attached.
fn of_key(key: &Key, layer: &Given, problems: &mut Vec<String>) -> Option<(String, Origin)> {
    let plain = layer.get(key.name).cloned();
    let Some((suffix, unit)) = key.access.unit_suffix() else { return plain };
    let Some((value, origin)) = layer.get(&format!("{}{suffix}", key.name)) else { return plain };
    if plain.is_some() {
        problems.push(format!("{} is given twice, with and without {suffix} ({origin})", key.name));
    }
    Some((format!("{}{unit}", value.trim()), origin.clone()))
}

fn from_flags(sources: &Sources) -> Given {
    let flags = sources.flags.iter();
    flags.map(|(key, value, flag)| ((*key).to_owned(), (value.clone(), Origin::Flag(flag)))).collect()
}

fn from_environment(sources: &Sources, problems: &mut Vec<String>, ignored: &mut Vec<Ignored>) -> Given {
    let mut given = Given::new();
    let mut suggested = Given::new();
    for (variable, value) in &sources.environment {
        let origin = Origin::Environment(variable.clone());
        match environment::meaning(variable) {
            Meaning::Sets(key) => drop(given.insert(key, (value.clone(), origin))),
            Meaning::Suggests(key) if !value.is_empty() => {
                suggested.insert(key.to_owned(), (value.clone(), origin));
            }
            Meaning::Unknown => {
                let nearest = environment::nearest(variable);
                problems.push(format!(
                    "unknown setting in the environment: {variable}; the nearest known one is {nearest}"
                ));
            }
            Meaning::Foreign => {
                ignored.push(Ignored { variable: variable.clone(), nearest: environment::nearest(variable) })
            }
            Meaning::Suggests(_) | Meaning::Unrelated => {}
        }
    }
    for (key, value) in suggested {
        given.entry(key).or_insert(value);
    }
    given
}

fn from_file(path: &Path, problems: &mut Vec<String>) -> Given {
    let mut given = Given::new();
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        Some("json") => FileFormat::Json,
        _ => {
            problems.push(format!("{}: the name must end in .toml, .yaml, .yml or .json", path.display()));
            return given;
        }
    };
    let source = File::from(path).format(format);
    let table = match config::Config::builder().add_source(source).build() {
        Ok(read) => read.cache,
        Err(error) => {
            problems.push(format!("{} cannot be read: {error}", path.display()));
            return given;
        }
    };
    let mut values = Vec::new();
    flatten("", &table, &mut values);
    for (name, value) in values {
        let known = keys::all().any(|key| environment::names(key).contains(&name));
        if known {
            given.insert(name, (value, Origin::File(path.to_owned())));
        } else {
            let nearest = nearest(&name, keys::all().flat_map(environment::names));
            problems.push(format!("unknown key in {}: {name}; the nearest known one is {nearest}", path.display()));
        }
    }
    given
}

/// Scalars by their dotted names. A list is no value of any key and shows up as an unknown or malformed one.
fn flatten(prefix: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, into);
            }
        }
        ValueKind::Nil => into.push((prefix.to_owned(), String::new())),
        _ => into.push((prefix.to_owned(), value.to_string())),
    }
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> String {
    let scored = known.map(|known| (strsim::jaro_winkler(name, &known), known));
    scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, known)| known).unwrap_or_default()
}

/// Bounds that concern two values.
fn cross_check(config: &Config, problems: &mut Vec<String>) {
    let cluster = &config.cluster;
    let files = [&cluster.tls_ca, &cluster.tls_certificate, &cluster.tls_key];
    if !matches!(files.iter().filter(|file| file.is_some()).count(), 0 | 3) {
        problems.push("cluster.tls_ca, cluster.tls_certificate and cluster.tls_key must be given together".to_owned());
    }
    if config.proxy.external_listen.is_none() && config.proxy.external_advertise.is_some() {
        problems.push("server.external_advertise means nothing without server.external_listen".to_owned());
    }
    let mut ordered = |fine: bool, low: &str, high: &str| {
        if !fine {
            problems.push(format!("{low} is larger than {high}"));
        }
    };
    ordered(config.proxy.invisible_min <= config.proxy.invisible_max, "limits.min_invisible", "limits.max_invisible");
    ordered(config.proxy.long_poll_min <= config.proxy.long_poll_max, "limits.min_long_poll", "limits.max_long_poll");
    ordered(
        config.store.log.disk_low_watermark <= config.store.log.disk_high_watermark,
        "storage.disk_low_watermark",
        "storage.disk_high_watermark",
    );
    ordered(
        (config.store.log.frame_bytes_max as u64) < config.store.log.segment_bytes,
        "storage.max_frame",
        "storage.segment",
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::Role;

    fn environment(pairs: &[(&str, &str)]) -> Sources {
        let environment = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Sources { environment, ..Sources::default() }
    }

    fn file(extension: &str, text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(extension).tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn setting<'a>(loaded: &'a Loaded, key: &str) -> &'a Setting {
        loaded.settings.iter().find(|setting| setting.key == key).unwrap()
    }

    #[test]
    fn a_flag_outranks_the_environment_and_that_the_file_and_each_value_tells_its_origin() {
        let file = file(".toml", "[server]\nlisten = '127.0.0.1:1'\ninternal = '127.0.0.1:2'\nhttp = '127.0.0.1:3'\n");
        let mut sources =
            environment(&[("BOLIDE_SERVER_LISTEN", "127.0.0.1:11"), ("BOLIDE_SERVER_INTERNAL", "127.0.0.1:12")]);
        sources.file = Some(file.path().to_owned());
        sources.flags = vec![("server.listen", "127.0.0.1:21".to_owned(), "--listen")];
        let loaded = load(&sources).unwrap();
        assert_eq!(loaded.config.proxy.listen.port(), 21);
        assert_eq!(loaded.config.admin.listen.port(), 12);
        assert_eq!(loaded.config.console.listen.port(), 3);
        assert_eq!(setting(&loaded, "server.listen").origin, Origin::Flag("--listen"));
        assert_eq!(
            setting(&loaded, "server.internal").origin,
            Origin::Environment("BOLIDE_SERVER_INTERNAL".to_owned())
        );
        assert_eq!(setting(&loaded, "server.http").origin, Origin::File(file.path().to_owned()));
        assert_eq!(setting(&loaded, "server.lanes").origin, Origin::Default);
    }

    #[test]
    fn a_unit_stands_in_the_value_or_in_the_name() {
        for (variable, value) in [("BOLIDE_LIMITS_MIN_INVISIBLE_MS", "1000"), ("BOLIDE_LIMITS_MIN_INVISIBLE", "1s")] {
            let loaded = load(&environment(&[(variable, value)])).unwrap();
            assert_eq!(loaded.config.proxy.invisible_min.as_millis(), 1000, "{variable}");
        }
        let yaml = file(".yaml", "limits:\n  max_request_bytes: 8388608\nstorage:\n  segment: 128MiB\n");
        let loaded = load(&Sources { file: Some(yaml.path().to_owned()), ..Sources::default() }).unwrap();
        assert_eq!(loaded.config.proxy.request_bytes_max, 8 << 20);
        assert_eq!(loaded.config.store.log.segment_bytes, 128 << 20);
        let twice = environment(&[("BOLIDE_LIMITS_MIN_INVISIBLE_MS", "1"), ("BOLIDE_LIMITS_MIN_INVISIBLE", "1s")]);
        assert!(load(&twice).unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn every_problem_is_named_at_once_with_the_nearest_known_key() {
        let file = file(".toml", "[server]\nlisten_address = '127.0.0.1:1'\n[storage]\nsegment = '12 parsecs'\n");
        let mut sources = environment(&[("BOLIDE_LIMITS_MAX_CONECTIONS", "5"), ("BOLIDE_LIMITS_MAX_TOPICS", "0")]);
        sources.file = Some(file.path().to_owned());
        let problems = load(&sources).unwrap_err().problems;
        let named = |words: &[&str]| problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)));
        assert!(named(&["server.listen_address", "nearest known one is server.listen"]), "{problems:?}");
        assert!(named(&["storage.segment", "12 parsecs"]), "{problems:?}");
        assert!(named(&["BOLIDE_LIMITS_MAX_CONECTIONS", "BOLIDE_LIMITS_MAX_CONNECTIONS"]), "{problems:?}");
        assert!(named(&["limits.max_topics", "too small"]), "{problems:?}");
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn standard_variables_are_obeyed_unless_our_own_speak() {
        let both = environment(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"),
            ("BOLIDE_OBSERVE_OTLP_ENDPOINT", "http://b:2"),
        ]);
        assert_eq!(load(&both).unwrap().config.observe.otlp_endpoint.as_deref(), Some("http://b:2"));
        let one = environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"), ("RUST_LOG", "debug")]);
        let loaded = load(&one).unwrap();
        assert_eq!(loaded.config.observe.otlp_endpoint.as_deref(), Some("http://a:1"));
        assert_eq!(loaded.config.observe.log_filter, "debug");
    }

    #[test]
    fn half_of_what_tls_needs_is_refused_and_an_address_that_nobody_would_hear_of() {
        let half = environment(&[("BOLIDE_CLUSTER_TLS_CA", "/ca.pem"), ("BOLIDE_CLUSTER_TLS_KEY", "/key.pem")]);
        assert!(load(&half).unwrap_err().to_string().contains("cluster.tls_certificate"));
        let unheard = environment(&[("BOLIDE_SERVER_EXTERNAL_ADVERTISE", "mq.example:443")]);
        assert!(load(&unheard).unwrap_err().to_string().contains("server.external_listen"));
        let both = environment(&[
            ("BOLIDE_SERVER_EXTERNAL_ADVERTISE", "mq.example:443"),
            ("BOLIDE_SERVER_EXTERNAL_LISTEN", ":9081"),
        ]);
        assert_eq!(load(&both).unwrap().config.proxy.external_listen, Some("0.0.0.0:9081".parse().unwrap()));
    }

    #[test]
    fn each_role_calls_itself_by_its_name() {
        for role in [Role::Standalone, Role::Route, Role::Broker, Role::Proxy] {
            let loaded = load(&Sources { role, ..Sources::default() }).unwrap();
            assert_eq!(setting(&loaded, "observe.node_id").value, role.name());
            assert_eq!(loaded.config.observe.node_type, role.name());
        }
    }

    #[test]
    fn two_bounds_in_the_wrong_order_are_refused() {
        let wrong = environment(&[("BOLIDE_LIMITS_MIN_LONG_POLL", "30s")]);
        assert!(load(&wrong).unwrap_err().to_string().contains("limits.max_long_poll"));
    }
}
