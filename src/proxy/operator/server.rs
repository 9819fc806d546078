//! The service itself: which form answers a call. What it answers is in the files beside.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::cluster::Cluster;
use super::here::Here;
use crate::broker::Broker;
use crate::model::cluster::Revision;
use crate::route::RouteClient;
use crate::runtime::clock::{Clock, Mark};
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;
use crate::wire::admin as wire;
use crate::wire::admin::admin_server::Admin;

/// What the process knows and the broker does not.
pub struct Facts {
    /// As shown to operators.
    pub data_dir: String,
    /// Open connections on the public port.
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The logs of this process.
    pub shards: Box<dyn Fn() -> Vec<ShardFacts> + Send + Sync>,
    /// Bytes used by our own files, and bytes free on their disk.
    pub disk: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// When the process was ready.
    pub since: Mark,
    /// The clock.
    pub clock: Clock,
}

/// What a process is in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// What for.
    pub role: wire::Role,
    /// Its name.
    pub name: Arc<str>,
}

/// State of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardFacts {
    /// Which.
    pub shard: u32,
    /// Term of this opening.
    pub term: u64,
    /// Everything below was accepted.
    pub accepted_position: u64,
    /// Everything below is in the page cache.
    pub written_position: u64,
    /// Everything below is on stable storage.
    pub durable_position: u64,
    /// Everything below is in the folded state.
    pub folded_position: u64,
    /// Size of the segments.
    pub log_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Whether sends are taken.
    pub accepting: bool,
    /// Why not, in words.
    pub reason: String,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Facts {
    pub(super) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }
}

/// How far a broker has followed the catalogue.
pub type Applied = Arc<dyn Fn() -> Revision + Send + Sync>;

/// `bolide.admin.v1.Admin`, over a broker in this process or over all of a cluster. Clones share it.
#[derive(Clone, Debug)]
pub struct OperatorService {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Here(Here),
    Cluster(Cluster),
}

impl OperatorService {
    /// The service of a broker that is the whole server.
    #[must_use]
    pub fn new(broker: Broker, facts: Facts) -> Self {
        Self { form: Form::Here(Here::new(broker, facts, None)) }
    }

    /// The service of one broker of a cluster: it answers for itself, and sends away who wants to change topics and groups.
    #[must_use]
    pub fn broker(seat: Seat, broker: Broker, applied: Applied, facts: Facts) -> Self {
        Self { form: Form::Here(Here::new(broker, facts, Some((seat, applied)))) }
    }

    /// The service of a proxy or of the route service: it answers for the whole cluster. What changes several brokers runs to its
    /// end on `tasks`, also when the operator goes away.
    #[must_use]
    pub fn cluster(seat: Seat, route: RouteClient, trust: Trust, facts: Facts, tasks: Tasks) -> Self {
        Self { form: Form::Cluster(Cluster::new(seat, route, trust, facts, tasks)) }
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// One method of the service: the same verb of whichever form answers.
macro_rules! verbs {
    ($($verb:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl Admin for OperatorService {
            $(async fn $verb(&self, request: Request<wire::$request>) -> Answer<wire::$response> {
                match &self.form {
                    Form::Here(here) => here.$verb(request.into_inner()).await,
                    Form::Cluster(cluster) => cluster.$verb(request.into_inner()).await,
                }
                .map(Response::new)
            })*
        }
    };
}

verbs! {
    create_topic(CreateTopicRequest) -> CreateTopicResponse;
    update_topic(UpdateTopicRequest) -> UpdateTopicResponse;
    list_topics(ListTopicsRequest) -> ListTopicsResponse;
    show_topic(ShowTopicRequest) -> ShowTopicResponse;
    delete_topic(DeleteTopicRequest) -> DeleteTopicResponse;
    list_lite_topics(ListLiteTopicsRequest) -> ListLiteTopicsResponse;
    create_group(CreateGroupRequest) -> CreateGroupResponse;
    update_group(UpdateGroupRequest) -> UpdateGroupResponse;
    list_groups(ListGroupsRequest) -> ListGroupsResponse;
    show_group(ShowGroupRequest) -> ShowGroupResponse;
    delete_group(DeleteGroupRequest) -> DeleteGroupResponse;
    group_lag(GroupLagRequest) -> GroupLagResponse;
    list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse;
    show_dead_letter(ShowDeadLetterRequest) -> ShowDeadLetterResponse;
    redrive_dead_letters(SettleDeadLettersRequest) -> SettleDeadLettersResponse;
    purge_dead_letters(SettleDeadLettersRequest) -> SettleDeadLettersResponse;
    reset_group(ResetGroupRequest) -> ResetGroupResponse;
    status(StatusRequest) -> StatusResponse;
    show_clock(ShowClockRequest) -> ShowClockResponse;
    advance_clock(AdvanceClockRequest) -> AdvanceClockResponse;
    list_transactions(ListTransactionsRequest) -> ListTransactionsResponse;
    end_transaction(EndTransactionRequest) -> EndTransactionResponse;
    cluster_status(ClusterStatusRequest) -> ClusterStatusResponse;
    await_revision(AwaitRevisionRequest) -> AwaitRevisionResponse;
    drain_broker(DrainBrokerRequest) -> DrainBrokerResponse;
    forget_broker(ForgetBrokerRequest) -> ForgetBrokerResponse;
    show_broker(ShowBrokerRequest) -> ShowBrokerResponse;
    rebalance_topic(RebalanceTopicRequest) -> RebalanceTopicResponse;
    list_moves(ListMovesRequest) -> ListMovesResponse;
    rotate_receipt_key(RotateReceiptKeyRequest) -> RotateReceiptKeyResponse;
}
