import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** What is not acked comes back, counted, until its attempts are used up. */
final class RedeliveryCases {
    private static final Duration SHORT = Duration.ofSeconds(1);
    private static final Duration LEASE = Duration.ofSeconds(10);
    private static final Duration SOON = Duration.ofSeconds(30);
    /** Longer than the back-off of a group's first two attempts, however the table is counted. */
    private static final Duration BACKED_OFF = Duration.ofSeconds(60);

    private final Names names;

    RedeliveryCases(Names names) {
        this.names = names;
    }

    void nackRedelivers(Clients clients) throws Exception {
        String topic = names.topic("nack");
        byte[] body = "come back".getBytes(UTF_8);
        String id = Clients.send(clients.producer(topic), topic, body);

        SimpleConsumer consumer = clients.simple(names.group("nack"), topic);
        MessageView first = Check.receiveOne(consumer, Duration.ofSeconds(60), SOON);
        delivered(first, id, body, 1);
        long begun = System.nanoTime();
        consumer.changeInvisibleDuration(first, SHORT);
        MessageView second = Check.receiveOne(consumer, LEASE, SOON);
        Duration away = Duration.ofNanos(System.nanoTime() - begun);
        delivered(second, id, body, 2);
        Check.that(away.toMillis() >= 950, "hidden for 1 s, but it came back after " + away);
        consumer.ack(second);
    }

    void expiredAckRefused(Clients clients) throws Exception {
        String topic = names.topic("expired");
        byte[] body = "too late".getBytes(UTF_8);
        String id = Clients.send(clients.producer(topic), topic, body);

        SimpleConsumer consumer = clients.simple(names.group("expired"), topic);
        MessageView first = Check.receiveOne(consumer, SHORT, SOON);
        delivered(first, id, body, 1);
        // Time is the condition: the lease of one second runs out.
        Thread.sleep(1_500);
        Check.ackRefused(consumer, first, "an ack after the lease");
        MessageView second = Check.receiveOne(consumer, LEASE, SOON);
        delivered(second, id, body, 2);
        Check.ackRefused(consumer, first, "an ack with the handle of an earlier delivery");
        consumer.ack(second);
        Check.receivesNothing(consumer, LEASE, LEASE, "the second delivery was acked");
    }

    void doubleAck(Clients clients) throws Exception {
        String topic = names.topic("double-ack");
        Clients.send(clients.producer(topic), topic, "once".getBytes(UTF_8));
        SimpleConsumer consumer = clients.simple(names.group("double-ack"), topic);
        MessageView view = Check.receiveOne(consumer, LEASE, SOON);
        consumer.ack(view);
        consumer.ack(view);
    }

    void pushFailureRedelivers(Clients clients) throws Exception {
        String topic = names.topic("push-fail");
        byte[] body = "fails once".getBytes(UTF_8);
        String id = Clients.send(clients.producer(topic), topic, body);

        Queue<MessageView> seen = new ConcurrentLinkedQueue<>();
        Queue<Long> arrivals = new ConcurrentLinkedQueue<>();
        clients.push(names.group("push-fail"), topic, view -> {
            arrivals.add(System.nanoTime());
            seen.add(view);
            return view.getDeliveryAttempt() == 1 ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
        });
        Check.eventually(BACKED_OFF, () -> seen.size() >= 2, "the failed message did not come back");
        long first = arrivals.remove();
        Duration away = Duration.ofNanos(arrivals.remove() - first);
        Check.that(away.toMillis() >= 950, "the back-off is 1 s at least, but the message came back after " + away);
        // Time is the condition: longer than the back-off of either attempt, so that a lost ack would show.
        Thread.sleep(12_000);
        expectAttempts(List.copyOf(seen), id, body);
    }

    /** Once by a simple consumer's leases, once by a push consumer's failing listener. */
    void deadLetter(Clients clients) throws Exception {
        String topic = names.topic("dead");
        String leased = names.group("dead-leased", "--max-attempts 2");
        String pushed = names.group("dead-pushed", "--max-attempts 2");
        byte[] body = Check.randomBytes(300, 42);
        String id = Clients.send(clients.producer(topic), topic, body);

        Queue<MessageView> seen = new ConcurrentLinkedQueue<>();
        clients.push(pushed, topic, view -> {
            seen.add(view);
            return ConsumeResult.FAILURE;
        });

        SimpleConsumer consumer = clients.simple(leased, topic);
        for (int attempt = 1; attempt <= 2; attempt++) {
            MessageView view = Check.receiveOne(consumer, LEASE, SOON);
            delivered(view, id, body, attempt);
            consumer.changeInvisibleDuration(view, SHORT);
        }
        expectDeadLetter(clients, leased, id, body);
        Check.receivesNothing(consumer, LEASE, Duration.ZERO, "both attempts were used up");

        Check.eventually(BACKED_OFF, () -> seen.size() >= 2, "the failed message did not come back");
        expectDeadLetter(clients, pushed, id, body);
        expectAttempts(List.copyOf(seen), id, body);
    }

    private void expectDeadLetter(Clients clients, String group, String id, byte[] body) throws Exception {
        String queue = "%DLQ%" + group;
        // The queue appears with its first message; a consumer cannot be built before.
        SimpleConsumer consumer = Check.retry(BACKED_OFF, () -> clients.simple(group + "-letters", queue));
        MessageView view = Check.receiveOne(consumer, LEASE, BACKED_OFF);
        Check.equal(queue, view.getTopic(), "topic of the dead letter");
        Check.equal(id, view.getMessageId().toString(), "message id of the dead letter");
        Check.sameBody(body, view);
        consumer.ack(view);
    }

    private static void expectAttempts(List<MessageView> views, String id, byte[] body) {
        Check.equal(2, views.size(), "deliveries");
        for (int n = 0; n < views.size(); n++) {
            delivered(views.get(n), id, body, n + 1);
        }
    }

    private static void delivered(MessageView view, String id, byte[] body, int attempt) {
        Check.equal(id, view.getMessageId().toString(), "message id");
        Check.sameBody(body, view);
        Check.equal(attempt, view.getDeliveryAttempt(), "delivery attempt");
    }
}
