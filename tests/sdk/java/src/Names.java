import java.io.IOException;

/** Topic and group names of one run. */
final class Names {
    private final Driver driver;
    private final String prefix;

    Names(Driver driver, String prefix) {
        this.driver = driver;
        this.prefix = prefix;
    }

    /** Creates the topic: the server never does by itself. */
    String topic(String name) throws IOException {
        String topic = prefix + "-" + name;
        driver.createTopic(topic);
        return topic;
    }

    /** Creates a topic of some type. */
    String topic(String name, String type) throws IOException {
        String topic = prefix + "-" + name;
        driver.createTopic(topic + " " + type);
        return topic;
    }

    /** Runs an admin command against the server. */
    void admin(String arguments) throws IOException {
        driver.admin(arguments);
    }

    /** A group that its first use will create. */
    String group(String name) {
        return prefix + "-" + name;
    }

    String group(String name, String options) throws IOException {
        String group = group(name);
        driver.createGroup(group, options);
        return group;
    }
}
