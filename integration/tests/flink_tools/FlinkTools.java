import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;

import org.apache.flink.api.common.JobID;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.client.deployment.StandaloneClusterId;
import org.apache.flink.client.program.rest.RestClusterClient;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.JobManagerOptions;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.runtime.client.JobStatusMessage;
import org.apache.flink.runtime.jobmaster.JobResult;
import org.apache.flink.runtime.rest.FileUpload;
import org.apache.flink.runtime.rest.HttpMethodWrapper;
import org.apache.flink.runtime.rest.RestClient;
import org.apache.flink.runtime.rest.messages.EmptyMessageParameters;
import org.apache.flink.runtime.rest.messages.EmptyRequestBody;
import org.apache.flink.runtime.rest.messages.MessageHeaders;
import org.apache.flink.runtime.rest.messages.MessageParameters;
import org.apache.flink.runtime.rest.messages.MessagePathParameter;
import org.apache.flink.runtime.rest.messages.RequestBody;
import org.apache.flink.runtime.rest.messages.ResponseBody;
import org.apache.flink.runtime.rest.util.RestMapperUtils;
import org.apache.flink.runtime.webmonitor.handlers.JarRunHeaders;
import org.apache.flink.runtime.webmonitor.handlers.JarRunRequestBody;
import org.apache.flink.runtime.webmonitor.handlers.JarUploadHeaders;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.Modifier;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.file.Path;
import java.util.Collections;
import java.util.Enumeration;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.TimeUnit;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;

/** What the tests do with Flink's own classes; each verb prints lines for the test to read. */
public final class FlinkTools {
    private static final long SECONDS = 60;

    private final int port;
    private final Configuration configuration = new Configuration();
    private final RestClient rest;

