import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** What is sent arrives: content, filters, both kinds of consumer. */
final class DeliveryCases {
    private static final Duration LEASE = Duration.ofSeconds(10);
    private static final Duration SOON = Duration.ofSeconds(30);

    private final Names names;

    DeliveryCases(Names names) {
        this.names = names;
    }

    void sendReceiveAck(Clients clients) throws Exception {
        String topic = names.topic("plain");
        byte[] everyByte = new byte[256];
        for (int value = 0; value < everyByte.length; value++) {
            everyByte[value] = (byte) value;
        }
        List<byte[]> bodies = List.of(new byte[1], everyByte, Check.randomBytes(1 << 20, 7));
        List<String> keys = List.of("order-17", "café");
        Map<String, String> properties = Map.of("colour", "blue", "note", "zwölf €", "padded", " x ");

        Producer producer = clients.producer(topic);
        Map<String, byte[]> sent = new HashMap<>();
        for (byte[] body : bodies) {
            MessageBuilder message = Clients.message(topic, body)
                    .setKeys(keys.toArray(String[]::new))
                    .setTag("tag-a");
            properties.forEach(message::addProperty);
            sent.put(Clients.send(producer, message.build()), body);
        }

        SimpleConsumer consumer = clients.simple(names.group("plain"), topic);
        for (MessageView view : Check.receive(consumer, bodies.size(), LEASE, SOON)) {
            byte[] body = sent.remove(view.getMessageId().toString());
            Check.that(body != null, "message id never sent, or received twice: " + view.getMessageId());
            Check.sameBody(body, view);
            Check.equal(topic, view.getTopic(), "topic");
            Check.equal(keys, new ArrayList<>(view.getKeys()), "keys");
            Check.equal(Optional.of("tag-a"), view.getTag(), "tag");
            Check.equal(properties, view.getProperties(), "properties");
            Check.equal(1, view.getDeliveryAttempt(), "delivery attempt");
            consumer.ack(view);
        }
        Check.receivesNothing(consumer, LEASE, LEASE, "everything was acked");
    }

    void twoTopicsOneProducer(Clients clients) throws Exception {
        List<String> topics = List.of(names.topic("two-a"), names.topic("two-b"));
        long begun = System.nanoTime();
        Producer producer = clients.producer(topics.toArray(String[]::new));
        Duration start = Duration.ofNanos(System.nanoTime() - begun);
        Check.that(start.toSeconds() < 10, "producer of two topics took " + start + " to start");

        Map<String, String> ids = new HashMap<>();
        for (String topic : topics) {
            ids.put(topic, Clients.send(producer, topic, topic.getBytes(UTF_8)));
        }
        for (String topic : topics) {
            SimpleConsumer consumer = clients.simple(topic, topic);
            MessageView view = Check.receiveOne(consumer, LEASE, SOON);
            Check.equal(ids.get(topic), view.getMessageId().toString(), "message id in " + topic);
            Check.sameBody(topic.getBytes(UTF_8), view);
            consumer.ack(view);
            Check.receivesNothing(consumer, LEASE, Duration.ZERO, "one message was sent to " + topic);
        }
    }

    void tagFilter(Clients clients) throws Exception {
        String topic = names.topic("tags");
        Producer producer = clients.producer(topic);
        for (String tag : List.of("A", "B", "C", "AB")) {
            Clients.send(
                    producer,
                    Clients.message(topic, tag.getBytes(UTF_8)).setTag(tag).build());
        }
        Clients.send(producer, topic, "none".getBytes(UTF_8));

        SimpleConsumer all = clients.simple(names.group("tags-all"), topic);
        Check.equal(
                Set.of("A", "B", "C", "AB", "none"), bodies(Check.receive(all, 5, LEASE, SOON)), "bodies under *");

        SimpleConsumer filtered = clients.simple(names.group("tags-ab"), topic, "A || B");
        List<MessageView> views = Check.receive(filtered, 2, LEASE, SOON);
        Check.equal(Set.of("A", "B"), bodies(views), "bodies under A || B");
        for (MessageView view : views) {
            filtered.ack(view);
        }
        Check.receivesNothing(filtered, LEASE, LEASE, "no other message has the tag A or B");
    }

    void pushConsumes(Clients clients) throws Exception {
        String topic = names.topic("push");
        int count = 20;
        Producer producer = clients.producer(topic);
        Map<String, byte[]> sent = new HashMap<>();
        // Half of them wait for the consumer, the other half finds it waiting.
        for (int n = 0; n < count / 2; n++) {
            sendNumbered(producer, topic, n, sent);
        }
        Queue<MessageView> seen = new ConcurrentLinkedQueue<>();
        clients.push(names.group("push"), topic, view -> {
            seen.add(view);
            return ConsumeResult.SUCCESS;
        });
        Check.eventually(SOON, () -> seen.size() >= count / 2, "the messages sent before the start did not come");
        for (int n = count / 2; n < count; n++) {
            sendNumbered(producer, topic, n, sent);
        }
        Check.eventually(SOON, () -> seen.size() >= count, "20 messages did not come");
        // Time is the condition here: a message whose ack was lost would come again.
        Thread.sleep(3_000);

        Check.equal(count, seen.size(), "deliveries");
        for (MessageView view : seen) {
            byte[] body = sent.remove(view.getMessageId().toString());
            Check.that(body != null, "message id never sent, or received twice: " + view.getMessageId());
            Check.sameBody(body, view);
            Check.equal(Optional.of("pushed"), view.getTag(), "tag");
            Check.equal(1, view.getDeliveryAttempt(), "delivery attempt");
        }
    }

    private static void sendNumbered(Producer producer, String topic, int number, Map<String, byte[]> sent)
            throws Exception {
        byte[] body = Check.randomBytes(1 + number * 97, number);
        sent.put(
                Clients.send(
                        producer,
                        Clients.message(topic, body).setTag("pushed").build()),
                body);
    }

    void emptyReceive(Clients clients) throws Exception {
        SimpleConsumer consumer = clients.simple(names.group("empty"), names.topic("empty"));
        long begun = System.nanoTime();
        List<MessageView> views = consumer.receive(32, LEASE);
        Duration waited = Duration.ofNanos(System.nanoTime() - begun);
        Check.equal(List.of(), views, "messages of an empty topic");
        Check.that(waited.toMillis() >= 4_500, "an empty poll of 5 s returned after " + waited);
        Check.that(waited.toSeconds() < 20, "an empty poll of 5 s returned only after " + waited);
    }

    private static Set<String> bodies(List<MessageView> views) {
        return views.stream()
                .map(view -> new String(Check.body(view), UTF_8))
                .collect(Collectors.toCollection(TreeSet::new));
    }
}
