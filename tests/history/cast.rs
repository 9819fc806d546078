//! Who plays in a history: topics of every kind, the groups that read them, and the programs of their clients.

use std::collections::BTreeMap;

use bolide::runtime::entropy::Entropy;
use tokio::task::JoinHandle;

use super::GroupTerms;
use super::client::SQL;
use super::workload::{Kind, Membership, Outlet, Stage, consumer, producer};
use super::workload_kinds::{answerer, dealer, lite_topics, planner};

const ALL_TOPICS: [(&str, Kind); 8] = [
    ("one", Kind::Normal),
    ("two", Kind::Normal),
    ("line", Kind::Ordered),
    ("later", Kind::Delayed),
    ("deals", Kind::Transactional),
    ("levels", Kind::Priority),
    ("parent", Kind::Lite),
    ("mixed", Kind::Mixed),
];

/// A group, and the clients that are its members.
#[derive(Clone, Copy)]
pub struct Role {
    pub group: &'static str,
    pub topic: &'static str,
    pub tags: &'static [&'static str],
    pub consumers: usize,
    /// As the group is created.
    pub ordered: Option<bool>,
    /// Whether its members name their tags by an expression.
    pub judges: bool,
}

const fn role(group: &'static str, topic: &'static str, consumers: usize) -> Role {
    Role { group, topic, tags: &[], consumers, ordered: None, judges: false }
}

const HASTY_ROLES: [Role; 12] = [
    role("all", "one", 2),
    Role { tags: &["A"], ..role("some", "one", 1) },
    Role { tags: &["A", "B"], ..role("more", "one", 1) },
    Role { tags: &["A", "B"], judges: true, ..role("judges", "one", 1) },
    role("two", "two", 1),
    role("queue", "line", 2),
    Role { ordered: Some(false), ..role("crowd", "line", 1) },
    role("later", "later", 1),
    role("deals", "deals", 1),
    role("levels", "levels", 1),
    role("fans", "parent", 2),
    Role { ordered: Some(true), ..role("mixed", "mixed", 2) },
];

/// After a restart a lane of theirs may wait half a minute for a member that takes what these do not.
const PATIENT_ROLES: [Role; 1] = [Role { tags: &["A", "B"], ..role("picky", "line", 1) }];

pub fn topics() -> Vec<(&'static str, Kind)> {
    ALL_TOPICS.to_vec()
}

/// The names of one history, which begin with its prefix.
#[derive(Clone)]
pub struct Cast {
    prefix: String,
    /// Whether the end of the history waits long enough for every role.
    is_patient: bool,
}

impl Cast {
    pub fn new(prefix: &str, is_patient: bool) -> Self {
        Self { prefix: prefix.to_owned(), is_patient }
    }

    pub fn roles(&self) -> Vec<Role> {
        let patient = PATIENT_ROLES.into_iter().filter(|_| self.is_patient);
        HASTY_ROLES.into_iter().chain(patient).collect()
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub fn terms(&self, max_attempts: u32) -> BTreeMap<String, GroupTerms> {
        let terms = |role: &Role| GroupTerms {
            topic: self.name(role.topic),
            tags: role.tags.iter().map(|&tag| tag.to_owned()).collect(),
            max_attempts,
            judges: role.judges,
            ordered: role.ordered.unwrap_or(matches!(kind_of(role.topic), Kind::Ordered | Kind::Lite)),
        };
        self.roles().iter().map(|role| (self.name(role.group), terms(role))).collect()
    }

    pub fn members(&self) -> Vec<Membership> {
        let roles = self.roles();
        (0..roles.len()).map(|place| self.member(&roles, place)).collect()
    }

    fn member(&self, roles: &[Role], place: usize) -> Membership {
        let role = &roles[place];
        Membership {
            group: self.name(role.group),
            topic: self.name(role.topic),
            expression: match role.tags {
                [] => "*".to_owned(),
                tags if role.judges => format!("{SQL}TAGS IN ('{}') AND n IS NOT NULL", tags.join("', '")),
                tags => tags.join(" || "),
            },
            stranger: self.name(roles[(place + 1) % roles.len()].group),
            lite_topics: if kind_of(role.topic) == Kind::Lite { lite_topics() } else { Vec::new() },
        }
    }

    fn outlets(&self, kinds: &[Kind]) -> Vec<Outlet> {
        let wanted = topics().into_iter().filter(|(_, kind)| kinds.contains(kind));
        wanted.map(|(topic, kind)| Outlet { topic: self.name(topic), kind }).collect()
    }

    /// Starts every client; each ends when it is told to stop.
    pub fn start(&self, stage: &Stage, entropy: &Entropy) -> Vec<JoinHandle<()>> {
        let own = || Entropy::seeded(entropy.next_u64());
        let mut clients = Vec::new();
        let producers: [(&str, &[Kind]); 5] = [
            ("p0", &[Kind::Normal]),
            ("p1", &[Kind::Normal, Kind::Priority, Kind::Lite]),
            ("p2", &[Kind::Ordered, Kind::Mixed]),
            ("p3", &[Kind::Ordered, Kind::Lite]),
            // More than its consumer takes at once, so that there is something to choose from.
            ("p4", &[Kind::Priority]),
        ];
        for (name, kinds) in producers {
            let outlets = self.outlets(kinds);
            if !outlets.is_empty() {
                clients.push(tokio::spawn(producer(stage.clone(), name.to_owned(), outlets, own())));
            }
        }
        let delayed = self.outlets(&[Kind::Delayed, Kind::Mixed]);
        if !delayed.is_empty() {
            clients.push(tokio::spawn(planner(stage.clone(), "planner".to_owned(), delayed, own())));
        }
        let transactional = self.outlets(&[Kind::Transactional, Kind::Mixed, Kind::Lite]);
        if !transactional.is_empty() {
            clients.push(tokio::spawn(dealer(stage.clone(), "dealer".to_owned(), transactional.clone(), own())));
            clients.push(tokio::spawn(answerer(stage.clone(), "answerer".to_owned(), transactional, own())));
        }
        let roles = self.roles();
        for (place, role) in roles.iter().enumerate() {
            for number in 0..role.consumers {
                let name = format!("c.{}{}.{number}", self.prefix, role.group);
                clients.push(tokio::spawn(consumer(stage.clone(), name, self.member(&roles, place), own())));
            }
        }
        clients
    }
}

pub fn kind_of(topic: &str) -> Kind {
    ALL_TOPICS.iter().find(|(name, _)| *name == topic).map_or(Kind::Normal, |(_, kind)| *kind)
}
