import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** The test driver at the other end of stdin and stdout: takes results, creates topics, restarts the server. */
final class Driver {
    private final BufferedReader answers =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    private final PrintStream lines;
    private final Object pending = new Object();

    Driver(PrintStream lines) {
        this.lines = lines;
    }

    void createTopic(String name) throws IOException {
        request("topic " + name);
    }

    /** Only for a group that needs options, such as {@code --max-attempts 2}; others appear at first use. */
    void createGroup(String name, String options) throws IOException {
        request("group " + name + " " + options);
    }

    void admin(String arguments) throws IOException {
        request("admin " + arguments);
    }

    /** @param how {@code kill} for kill -9, {@code term} for SIGTERM */
    void restartServer(String how) throws IOException {
        request("restart " + how);
    }

    void passed(String caseName) {
        line("CASE " + caseName + " OK");
    }

    void failed(String caseName, String detail) {
        line("CASE " + caseName + " FAIL " + detail.replaceAll("\\s+", " "));
    }

    /** One request at a time: the answers carry no name. */
    private void request(String text) throws IOException {
        synchronized (pending) {
            line("REQUEST " + text);
            String answer = answers.readLine();
            if (!"DONE".equals(answer)) {
                throw new IOException("driver answered \"" + answer + "\" to: " + text);
            }
        }
    }

    private void line(String text) {
        synchronized (lines) {
            lines.println(text);
            lines.flush();
        }
    }
}
