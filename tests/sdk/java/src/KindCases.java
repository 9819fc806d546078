import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** Order, time, transactions, filters, dead letters that come back, namespaces. */
final class KindCases {
    static final Duration LEASE = Duration.ofSeconds(30);
    static final Duration POLLED = Duration.ofSeconds(5);
    private static final List<String> GROUPS = List.of("g0", "g1", "g2", "g3");
    private static final int STEPS = 8;

    private final Names names;

    KindCases(Names names) {
        this.names = names;
    }

    static String text(MessageView view) {
        return new String(Check.body(view), UTF_8);
    }

    /** Receives until so many messages came; acks each. */
    static List<MessageView> consume(SimpleConsumer consumer, int count, int most) throws ClientException {
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        List<MessageView> came = new ArrayList<>();
        while (came.size() < count) {
            Check.that(System.nanoTime() < deadline, came.size() + " of " + count + " came");
            for (MessageView view : consumer.receive(most, LEASE)) {
                consumer.ack(view);
                came.add(view);
            }
        }
        return came;
    }

    static List<String> texts(List<MessageView> views) {
        return views.stream().map(KindCases::text).toList();
    }

    void fifoOrder(Clients clients) throws Exception {
        String topic = names.topic("fifo", "fifo");
        Producer producer = clients.producer(topic);
        Map<String, List<String>> expected = new TreeMap<>();
        for (int step = 0; step < STEPS; step++) {
            for (String group : GROUPS) {
                String body = group + "-" + step;
                producer.send(Clients.message(topic, body.getBytes(UTF_8)).setMessageGroup(group).build());
                expected.computeIfAbsent(group, any -> new ArrayList<>()).add(body);
            }
        }

        // This client consumes a failed message of an ordered group again by itself, before anything behind it.
        Queue<String[]> pushed = new ConcurrentLinkedQueue<>();
        AtomicBoolean failed = new AtomicBoolean();
        clients.push(names.group("fifo-push", "--ordered"), topic, view -> {
            pushed.add(new String[] {view.getMessageGroup().orElse(""), text(view)});
            boolean fails = text(view).equals("g1-3") && failed.compareAndSet(false, true);
            return fails ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
        });

        SimpleConsumer consumer = clients.simple(names.group("fifo-simple"), topic);
        Map<String, List<String>> simple = new TreeMap<>();
        boolean givenBack = false;
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        for (int came = 0; came < GROUPS.size() * STEPS; ) {
            Check.that(System.nanoTime() < deadline, "only " + simple);
            boolean givingUp = false;
            for (MessageView view : consumer.receive(5, LEASE)) {
                String group = view.getMessageGroup().orElse("");
                if (text(view).equals("g2-2") && !givenBack) {
                    givenBack = true;
                    givingUp = true;
                }
                if (group.equals("g2") && givingUp) {
                    // The head, and those behind it that this batch holds as well.
                    consumer.changeInvisibleDuration(view, Duration.ofSeconds(1));
                    continue;
                }
                consumer.ack(view);
                simple.computeIfAbsent(group, any -> new ArrayList<>()).add(text(view));
                came++;
            }
        }
        Check.that(givenBack, "the head of g2 was never seen");
        Check.equal(expected, simple, "order of the simple consumer");
        Check.receivesNothing(consumer, LEASE, POLLED, "all were acked");

        int all = GROUPS.size() * STEPS + 1;
        Check.eventually(Duration.ofSeconds(60), () -> pushed.size() >= all, "not all were pushed");
        Map<String, List<String>> byGroup = new TreeMap<>();
        pushed.forEach(one -> byGroup.computeIfAbsent(one[0], any -> new ArrayList<>()).add(one[1]));
        expected.get("g1").add(3, "g1-3");
        Check.equal(expected, byGroup, "order of the push consumer");
    }

    void delayed(Clients clients) throws Exception {
        String topic = names.topic("delayed", "delay");
        Producer producer = clients.producer(topic);
        SimpleConsumer consumer = clients.simple(names.group("delayed"), topic);
        long due = System.currentTimeMillis() + 3_000;
        producer.send(Clients.message(topic, "past".getBytes(UTF_8)).setDeliveryTimestamp(due - 60_000).build());
        producer.send(Clients.message(topic, "later".getBytes(UTF_8)).setDeliveryTimestamp(due).build());
        Map<String, Long> arrival = new TreeMap<>();
        long deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
        while (arrival.size() < 2) {
            Check.that(System.nanoTime() < deadline, "only " + arrival.keySet());
            for (MessageView view : consumer.receive(32, LEASE)) {
                arrival.put(text(view), System.currentTimeMillis());
                consumer.ack(view);
                if (text(view).equals("later")) {
                    Check.equal(due, view.getDeliveryTimestamp().orElse(0L), "delivery time");
                }
            }
        }
        Check.that(arrival.get("past") < due, "the one of the past was held back");
        long late = arrival.get("later") - due;
        Check.that(late >= -50 && late <= 1_500, late + " ms after its time");
    }

