//! One document made of every room's options: where each value comes from, what it may be, what it means.

pub mod units;
