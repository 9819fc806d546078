//! The clock of a server that was started for tests: shown, and moved ahead.

use tonic::Status;

use super::convert::{duration_in, duration_out, invalid, timestamp_out};
use crate::broker::Broker;
use crate::runtime::clock::{AdvanceError, Clock};
use crate::wire::admin as wire;

pub(super) fn show(clock: &Clock) -> wire::ShowClockResponse {
    wire::ShowClockResponse {
        now: Some(timestamp_out(clock.now())),
        movable: clock.is_movable(),
        ahead: Some(duration_out(clock.ahead())),
    }
}

pub(super) fn advance(
    broker: &Broker,
    clock: &Clock,
    request: &wire::AdvanceClockRequest,
) -> Result<wire::AdvanceClockResponse, Status> {
    let by = request.by.as_ref().ok_or_else(|| invalid("by", "is missing"))?;
    let by = duration_in("by", by)?;
    let now = broker.advance_clock(by).map_err(|error| match error {
        AdvanceError::Fixed => Status::failed_precondition(error.to_string()),
        AdvanceError::TooFar => invalid("by", &error.to_string()),
    })?;
    Ok(wire::AdvanceClockResponse { now: Some(timestamp_out(now)), ahead: Some(duration_out(clock.ahead())) })
}
