import java.io.Closeable;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientConfigurationBuilder;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;

/** Opens the clients of one case, with everything at the client's defaults, and closes them together. */
final class Clients implements Closeable {
    static final Duration POLL = Duration.ofSeconds(5);

    static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();

    private final ClientConfiguration configuration;
    private final List<Closeable> open;

    Clients() {
        this(configurationIn(null), new ArrayList<>());
    }

    private Clients(ClientConfiguration configuration, List<Closeable> open) {
        this.configuration = configuration;
        this.open = open;
    }

    /** Clients of another namespace, closed with these. */
    Clients in(String namespace) {
        return new Clients(configurationIn(namespace), open);
    }

    ClientConfiguration configuration() {
        return configuration;
    }

    Producer producer(String... topics) throws ClientException {
        return keep(PROVIDER.newProducerBuilder()
                .setClientConfiguration(configuration)
                .setTopics(topics)
                .build());
    }

    Producer transactional(String topic, TransactionChecker checker) throws ClientException {
        return keep(PROVIDER.newProducerBuilder()
                .setClientConfiguration(configuration)
                .setTopics(topic)
                .setTransactionChecker(checker)
                .build());
    }

    SimpleConsumer simple(String group, String topic, String tags) throws ClientException {
        return simple(group, topic, new FilterExpression(tags));
    }

    SimpleConsumer simple(String group, String topic, FilterExpression filter) throws ClientException {
        return keep(PROVIDER.newSimpleConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setAwaitDuration(POLL)
                .setSubscriptionExpressions(Map.of(topic, filter))
                .build());
    }

    SimpleConsumer simple(String group, String topic) throws ClientException {
        return simple(group, topic, "*");
    }

    PushConsumer push(String group, String topic, MessageListener listener) throws ClientException {
        return push(group, topic, new FilterExpression("*"), listener);
    }

    PushConsumer push(String group, String topic, FilterExpression filter, MessageListener listener)
            throws ClientException {
        return keep(PROVIDER.newPushConsumerBuilder()
                .setClientConfiguration(configuration)
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Map.of(topic, filter))
                .setMessageListener(listener)
                .build());
    }

    static MessageBuilder message(String topic, byte[] body) {
        return PROVIDER.newMessageBuilder().setTopic(topic).setBody(body);
    }

    static String send(Producer producer, Message message) throws ClientException {
        SendReceipt receipt = producer.send(message);
        return receipt.getMessageId().toString();
    }

    static String send(Producer producer, String topic, byte[] body) throws ClientException {
        return send(producer, message(topic, body).build());
    }

    /** Closing a push consumer waits for its long poll, 20 s at most. */
    @Override
    public void close() throws IOException {
        for (Closeable client : open) {
            client.close();
        }
        open.clear();
    }

    <T extends Closeable> T keep(T client) {
        open.add(client);
        return client;
    }

    private static ClientConfiguration configurationIn(String namespace) {
        ClientConfigurationBuilder builder =
                ClientConfiguration.newBuilder().setEndpoints(System.getenv("BOLIDE_ENDPOINT"));
        if (namespace != null) {
            call(builder, "setNamespace", String.class, namespace);
        }
        if ("0".equals(System.getenv("BOLIDE_TLS"))) {
            call(builder, "enableSsl", boolean.class, false);
        }
        return builder.build();
    }

    /** By name, because 5.0.3 has no such methods: it knows TLS and no namespaces. */
    private static void call(ClientConfigurationBuilder builder, String method, Class<?> type, Object value) {
        try {
            ClientConfigurationBuilder.class.getMethod(method, type).invoke(builder, value);
        } catch (ReflectiveOperationException absent) {
            throw new IllegalStateException("this release of the client cannot " + method, absent);
        }
    }
}
