//! What peers were sent for clients and have not reported as handed on. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::broker::delivery::unseen::Granted;

/// Messages remembered of one stream. Beyond, a delivery is not: should it be lost, it comes again when its lease ends.
const MESSAGES_MAX: usize = 65_536;

#[derive(Debug, Default)]
struct Stream {
    calls: HashMap<u64, Call>,
    messages: usize,
}

#[derive(Debug)]
struct Call {
    granted: Vec<Granted>,
    repeated_attempt: bool,
}

/// Of all streams, by their numbers.
#[derive(Debug, Default)]
pub struct Unseen {
    streams: BTreeMap<usize, Stream>,
}

impl Unseen {
    /// The answer of a call is written.
    pub fn sent(&mut self, stream: usize, call: u64, granted: Vec<Granted>, repeated_attempt: bool) {
        let of_stream = self.streams.entry(stream).or_default();
        if of_stream.messages + granted.len() <= MESSAGES_MAX {
            of_stream.messages += granted.len();
            // Ids are not used twice on a stream.
            of_stream.calls.insert(call, Call { granted, repeated_attempt });
        }
    }

    /// What was sent for a call is with its client. If its attempt had come again, it was sent before, over whatever stream.
    pub fn handed_on(&mut self, stream: usize, call: u64) {
        let Some(of_stream) = self.streams.get_mut(&stream) else { return };
        let Some(Call { granted, repeated_attempt }) = of_stream.calls.remove(&call) else { return };
        of_stream.messages -= granted.len();
        if repeated_attempt {
            self.kept(granted);
        }
    }

    /// These are with their clients, over whatever stream they were sent.
    pub fn kept(&mut self, granted: Vec<Granted>) {
        let seen: HashSet<Granted> = granted.into_iter().collect();
        for of_stream in self.streams.values_mut() {
            let messages = &mut of_stream.messages;
            of_stream.calls.retain(|_, Call { granted, .. }| {
                let before = granted.len();
                granted.retain(|one| !seen.contains(one));
                *messages -= before - granted.len();
                !granted.is_empty()
            });
        }
    }

    /// A stream has ended: what nobody will report any more.
    pub fn ended(&mut self, stream: usize) -> Vec<Granted> {
        let of_stream = self.streams.remove(&stream).unwrap_or_default();
        let mut granted: Vec<Granted> = of_stream.calls.into_values().flat_map(|call| call.granted).collect();
        granted.sort_unstable();
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};

    fn granted(offset: u64) -> Granted {
        let (topic, group, queue) = (TopicId(1), GroupId(1), QueueId(0));
        Granted { topic, group, queue, offset: QueueOffset(offset), grant: GrantId(offset) }
    }

    #[test]
    fn what_was_not_reported_when_a_stream_ends_is_left_over_and_nothing_else() {
        let mut unseen = Unseen::default();
        unseen.sent(1, 10, vec![granted(0), granted(1)], false);
        unseen.sent(1, 11, vec![granted(2)], false);
        unseen.sent(2, 10, vec![granted(3)], false);
        unseen.handed_on(1, 10);
        unseen.handed_on(1, 99);
        unseen.handed_on(9, 10);
        assert_eq!(unseen.ended(1), [granted(2)]);
        assert_eq!(unseen.ended(1), []);
        assert_eq!(unseen.ended(2), [granted(3)], "calls of two streams have the same ids");
    }

    #[test]
    fn a_message_that_was_handed_on_elsewhere_when_its_attempt_came_again_is_not_left_over() {
        let mut unseen = Unseen::default();
        unseen.sent(1, 10, vec![granted(0), granted(1)], false);
        unseen.sent(2, 5, vec![granted(0)], true);
        unseen.handed_on(2, 5);
        assert_eq!(unseen.ended(1), [granted(1)]);
    }

    #[test]
    fn what_is_said_to_be_kept_is_not_left_over_by_a_stream_whose_end_is_noticed_later() {
        let mut unseen = Unseen::default();
        unseen.sent(1, 10, vec![granted(0), granted(1)], false);
        unseen.kept(vec![granted(0), granted(9)]);
        assert_eq!(unseen.ended(1), [granted(1)]);
    }

    #[test]
    fn a_peer_that_never_reports_does_not_make_the_list_grow_for_ever() {
        let mut unseen = Unseen::default();
        for call in 0..10 {
            unseen.sent(1, call, (0..10_000).map(|offset| granted(call * 10_000 + offset)).collect(), false);
        }
        assert_eq!(unseen.ended(1).len(), 60_000);
    }
}
