//! Settings that the broker obeys.

use std::time::Duration;

/// See each field. All apply at start.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Whether a consumer group that nobody created comes into being at its first use. Default true (rule C4).
    pub auto_create_groups: bool,
    /// Whether a topic that nobody created comes into being at its first send. Default false (rule C4).
    pub auto_create_topics: bool,
    /// Most outstanding deliveries of one group in one queue; beyond it nothing new is delivered. Default 20 000.
    pub outstanding_per_queue_max: usize,
    /// Most receives that wait at once, over all groups. Default 10 000; beyond it 42900.
    pub pollers_max: usize,
    /// Most receives of one group and topic that wait at once. Default 1 024; beyond it 42900.
    pub pollers_per_group_max: usize,
    /// Queue entries kept in memory for consumers near the tail, over all queues. Default 131 072.
    pub entries_in_memory_max: usize,
    /// Timers of delayed messages kept in memory, the next ones; the others are read from the fold in time. Default 65 536.
    pub delays_in_memory_max: usize,
    /// Most topics. Default 10 000.
    pub topics_max: usize,
    /// Most consumer groups. Default 10 000.
    pub groups_max: usize,
    /// Most lite topics below one parent. Default 100 000; beyond it 42901.
    pub lite_topics_per_topic_max: usize,
    /// Most lite topics below all parents. Default 200 000; beyond it 42901.
    pub lite_topics_max: usize,
    /// Most lite topics one client of a group subscribes to. Default 2 000; beyond it 42902.
    pub lite_subscriptions_per_client_max: usize,
    /// Most lite subscriptions of all clients. Default 200 000; beyond it 42902.
    pub lite_subscriptions_max: usize,
    /// How long a client may neither sync nor receive before its lite subscriptions end. Default 3 min; clients sync every 30 s.
    pub lite_subscription_timeout: Duration,
    /// Most members (live clients) remembered. Default 50 000.
    pub members_max: usize,
    /// How long a client may be silent before its auto-renewed messages return. Default 15 s.
    pub session_timeout: Duration,
    /// The same for clients that heartbeat every 30 s only (Rust). Default 65 s.
    pub slow_session_timeout: Duration,
    /// See each field.
    pub transactions: TransactionOptions,
}

/// Settings of transactions. All apply at start.
#[derive(Clone, Debug)]
pub struct TransactionOptions {
    /// How long an undecided half message is left alone when its sender does not say. Default 6 s (rule C21).
    pub first_check: Duration,
    /// Pause after the first check; it doubles with each. Default 30 s.
    pub check_pause: Duration,
    /// Longest pause between checks. Default 10 min.
    pub check_pause_max: Duration,
    /// Delivered checks after which an undecided half message is given up. Default 15.
    pub checks_max: u32,
    /// Most undecided half messages; beyond it 42900. Default 100 000.
    pub pending_max: usize,
    /// How long it is remembered how a transaction ended. Default 24 h.
    pub ends_kept: Duration,
    /// How long a half message that was given up can still be settled by hand. Default 72 h.
    pub discarded_kept: Duration,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            first_check: Duration::from_secs(6),
            check_pause: Duration::from_secs(30),
            check_pause_max: Duration::from_secs(600),
            checks_max: 15,
            pending_max: 100_000,
            ends_kept: 24 * HOUR,
            discarded_kept: 72 * HOUR,
        }
    }
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            auto_create_groups: true,
            auto_create_topics: false,
            outstanding_per_queue_max: 20_000,
            pollers_max: 10_000,
            pollers_per_group_max: 1_024,
            entries_in_memory_max: 131_072,
            delays_in_memory_max: 65_536,
            topics_max: 10_000,
            groups_max: 10_000,
            lite_topics_per_topic_max: 100_000,
            lite_topics_max: 200_000,
            lite_subscriptions_per_client_max: 2_000,
            lite_subscriptions_max: 200_000,
            lite_subscription_timeout: Duration::from_secs(180),
            members_max: 50_000,
            session_timeout: Duration::from_secs(15),
            slow_session_timeout: Duration::from_secs(65),
            transactions: TransactionOptions::default(),
        }
    }
}
