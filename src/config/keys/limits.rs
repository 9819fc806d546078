//! `limits.*` and `broker.*`: what clients may ask for, how much of everything there may be, what comes into being by itself.

use super::{DAY, Key, MIB, YEAR, millis, seconds};
use crate::config::value::Access;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "limits.min_invisible",
        help: "Shortest invisible duration of a receive that is not renewed automatically.",
        access: Access::Duration { at: |c| &mut c.proxy.invisible_min, min: millis(1), max: DAY },
    },
    Key {
        name: "limits.max_invisible",
        help: "Longest invisible duration.",
        access: Access::Duration { at: |c| &mut c.proxy.invisible_max, min: seconds(1), max: YEAR },
    },
    Key {
        name: "limits.min_long_poll",
        help: "Shortest wait of an empty receive; shorter wishes are raised to it.",
        access: Access::Duration { at: |c| &mut c.proxy.long_poll_min, min: millis(1), max: seconds(300) },
    },
    Key {
        name: "limits.max_long_poll",
        help: "Longest wait of an empty receive; longer wishes are lowered to it.",
        access: Access::Duration { at: |c| &mut c.proxy.long_poll_max, min: millis(1), max: seconds(300) },
    },
    Key {
        name: "limits.delivery_horizon",
        help: "How far ahead the delivery time of a message may lie.",
        access: Access::Duration {
            at: |c| &mut c.proxy.delivery_horizon,
            min: seconds(1),
            max: seconds(3660 * 86_400),
        },
    },
    Key {
        name: "limits.max_request",
        help: "Largest request as it arrives. A send also holds no more than 1024 messages and 16 MiB, which is fixed.",
        access: Access::SizeUsize { at: |c| &mut c.proxy.request_bytes_max, min: 5 * MIB, max: 1024 * MIB },
    },
    Key {
        name: "limits.max_send_in_flight",
        help: "Message bytes of sends that wait for their answer, over all clients; more are answered 42900.",
        access: Access::Size { at: |c| &mut c.proxy.send_bytes_in_flight_max, min: MIB, max: 64 * 1024 * MIB },
    },
    Key {
        name: "limits.max_arriving",
        help: "Bytes of unfinished requests, over all clients; more are refused as RESOURCE_EXHAUSTED.",
        access: Access::Size { at: |c| &mut c.proxy.arriving_bytes_max, min: MIB, max: 64 * 1024 * MIB },
    },
    Key {
        name: "limits.max_connections",
        help: "Open connections on the public port; more are closed at once.",
        access: Access::Count { at: |c| &mut c.proxy.connections_max, min: 1, max: 1_000_000 },
    },
    Key {
        name: "limits.max_streams_per_connection",
        help: "Open requests of one connection. One connection carries all long polls of a client.",
        access: Access::CountU32 { at: |c| &mut c.proxy.streams_per_connection_max, min: 10_000, max: 1_000_000 },
    },
    Key {
        name: "limits.max_telemetry_streams",
        help: "Open telemetry streams; more are answered 42900.",
        access: Access::Count { at: |c| &mut c.proxy.telemetry_streams_max, min: 1, max: 1_000_000 },
    },
    Key {
        name: "limits.max_sessions",
        help: "Clients whose settings are remembered.",
        access: Access::CountUsize { at: |c| &mut c.proxy.sessions_max, min: 1, max: 10_000_000 },
    },
    Key {
        name: "limits.max_pollers",
        help: "Receives that wait at once, over all groups; more are answered 42900.",
        access: Access::CountUsize { at: |c| &mut c.broker.pollers_max, min: 1, max: 1_000_000 },
    },
    Key {
        name: "limits.max_pollers_per_group",
        help: "Receives of one group and topic that wait at once; more are answered 42900.",
        access: Access::CountUsize { at: |c| &mut c.broker.pollers_per_group_max, min: 1, max: 1_000_000 },
    },
    Key {
        name: "limits.max_outstanding_per_queue",
        help: "Unfinished deliveries of one group in one queue; beyond it nothing new is delivered from there.",
        access: Access::CountUsize { at: |c| &mut c.broker.outstanding_per_queue_max, min: 32, max: 10_000_000 },
    },
    Key {
        name: "limits.max_topics",
        help: "Topics; creating more is refused.",
        access: Access::CountUsize { at: |c| &mut c.broker.topics_max, min: 1, max: 1_000_000 },
    },
    Key {
        name: "limits.max_groups",
        help: "Consumer groups; creating more is refused.",
        access: Access::CountUsize { at: |c| &mut c.broker.groups_max, min: 1, max: 1_000_000 },
    },
    Key {
        name: "limits.max_lite_topics_per_topic",
        help: "Lite topics below one parent; a message that would begin one more is answered 42901.",
        access: Access::CountUsize { at: |c| &mut c.broker.lite_topics_per_topic_max, min: 1, max: 10_000_000 },
    },
    Key {
        name: "limits.max_lite_topics",
        help: "Lite topics below all parents; a message that would begin one more is answered 42901.",
        access: Access::CountUsize { at: |c| &mut c.broker.lite_topics_max, min: 1, max: 10_000_000 },
    },
    Key {
        name: "limits.max_lite_subscriptions_per_client",
        help: "Lite topics that one client of a group subscribes to; more are answered 42902.",
        access: Access::CountUsize { at: |c| &mut c.broker.lite_subscriptions_per_client_max, min: 1, max: 1_000_000 },
    },
    Key {
        name: "limits.max_lite_subscriptions",
        help: "Lite subscriptions of all clients; more are answered 42902.",
        access: Access::CountUsize { at: |c| &mut c.broker.lite_subscriptions_max, min: 1, max: 10_000_000 },
    },
    Key {
        name: "limits.max_members",
        help: "Live clients that are remembered.",
        access: Access::CountUsize { at: |c| &mut c.broker.members_max, min: 1, max: 10_000_000 },
    },
    Key {
        name: "broker.auto_create_groups",
        help: "Whether a consumer group comes into being at its first use.",
        access: Access::Flag { at: |c| &mut c.broker.auto_create_groups },
    },
    Key {
        name: "broker.auto_create_topics",
        help: "Whether a topic comes into being at its first send.",
        access: Access::Flag { at: |c| &mut c.broker.auto_create_topics },
    },
    Key {
        name: "broker.session_timeout",
        help: "Silence after which a client counts as gone and its automatically renewed messages return.",
        access: Access::Duration { at: |c| &mut c.broker.session_timeout, min: seconds(1), max: DAY },
    },
    Key {
        name: "broker.slow_session_timeout",
        help: "The same for clients that send a heartbeat every 30 s only.",
        access: Access::Duration { at: |c| &mut c.broker.slow_session_timeout, min: seconds(1), max: DAY },
    },
    Key {
        name: "broker.lite_subscription_timeout",
        help: "Silence after which the lite subscriptions of a client end; clients repeat theirs every 30 s.",
        access: Access::Duration { at: |c| &mut c.broker.lite_subscription_timeout, min: seconds(1), max: DAY },
    },
    Key {
        name: "broker.entries_in_memory",
        help: "Queue entries kept in memory for consumers near the tail, over all queues.",
        access: Access::CountUsize { at: |c| &mut c.broker.entries_in_memory_max, min: 1_024, max: 100_000_000 },
    },
];