    void transactionCommitRollback(Clients clients) throws Exception {
        String topic = names.topic("transaction", "transaction");
        Queue<String> asked = new ConcurrentLinkedQueue<>();
        Producer producer = clients.transactional(topic, view -> {
            asked.add(view.getMessageId() + " " + text(view));
            return TransactionResolution.COMMIT;
        });
        SimpleConsumer consumer = clients.simple(names.group("transaction"), topic);
        half(producer, topic, "committed").commit();
        half(producer, topic, "rolled back").rollback();
        Transaction undecided = producer.beginTransaction();
        String id = producer.send(Clients.message(topic, "undecided".getBytes(UTF_8)).build(), undecided)
                .getMessageId()
                .toString();
        Check.equal(List.of("committed", "undecided"), texts(consume(consumer, 2, 32)), "what came");
        Check.that(!asked.isEmpty(), "nobody was asked");
        asked.forEach(question -> Check.equal(id + " undecided", question, "question"));
        Check.receivesNothing(consumer, LEASE, POLLED, "the third was rolled back");
    }

    private static Transaction half(Producer producer, String topic, String body) throws ClientException {
        Transaction transaction = producer.beginTransaction();
        producer.send(Clients.message(topic, body.getBytes(UTF_8)).build(), transaction);
        return transaction;
    }

    void sqlFilter(Clients clients) throws Exception {
        String topic = names.topic("sql");
        Producer producer = clients.producer(topic);
        for (int number = 0; number < 6; number++) {
            producer.send(Clients.message(topic, ("n" + number).getBytes(UTF_8))
                    .setTag(number % 2 == 1 ? "A" : "B")
                    .addProperty("number", String.valueOf(number))
                    .build());
        }
        FilterExpression filter = new FilterExpression(
                "number BETWEEN 2 AND 4 AND NOT TAGS = 'A'", FilterExpressionType.SQL92);
        SimpleConsumer consumer = clients.simple(names.group("sql"), topic, filter);
        Check.equal(List.of("n2", "n4"), texts(consume(consumer, 2, 32)).stream().sorted().toList(), "what came");
        Queue<String> pushed = new ConcurrentLinkedQueue<>();
        clients.push(names.group("sql-push"), topic, filter, view -> {
            pushed.add(text(view));
            return ConsumeResult.SUCCESS;
        });
        Check.eventually(Duration.ofSeconds(30), () -> pushed.size() >= 2, "two were not pushed");
        Check.receivesNothing(consumer, LEASE, POLLED, "the others do not match");
        Check.equal(List.of("n2", "n4"), pushed.stream().sorted().toList(), "what was pushed");
    }

    void redrive(Clients clients) throws Exception {
        String topic = names.topic("redrive");
        String doomed = names.group("redrive", "--max-attempts 1");
        SimpleConsumer consumer = clients.simple(doomed, topic);
        String id = Clients.send(clients.producer(topic), topic, "again".getBytes(UTF_8));
        consumer.changeInvisibleDuration(
                Check.receiveOne(consumer, LEASE, Duration.ofSeconds(20)), Duration.ofSeconds(1));
        Check.retry(Duration.ofSeconds(20), () -> {
            // Refused until the message has died and moved.
            names.admin("dlq redrive " + doomed + " --id " + id);
            return null;
        });
        MessageView came = consume(consumer, 1, 32).get(0);
        Check.equal(id, came.getMessageId().toString(), "id");
        Check.equal(1, came.getDeliveryAttempt(), "attempt");
    }

    void namespace(Clients clients) throws Exception {
        String topic = names.topic("spaced");
        List<String> spaces = List.of("ns-one", "ns-two");
        for (String space : spaces) {
            names.admin("--namespace " + space + " topic create " + topic);
        }
        for (String space : spaces) {
            Clients.send(clients.in(space).producer(topic), topic, space.getBytes(UTF_8));
        }
        for (String space : spaces) {
            SimpleConsumer consumer = clients.in(space).simple(names.group("spaced"), topic);
            Check.equal(List.of(space), texts(consume(consumer, 1, 32)), "what came in " + space);
            Check.receivesNothing(consumer, LEASE, POLLED, "the other namespace is another");
        }
    }
}
