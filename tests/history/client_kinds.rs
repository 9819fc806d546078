//! The calls of a client for what is not a plain message: recalls, transactions, lite topics.

use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::settings::PubSub;
use bolide::wire::rocketmq::telemetry_command::Command;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::{Client, refused, resource, with_headers};
use super::{Answer, Call, Check, Request, hash_bytes};

/// Commands that a client may have on their way at once.
const COMMANDS: usize = 8;

impl Client {
    pub async fn recall(&self, topic: &str, id: &str, handle: &str, genuine: bool) -> Answer {
        let request =
            Request::Recall { topic: topic.to_owned(), id: id.to_owned(), handle: handle.to_owned(), genuine };
        let begun = self.recorder.begin(&self.name, request);
        let body = v2::RecallMessageRequest { topic: Some(resource(topic)), recall_handle: handle.to_owned() };
        let mut stub = self.stub.clone();
        let answer = match self.answered(stub.recall_message(with_headers(&self.name, body))).await {
            Some(response) => {
                Answer::Recalled { code: response.status.map_or(0, |status| status.code), id: response.message_id }
            }
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    /// Ends a transaction; `asked` when the server's question led to it.
    pub async fn resolve(&self, topic: &str, id: &str, commit: bool, asked: bool, genuine: bool) -> Answer {
        let request = Request::Resolve { topic: topic.to_owned(), id: id.to_owned(), commit, genuine };
        let begun = self.recorder.begin(&self.name, request);
        let resolution = if commit { v2::TransactionResolution::Commit } else { v2::TransactionResolution::Rollback };
        let source = if asked { v2::TransactionSource::SourceServerCheck } else { v2::TransactionSource::SourceClient };
        let body = v2::EndTransactionRequest {
            topic: Some(resource(topic)),
            message_id: id.to_owned(),
            transaction_id: id.to_owned(),
            resolution: resolution as i32,
            source: source as i32,
            trace_context: String::new(),
        };
        let mut stub = self.stub.clone();
        let answer = match self.answered(stub.end_transaction(with_headers(&self.name, body))).await {
            Some(response) => Answer::Resolved(response.status.map_or(0, |status| status.code)),
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    /// Names lite topics to read from their beginning; `whole`: these and no others.
    pub async fn subscribe_lite(&self, group: &str, topic: &str, lite_topics: &[String], whole: bool) -> Answer {
        let request = Request::Subscribe {
            group: group.to_owned(),
            topic: topic.to_owned(),
            lite_topics: lite_topics.to_vec(),
            whole,
        };
        let begun = self.recorder.begin(&self.name, request);
        let action =
            if whole { v2::LiteSubscriptionAction::CompleteAdd } else { v2::LiteSubscriptionAction::PartialAdd };
        let from_the_beginning = v2::offset_option::OffsetType::Policy(v2::offset_option::Policy::Min as i32);
        let body = v2::SyncLiteSubscriptionRequest {
            action: action as i32,
            topic: Some(resource(topic)),
            group: Some(resource(group)),
            lite_topic_set: lite_topics.to_vec(),
            version: None,
            offset_option: Some(v2::OffsetOption { offset_type: Some(from_the_beginning) }),
        };
        let mut stub = self.stub.clone();
        let answer = match self.answered(stub.sync_lite_subscription(with_headers(&self.name, body))).await {
            Some(response) => match response.status.as_ref().map_or(0, |status| status.code) {
                code if code == super::OK || Call::is_definite_refusal(code) => Answer::Subscribed(code),
                _ => refused(response.status.as_ref()),
            },
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    /// Opens a telemetry stream as a producer of these topics, which the server may ask about transactions.
    pub async fn be_asked(&self, topics: &[String]) -> Option<Questions> {
        let publishing =
            v2::Publishing { topics: topics.iter().map(|topic| resource(topic)).collect(), ..Default::default() };
        let settings = v2::Settings {
            client_type: Some(v2::ClientType::Producer as i32),
            pub_sub: Some(PubSub::Publishing(publishing)),
            user_agent: Some(v2::Ua { language: v2::Language::Java as i32, ..Default::default() }),
            ..Default::default()
        };
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let settings = v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        commands.try_send(settings).ok()?;
        let mut stub = self.stub.clone();
        let request = with_headers(&self.name, ReceiverStream::new(receiver));
        let answers = self.answered(stub.telemetry(request)).await?;
        Some(Questions { answers, _commands: commands })
    }

    /// The next question, written down; `None` when the stream is over.
    pub async fn next_question(&self, questions: &mut Questions) -> Option<Check> {
        loop {
            let command = questions.answers.message().await.ok()??;
            let Some(Command::RecoverOrphanedTransactionCommand(asked)) = command.command else { continue };
            let message = asked.message.unwrap_or_default();
            let system = message.system_properties.unwrap_or_default();
            let check = Check {
                client: self.name.clone(),
                at_us: self.recorder.now_us(),
                topic: message.topic.map_or_else(String::new, |topic| topic.name),
                id: system.message_id,
                transaction_id: asked.transaction_id,
                tag: system.tag.unwrap_or_default(),
                body_hash: hash_bytes(&message.body),
                message_group: system.message_group,
            };
            self.recorder.check(check.clone());
            return Some(check);
        }
    }
}

/// A telemetry stream on which questions arrive.
pub struct Questions {
    answers: Streaming<v2::TelemetryCommand>,
    /// The client's half stays open as long as it.
    _commands: mpsc::Sender<v2::TelemetryCommand>,
}
