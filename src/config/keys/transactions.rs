//! `broker.transaction_*`: when producers are asked about undecided transactions, and how long ends are remembered.

use super::{DAY, Key, YEAR, millis, seconds};
use crate::config::value::Access;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "broker.transaction_first_check",
        help: "How long an undecided transaction is left alone when its message does not say.",
        access: Access::Duration { at: |c| &mut c.broker.transactions.first_check, min: millis(1), max: DAY },
    },
    Key {
        name: "broker.transaction_check_pause",
        help: "Pause after the first check of a transaction; it doubles with each.",
        access: Access::Duration { at: |c| &mut c.broker.transactions.check_pause, min: millis(1), max: DAY },
    },
    Key {
        name: "broker.transaction_check_pause_max",
        help: "Longest pause between two checks of a transaction.",
        access: Access::Duration { at: |c| &mut c.broker.transactions.check_pause_max, min: millis(1), max: DAY },
    },
    Key {
        name: "broker.transaction_checks",
        help: "Checks that reached a client, after which an undecided transaction is given up; an operator can still settle it.",
        access: Access::CountU32 { at: |c| &mut c.broker.transactions.checks_max, min: 1, max: 1_000 },
    },
    Key {
        name: "broker.transaction_ends_kept",
        help: "How long it is remembered how a transaction ended, so that a repeated answer hears the truth.",
        access: Access::Duration { at: |c| &mut c.broker.transactions.ends_kept, min: seconds(60), max: YEAR },
    },
    Key {
        name: "broker.transaction_discarded_kept",
        help: "How long a transaction that was given up can still be settled by hand.",
        access: Access::Duration { at: |c| &mut c.broker.transactions.discarded_kept, min: seconds(60), max: YEAR },
    },
    Key {
        name: "limits.max_pending_transactions",
        help: "Undecided transactions; more are answered 42900.",
        access: Access::CountUsize { at: |c| &mut c.broker.transactions.pending_max, min: 1, max: 10_000_000 },
    },
];