    private FlinkTools(int port) throws Exception {
        this.port = port;
        configuration.set(RestOptions.ADDRESS, "localhost");
        configuration.set(RestOptions.PORT, port);
        configuration.set(JobManagerOptions.ADDRESS, "localhost");
        rest = new RestClient(configuration, ForkJoinPool.commonPool());
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "client":
                new FlinkTools(Integer.parseInt(args[1])).client(args[2], args[3]);
                System.exit(0);
                break;
            case "every-endpoint":
                Map<String, String> values = new HashMap<>();
                for (int at = 2; at < args.length; at++) {
                    String[] pair = args[at].split("=", 2);
                    values.put(pair[0], pair[1]);
                }
                new FlinkTools(Integer.parseInt(args[1])).everyEndpoint(values);
                System.exit(0);
                break;
            case "serve-web":
                serveWeb(Integer.parseInt(args[1]));
                break;
            case "job":
                StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
                env.fromSequence(1, 10).print();
                env.execute("a Java job");
                break;
            default:
                throw new IllegalArgumentException(args[0]);
        }
    }

    /** Uploads a program, runs it, lists it, asks for it, cancels it, and hears how it ended. */
    private void client(String artifact, String runBody) throws Exception {
        var upload =
                rest.sendRequest(
                                "localhost",
                                port,
                                JarUploadHeaders.getInstance(),
                                EmptyMessageParameters.getInstance(),
                                EmptyRequestBody.getInstance(),
                                Collections.singleton(
                                        new FileUpload(
                                                Path.of(artifact), "application/x-java-archive")))
                        .get(SECONDS, TimeUnit.SECONDS);
        String jar = Path.of(upload.getFilename()).getFileName().toString();
        System.out.println("uploaded " + upload.getStatus());

        var parameters = JarRunHeaders.getInstance().getUnresolvedMessageParameters();
        set(parameters, Map.of("jarid", jar));
        var body =
                RestMapperUtils.getStrictObjectMapper().readValue(runBody, JarRunRequestBody.class);
        JobID job =
                rest.sendRequest("localhost", port, JarRunHeaders.getInstance(), parameters, body)
                        .get(SECONDS, TimeUnit.SECONDS)
                        .getJobId();
        System.out.println("ran " + job);

        try (var cluster =
                new RestClusterClient<>(configuration, StandaloneClusterId.getInstance())) {
            while (cluster.getJobStatus(job).get(SECONDS, TimeUnit.SECONDS) != JobStatus.RUNNING) {
                Thread.sleep(50);
            }
            for (JobStatusMessage each : cluster.listJobs().get(SECONDS, TimeUnit.SECONDS)) {
                System.out.println(
                        "listed " + each.getJobId() + " " + each.getJobState() + " "
                                + each.getJobName());
            }
            var details = cluster.getJobDetails(job).get(SECONDS, TimeUnit.SECONDS);
            details.getJobVertexInfos()
                    .forEach(vertex -> System.out.println("vertex " + vertex.getName()));
            System.out.println(
                    "accumulators "
                            + cluster.getAccumulators(job).get(SECONDS, TimeUnit.SECONDS).keySet());
            cluster.cancel(job).get(SECONDS, TimeUnit.SECONDS);
            JobResult result = cluster.requestJobResult(job).get(SECONDS, TimeUnit.SECONDS);
            System.out.println("ended " + result.getJobId() + " " + result.isSuccess());
        }
    }

    /** Asks everything that Flink's typed client can ask with GET, and parses the answers. */
    private void everyEndpoint(Map<String, String> values) throws Exception {
        Path dist = Path.of(RestClient.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        TreeSet<String> names = new TreeSet<>();
        try (JarFile jar = new JarFile(dist.toFile())) {
            Enumeration<JarEntry> entries = jar.entries();
            while (entries.hasMoreElements()) {
                String name = entries.nextElement().getName();
                if (name.matches(
                        "org/apache/flink/runtime/(rest/messages|webmonitor/handlers)/.*Headers.class")) {
                    names.add(name.replace('/', '.').replaceAll("\\.class$", ""));
                }
            }
        }
        for (String name : names) {
            Class<?> type = Class.forName(name);
            if (Modifier.isAbstract(type.getModifiers())
                    || !MessageHeaders.class.isAssignableFrom(type)) {
                continue;
            }
            MessageHeaders<?, ?, ?> headers = instance(type);
            if (headers.getHttpMethod() == HttpMethodWrapper.GET
                    && headers.getRequestClass() == EmptyRequestBody.class) {
                String outcome = ask(headers, values);
                System.out.println(
                        type.getSimpleName() + " " + headers.getTargetRestEndpointURL() + " " + outcome);
            }
        }
    }

    private static MessageHeaders<?, ?, ?> instance(Class<?> type) throws Exception {
        try {
            return (MessageHeaders<?, ?, ?>) type.getMethod("getInstance").invoke(null);
        } catch (NoSuchMethodException e) {
            return (MessageHeaders<?, ?, ?>) type.getField("INSTANCE").get(null);
        }
    }

    @SuppressWarnings("unchecked")
    private <M extends MessageParameters, R extends RequestBody, P extends ResponseBody> String ask(
            MessageHeaders<?, ?, ?> any, Map<String, String> values) {
        MessageHeaders<R, P, M> headers = (MessageHeaders<R, P, M>) any;
        try {
            M parameters = headers.getUnresolvedMessageParameters();
            set(parameters, values);
            P answer =
                    rest.sendRequest(
                                    "localhost",
                                    port,
                                    headers,
                                    parameters,
                                    (R) EmptyRequestBody.getInstance())
                            .get(SECONDS, TimeUnit.SECONDS);
            return "ok " + answer.getClass().getSimpleName();
        } catch (Exception error) {
            Throwable cause = error;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            return "failed " + cause.getClass().getSimpleName() + ": "
                    + String.valueOf(cause.getMessage()).replace('\n', ' ');
        }
    }

    private static void set(MessageParameters parameters, Map<String, String> values)
            throws Exception {
        for (MessagePathParameter<?> parameter : parameters.getPathParameters()) {
            String value = values.get(parameter.getKey());
            if (value == null) {
                throw new IllegalArgumentException("no value for " + parameter.getKey());
            }
            parameter.resolveFromString(value);
        }
    }

    /** Flink's web page from its own jar; what it asks for goes to REST. */
    private static void serveWeb(int rest) throws IOException {
        HttpServer server =
                HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 64);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> serve(exchange, rest));
        server.start();
        System.out.println("port " + server.getAddress().getPort());
        // Until the test closes standard input.
        while (System.in.read() >= 0) {}
        System.exit(0);
    }

    private static void serve(HttpExchange exchange, int rest) throws IOException {
        String path = exchange.getRequestURI().getPath();
        String file = path.equals("/") ? "/index.html" : path;
        try (exchange;
                InputStream resource = FlinkTools.class.getResourceAsStream("/web" + file)) {
            if (resource != null) {
                String kind =
                        file.endsWith(".js") ? "text/javascript"
                                : file.endsWith(".css") ? "text/css"
                                : file.endsWith(".html") ? "text/html"
                                : file.endsWith(".svg") ? "image/svg+xml"
                                : "application/octet-stream";
                answer(exchange, 200, kind, resource.readAllBytes());
                return;
            }
            URI target = URI.create("http://localhost:" + rest + exchange.getRequestURI());
            HttpURLConnection call = (HttpURLConnection) target.toURL().openConnection();
            int status = call.getResponseCode();
            System.err.println(status + " " + exchange.getRequestURI());
            try (InputStream body = status < 400 ? call.getInputStream() : call.getErrorStream()) {
                answer(exchange, status, "application/json", body.readAllBytes());
            }
        }
    }

    private static void answer(HttpExchange exchange, int status, String kind, byte[] bytes)
            throws IOException {
        exchange.getResponseHeaders().set("Content-Type", kind);
        exchange.sendResponseHeaders(status, bytes.length == 0 ? -1 : bytes.length);
        exchange.getResponseBody().write(bytes);
    }
}
