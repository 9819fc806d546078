//! Verdicts are never older than the question, and what is not known is never decided.

use super::*;
use crate::broker::delivery::testing::{entry, tagged};
use crate::broker::delivery::verdicts::Verdict;
use crate::model::tag::{TagFilter, tag_hash};

fn sql(text: &str) -> Filter {
    Filter::Sql(Arc::new(Sql::parse(text).unwrap()))
}

fn at(second: u64) -> Timestamp {
    Timestamp(second * 1_000)
}

fn asker(own: FilterIndex) -> Asker {
    Asker { own, expects_unknown: false, now: at(0) }
}

/// Everyone who is asked says the same.
fn ruled(filters: &Filters, verdicts: &mut Verdicts, offset: u64, wanted: &[FilterIndex]) {
    let judges = filters.judges(at(0));
    let mut verdict = judges.none();
    verdict.wanted = wanted.iter().fold(0, |bits, index| bits | 1 << index);
    verdicts.add(entry(offset).offset, verdict, filters.still_valid(&judges));
}

#[test]
fn a_message_is_nobodys_before_every_expression_has_judged_it() {
    let (mut filters, mut verdicts) = (Filters::default(), Verdicts::default());
    let (a, _) = filters.note(&sql("a"), at(0));
    let (tag, _) = filters.note(&TagFilter::parse("A").unwrap().into(), at(0));
    assert_eq!(filters.want(&asker(a), &entry(0), &verdicts), Want::Unjudged);
    assert_eq!(filters.want(&asker(tag), &entry(0), &verdicts), Want::Unjudged, "the other may want it");
    let wanted_by_tag = tagged(0, tag_hash("A"));
    assert_eq!(filters.want(&asker(tag), &wanted_by_tag, &verdicts), Want::Here, "whatever the other wants");
    ruled(&filters, &mut verdicts, 0, &[]);
    assert_eq!(filters.want(&asker(a), &entry(0), &verdicts), Want::Nobody);
    assert_eq!(filters.want(&asker(a), &wanted_by_tag, &verdicts), Want::Elsewhere);
    let (b, _) = filters.note(&sql("b"), at(0));
    assert_eq!(filters.want(&asker(a), &entry(0), &verdicts), Want::Unjudged, "a new member may want it");
    ruled(&filters, &mut verdicts, 0, &[b]);
    assert_eq!(filters.want(&asker(a), &entry(0), &verdicts), Want::Elsewhere);
    assert_eq!(filters.want(&asker(b), &entry(0), &verdicts), Want::Here);
}

#[test]
fn a_filter_out_of_use_keeps_nothing_back() {
    let (mut filters, mut verdicts) = (Filters::default(), Verdicts::default());
    let (a, _) = filters.note(&sql("a"), at(0));
    filters.note(&sql("b"), at(0));
    assert!(filters.may_be_wanted(&entry(0), &verdicts, at(119)));
    filters.note(&sql("a"), at(119));
    let late = Asker { now: at(120), ..asker(a) };
    verdicts.add(entry(0).offset, Verdict { known: 1 << a, wanted: 0 }, 1 << a);
    assert_eq!(filters.want(&late, &entry(0), &verdicts), Want::Nobody);
    assert!(!filters.may_be_wanted(&entry(0), &verdicts, at(120)));
}

#[test]
fn a_filter_in_the_place_of_another_does_not_inherit_its_verdicts() {
    let (mut filters, mut verdicts) = (Filters::default(), Verdicts::default());
    let (first, _) = filters.note(&sql("first"), at(0));
    let judges = filters.judges(at(0));
    ruled(&filters, &mut verdicts, 0, &[first]);
    let (second, replaced) = filters.note(&sql("second"), at(120));
    assert!(replaced && second == first);
    verdicts.forget(second);
    // And what was on its way for the first one comes too late.
    verdicts.add(entry(0).offset, judges.all(), filters.still_valid(&judges));
    assert_eq!(filters.want(&Asker { now: at(120), ..asker(second) }, &entry(0), &verdicts), Want::Unjudged);
}

#[test]
fn filters_are_bounded_and_the_longest_unused_makes_room() {
    let mut filters = Filters::default();
    for index in 0..FILTERS_MAX {
        assert_eq!(filters.note(&sql(&format!("a = {index}")), Timestamp(index as u64)), (index, false));
    }
    filters.note(&sql("a = 0"), Timestamp(100));
    assert_eq!(filters.note(&sql("one_more"), Timestamp(101)), (1, true));
    assert_eq!(filters.judges(Timestamp(101)).expressions().len(), FILTERS_MAX);
}

#[test]
fn verdicts_that_nobody_needs_are_swept_and_those_needed_stay() {
    let (mut filters, mut verdicts) = (Filters::default(), Verdicts::default());
    let (a, _) = filters.note(&sql("a"), at(0));
    for offset in 0..10_000 {
        verdicts.sweep(|offset| offset.get() >= 9_999);
        ruled(&filters, &mut verdicts, offset, &[a]);
    }
    assert_eq!(filters.want(&asker(a), &entry(9_999), &verdicts), Want::Here);
    assert_eq!(filters.want(&asker(a), &entry(0), &verdicts), Want::Unjudged);
}
