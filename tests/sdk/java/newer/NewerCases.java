import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** What 5.0.3 has no methods for. */
public final class NewerCases implements Suite.MoreCases {
    private static final int PRECONDITION_FAILED = 42800;

    private Names names;

    @Override
    public void addTo(Map<String, Suite.Case> cases, Names names) {
        this.names = names;
        cases.put("recall", this::recall);
        cases.put("priority", this::priority);
        cases.put("lite", this::lite);
        cases.put("namespace", new KindCases(names)::namespace);
    }

    private void recall(Clients clients) throws Exception {
        String topic = names.topic("recall", "delay");
        Producer producer = clients.producer(topic);
        SimpleConsumer consumer = clients.simple(names.group("recall"), topic);
        long due = System.currentTimeMillis() + 3_000;
        SendReceipt gone = producer.send(
                Clients.message(topic, "gone".getBytes(UTF_8)).setDeliveryTimestamp(due).build());
        SendReceipt kept = producer.send(
                Clients.message(topic, "kept".getBytes(UTF_8)).setDeliveryTimestamp(due).build());
        producer.recallMessage(topic, gone.getRecallHandle());
        producer.recallMessage(topic, gone.getRecallHandle());
        List<MessageView> came = KindCases.consume(consumer, 1, 32);
        Check.equal(List.of("kept"), KindCases.texts(came), "what came");
        try {
            producer.recallMessage(topic, kept.getRecallHandle());
            throw new AssertionError("a delivered message was recalled");
        } catch (ClientException refusal) {
            String words = refusal.toString();
            Check.that(words.contains(String.valueOf(PRECONDITION_FAILED)) || words.contains("PRECONDITION"), words);
        }
        Check.receivesNothing(consumer, KindCases.LEASE, KindCases.POLLED, "it was recalled");
    }

    private void priority(Clients clients) throws Exception {
        String topic = names.topic("priority", "priority");
        Producer producer = clients.producer(topic);
        SimpleConsumer consumer = clients.simple(names.group("priority"), topic);
        for (int level : new int[] {1, 9, 5, 0, 7}) {
            producer.send(Clients.message(topic, String.valueOf(level).getBytes(UTF_8)).setPriority(level).build());
        }
        List<String> came = KindCases.texts(KindCases.consume(consumer, 5, 1));
        Check.equal(List.of("9", "7", "5", "1", "0"), came, "order of priorities");
    }

    private void lite(Clients clients) throws Exception {
        String topic = names.topic("lite", "lite");
        Producer producer = clients.producer(topic);
        Map<String, List<String>> seen = new ConcurrentHashMap<>();
        LitePushConsumer consumer = clients.keep(Clients.PROVIDER.newLitePushConsumerBuilder()
                .setClientConfiguration(clients.configuration())
                .setConsumerGroup(names.group("lite-push"))
                .bindTopic(topic)
                .setMessageListener(view -> {
                    seen.computeIfAbsent(view.getLiteTopic().orElse(""), any -> new CopyOnWriteArrayList<>())
                            .add(KindCases.text(view));
                    return ConsumeResult.SUCCESS;
                })
                .build());
        consumer.subscribeLite("alpha");
        consumer.subscribeLite("beta");
        Map<String, List<String>> expected = new TreeMap<>();
        for (int step = 0; step < 4; step++) {
            for (String one : List.of("alpha", "beta", "gamma")) {
                send(producer, topic, one, one + "-" + step);
                if (!one.equals("gamma")) {
                    expected.computeIfAbsent(one, any -> new ArrayList<>()).add(one + "-" + step);
                }
            }
        }
        Duration soon = Duration.ofSeconds(30);
        Check.eventually(soon, () -> count(seen) >= 8, "eight messages were not pushed");
        Check.equal(expected, new TreeMap<>(seen), "what was pushed");
        consumer.unsubscribeLite("beta");
        send(producer, topic, "beta", "beta-more");
        send(producer, topic, "alpha", "alpha-more");
        Check.eventually(soon, () -> count(seen) >= 9, "the ninth message was not pushed");
        expected.get("alpha").add("alpha-more");
        Check.equal(expected, new TreeMap<>(seen), "what was pushed after unsubscribing");
    }

    private static int count(Map<String, List<String>> seen) {
        return seen.values().stream().mapToInt(List::size).sum();
    }

    private static void send(Producer producer, String topic, String lite, String body) throws ClientException {
        producer.send(Clients.message(topic, body.getBytes(UTF_8)).setLiteTopic(lite).build());
    }
}
