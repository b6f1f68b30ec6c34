import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * enrollpay for an enrolment system in Java 17: the merchant API and its webhooks, without other libraries.
 *
 * <pre>
 * java -Dfile.encoding=UTF-8 Enrollpay.java create ORDER_NO | read ORDER | query ORDER | cancel ORDER
 * java -Dfile.encoding=UTF-8 Enrollpay.java refund ORDER REFUND_NO FEN REASON
 * java -Dfile.encoding=UTF-8 Enrollpay.java receive       take webhooks
 * java -Dfile.encoding=UTF-8 Enrollpay.java self-check    compare with the published example
 * </pre>
 *
 * Configuration comes from the environment; see {@link #setting}. The encoding is that of this file: from Java 18
 * on it is the default.
 */
public final class Enrollpay {
    /** Each is an environment variable; secrets have no default. */
    static String setting(String name) {
        var defaults = Map.of(
            "ENROLLPAY_URL", "http://127.0.0.1:8080",
            "ENROLLPAY_LISTEN", "127.0.0.1:9000",
            "ENROLLPAY_STATE", "enrollpay-received");
        String value = System.getenv().getOrDefault(name, defaults.getOrDefault(name, ""));
        if (value.isEmpty()) {
            throw new IllegalArgumentException("set " + name + ": `enrollpay merchant create` printed it");
        }
        return value;
    }

    // region sign
    /** Five lines, each ended by a line feed. target: the path with its query; body: as it is sent. */
    static String stringToSign(String method, String target, long timestamp, String nonce, String body) {
        return method + "\n" + target + "\n" + timestamp + "\n" + nonce + "\n" + body + "\n";
    }

    static String authorization(
        String keyId, String secret, String method, String target, long timestamp, String nonce, String body
    ) throws GeneralSecurityException {
        String text = stringToSign(method, target, timestamp, nonce, body);
        // The key is the secret as printed, "sk_" included.
        byte[] tag = hmac(secret.getBytes(StandardCharsets.UTF_8), text.getBytes(StandardCharsets.UTF_8));
        return "ENROLLPAY-HMAC-SHA256 key_id=\"" + keyId + "\",timestamp=\"" + timestamp
            + "\",nonce=\"" + nonce + "\",signature=\"" + Base64.getEncoder().encodeToString(tag) + "\"";
    }

    static byte[] hmac(byte[] key, byte[]... parts) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        for (byte[] part : parts) {
            mac.update(part);
        }
        return mac.doFinal();
    }
    // endregion

    // region call
    /** The gateway's no. Decide by code, never by detail; quote request_id when you ask for help. */
    static final class Refused extends Exception {
        final int status;
        final String code;

        Refused(int status, Map<String, Object> problem) {
            super("HTTP " + status + " " + problem.get("code") + ": " + problem.get("detail")
                + " (" + problem.get("request_id") + ")" + problem.getOrDefault("errors", ""));
            this.status = status;
            this.code = String.valueOf(problem.get("code"));
        }
    }

    record Answer(int status, Map<String, Object> body) {}

    static final HttpClient CLIENT = HttpClient.newBuilder()
        .version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(5)).build();
    static final SecureRandom RANDOM = new SecureRandom();

    /**
     * One request, repeated until there is an answer. A repeat keeps the Idempotency-Key, so that it is done once
     * however often it is sent; it is signed afresh, because a nonce is taken once.
     */
    static Answer call(String method, String target, String body, String idempotencyKey) throws Exception {
        for (int wait = 1; ; wait *= 2) {
            byte[] nonce = new byte[16];
            RANDOM.nextBytes(nonce);
            var request = HttpRequest.newBuilder(URI.create(setting("ENROLLPAY_URL") + target))
                .timeout(Duration.ofSeconds(15))
                .method(method, HttpRequest.BodyPublishers.ofString(body))
                .header("Authorization", authorization(
                    setting("ENROLLPAY_KEY_ID"), setting("ENROLLPAY_SECRET"), method, target,
                    System.currentTimeMillis() / 1000, HexFormat.of().formatHex(nonce), body));
            if (!body.isEmpty()) {
                request.header("Content-Type", "application/json");
            }
            if (idempotencyKey != null) {
                request.header("Idempotency-Key", idempotencyKey);
            }
            long seconds = wait;
            try {
                var answer = CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString());
                int status = answer.statusCode();
                if (status >= 200 && status < 300) {
                    return new Answer(status, Json.object(answer.body()));
                }
                var problem = Json.object(answer.body());
                boolean busy = List.of(429, 500, 502, 503).contains(status)
                    || "request_in_progress".equals(problem.get("code"));
                if (!busy || wait > 8) {
                    throw new Refused(status, problem);
                }
                seconds = answer.headers().firstValueAsLong("Retry-After").orElse(wait);
            } catch (IOException lost) { // no connection, no answer in time, or half an answer
                if (wait > 8) {
                    throw lost;
                }
            }
            Thread.sleep(seconds * 1000);
        }
    }
    // endregion

    // region create
    static Map<String, Object> create(String orderNo) throws Exception {
        var order = Json.write(Json.members(
            "merchant_order_no", orderNo, // yours; the same number is the same order, for ever
            "subject", "2021年4月自学考试报考费",
            "items", List.of(
                Json.members("code", "00024", "name", "普通逻辑", "amount", 3500),
                Json.members("code", "04729", "name", "大学语文", "amount", 10500)),
            "amount", 14000, // fen: ¥140.00, the sum of the items
            "currency", "CNY",
            "payer", Json.members("ref", "650102000011", "name", "测试考生")));
        return call("POST", "/v1/orders", order, "create-" + orderNo).body(); // send the student to its cashier_url
    }
    // endregion

    // region ask
    static Map<String, Object> read(String order) throws Exception {
        return call("GET", "/v1/orders/" + order, "", null).body();
    }

    /** Has the gateway ask WeChat Pay or Alipay now. */
    static Map<String, Object> query(String order) throws Exception {
        return Json.inner(call("POST", "/v1/orders/" + order + "/query", "", null).body(), "order");
    }

    /**
     * 200: closed for good. 202: the provider has not said its last word, so ask again. Refused with already_paid:
     * the student was faster.
     */
    static Map<String, Object> cancel(String order) throws Exception {
        Answer answer = call("POST", "/v1/orders/" + order + "/cancel", "", null);
        for (int tries = 1; answer.status() == 202 && tries < 15; tries++) {
            Thread.sleep(2000);
            answer = call("POST", "/v1/orders/" + order + "/cancel", "", null);
        }
        return answer.body();
    }

    static Map<String, Object> refund(String order, String refundNo, long fen, String reason) throws Exception {
        var body = Json.write(Json.members("merchant_refund_no", refundNo, "amount", fen, "reason", reason));
        return call("POST", "/v1/orders/" + order + "/refunds", body, "refund-" + refundNo).body();
    }
    // endregion

    // region verify
    static final long TOLERANCE_SECONDS = 300;

    /**
     * null for a genuine delivery (Standard Webhooks), otherwise why it is not believed. body: the bytes as they
     * came; parsed and written again they would be others.
     */
    static String whyNot(String secret, String id, String timestamp, String signatures, byte[] body, long now)
        throws GeneralSecurityException {
        byte[] key = Base64.getDecoder().decode(secret.replaceFirst("^whsec_", ""));
        byte[] tag = hmac(key, (id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8), body);
        byte[] expected = ("v1," + Base64.getEncoder().encodeToString(tag)).getBytes(StandardCharsets.UTF_8);
        // While a secret is being changed there are two, set apart by a blank: one that fits is enough.
        boolean genuine = false;
        for (String one : signatures.split(" ")) {
            // isEqual takes the same time however much of the two is alike.
            genuine |= MessageDigest.isEqual(expected, one.getBytes(StandardCharsets.UTF_8));
        }
        if (!genuine) {
            return "signature";
        }
        // Signed by us, and yet it may be an old delivery that somebody has recorded and sends again.
        if (!timestamp.matches("[0-9]{1,12}") || Math.abs(now - Long.parseLong(timestamp)) > TOLERANCE_SECONDS) {
            return "timestamp";
        }
        return null;
    }
    // endregion

    // region keep
    /**
     * Everything that a verified event changes. Files stand for your database here: there it is ONE transaction,
     * with the event's id and the order's number unique.
     */
    static synchronized String keep(Map<String, Object> event) throws IOException {
        var order = Json.inner(Json.inner(event, "data"), "order");
        String eventId = (String) event.get("id");
        String orderId = (String) order.get("id");
        if (!eventId.matches("evt_[0-9A-Z]{26}") || !orderId.matches("ord_[0-9A-Z]{26}")) {
            return "odd ids";
        }
        Path state = Path.of(setting("ENROLLPAY_STATE"));
        for (String folder : List.of("events", "orders", "enrolled")) {
            Files.createDirectories(state.resolve(folder));
        }
        Path seen = state.resolve("events").resolve(eventId);
        if (Files.exists(seen)) {
            return "repeated"; // deliveries come at least once
        }
        Path kept = state.resolve("orders").resolve(orderId + ".json");
        long newest = Files.exists(kept) ? (Long) Json.object(Files.readString(kept)).get("version") : 0;
        long version = (Long) order.get("version");
        if (version > newest) { // a late delivery never overwrites a later one
            if ("paid".equals(order.get("status")) && !"full".equals(order.get("refund_status"))) {
                fulfil(state, order);
            }
            Path fresh = Files.writeString(state.resolve("orders").resolve(orderId + ".new"), Json.write(order));
            Files.move(fresh, kept, StandardCopyOption.ATOMIC_MOVE);
        }
        Files.createFile(seen);
        return version > newest ? "new" : "older";
    }

    /**
     * The student is enrolled, once. Compare number and amount with your own books before you do so; what takes
     * time (mail, admission tickets) goes into a queue of yours.
     */
    static void fulfil(Path state, Map<String, Object> order) throws IOException {
        try {
            Files.writeString(
                state.resolve("enrolled").resolve((String) order.get("id")),
                order.get("merchant_order_no") + " " + order.get("subject") + " " + order.get("amount_paid") + "\n",
                StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        } catch (FileAlreadyExistsException enrolledBefore) {
            // Once is enough.
        }
    }
    // endregion

    // region receive
    static void receive() throws IOException {
        String[] address = setting("ENROLLPAY_LISTEN").split(":");
        setting("ENROLLPAY_WEBHOOK_SECRET");
        var server = HttpServer.create(new InetSocketAddress(address[0], Integer.parseInt(address[1])), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            try {
                take(exchange);
            } catch (Exception failed) {
                failed.printStackTrace();
                answer(exchange, 500, "failed"); // and the gateway sends it again
            }
        });
        server.start();
        OUT.println("listening on http://" + address[0] + ":" + address[1] + "/webhooks");
    }

    /** One delivery. On disk first, then 2xx, within 15 seconds: anything else is sent again. */
    static void take(HttpExchange exchange) throws Exception {
        if (!exchange.getRequestMethod().equals("POST") || !exchange.getRequestURI().getPath().equals("/webhooks")) {
            answer(exchange, 404, "nothing here");
            return;
        }
        byte[] body = exchange.getRequestBody().readNBytes(1_048_577);
        if (body.length > 1_048_576) {
            answer(exchange, 413, "too large");
            return;
        }
        var headers = exchange.getRequestHeaders();
        String why = whyNot(
            setting("ENROLLPAY_WEBHOOK_SECRET"), String.valueOf(headers.getFirst("webhook-id")),
            String.valueOf(headers.getFirst("webhook-timestamp")),
            String.valueOf(headers.getFirst("webhook-signature")), body, System.currentTimeMillis() / 1000);
        if (why != null) {
            answer(exchange, 401, "refused " + why);
            return;
        }
        var event = Json.object(new String(body, StandardCharsets.UTF_8));
        var order = Json.inner(Json.inner(event, "data"), "order");
        answer(exchange, 200, keep(event) + " " + event.get("id") + " " + event.get("type")
            + " " + order.get("id") + " " + order.get("status"));
    }

    static void answer(HttpExchange exchange, int status, String line) throws IOException {
        OUT.println(line);
        byte[] body = line.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
    // endregion

    // region self-check
    static void selfCheck() throws GeneralSecurityException {
        String keyId = "key_01KAH8Z6D0W2F4M6P8R0T2V4X6", secret = "sk_example_do_not_use_4f6a0c1d2e3b";
        long timestamp = 1795168800;
        String nonce = "5K8264ILTKCH16CQ2502SI8ZNMTM67VS";
        String body = "{\"merchant_order_no\":\"ZK202104-000123\",\"subject\":\"2021年4月自学考试报考费\"}";
        OUT.print(stringToSign("POST", "/v1/orders", timestamp, nonce, body));
        String header = authorization(keyId, secret, "POST", "/v1/orders", timestamp, nonce, body);
        OUT.println("Authorization: " + header);

        String webhookSecret = "whsec_YW4gZXhhbXBsZSBrZXksIG5vdCBmb3IgdXNlIQ==", id = "evt_01KAH8Z6D0W2F4M6P8R0T2V4X6";
        String event = "{\"id\":\"evt_01KAH8Z6D0W2F4M6P8R0T2V4X6\",\"type\":\"order.paid\","
            + "\"data\":{\"order\":{\"subject\":\"2021年4月自学考试报考费\"}}}";
        String genuine = "v1,Yftz0TfIlwLPjF3fPlh62/DY3uQDr08eyGJNb+Ayt+w=";
        String other = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        record Case(String signatures, String body, long now) {}
        var results = new ArrayList<String>();
        for (Case one : List.of(
            new Case(genuine, event, timestamp),
            new Case(other + " " + genuine, event, timestamp + 299), // during a rotation
            new Case(other, event, timestamp),
            new Case(genuine, event + " ", timestamp),
            new Case(genuine, event, timestamp + 301))) {
            byte[] bytes = one.body().getBytes(StandardCharsets.UTF_8);
            String why = whyNot(webhookSecret, id, "" + timestamp, one.signatures(), bytes, one.now());
            results.add(why == null ? "genuine" : why);
        }
        OUT.println("webhook-signature: " + genuine);
        OUT.println(String.join(" ", results));
        boolean signed = header.endsWith("signature=\"ga0cD62lVHWykta+exR2wiUwgIQGF0bldWR8aZ5U/+I=\"");
        if (!signed || !results.equals(List.of("genuine", "genuine", "signature", "signature", "timestamp"))) {
            throw new IllegalArgumentException("self-check: FAILED (was this file read as UTF-8?)");
        }
        OUT.println("self-check: ok");
    }
    // endregion

    /** As much of JSON as this file needs; in your system a library of yours does it. */
    static final class Json {
        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        /** An object; empty where the text is none. */
        @SuppressWarnings("unchecked")
        static Map<String, Object> object(String text) {
            try {
                return (Map<String, Object>) new Json(text).value();
            } catch (RuntimeException unreadable) {
                return new LinkedHashMap<>();
            }
        }

        @SuppressWarnings("unchecked")
        static Map<String, Object> inner(Map<String, Object> object, String name) {
            return (Map<String, Object>) object.get(name);
        }

        static Map<String, Object> members(Object... namesAndValues) {
            var members = new LinkedHashMap<String, Object>();
            for (int i = 0; i < namesAndValues.length; i += 2) {
                members.put((String) namesAndValues[i], namesAndValues[i + 1]);
            }
            return members;
        }

        static String write(Object value) {
            if (value instanceof Map<?, ?> object) {
                var members = new ArrayList<String>();
                object.forEach((name, member) -> members.add(write(name) + ":" + write(member)));
                return "{" + String.join(",", members) + "}";
            }
            if (value instanceof List<?> list) {
                return "[" + String.join(",", list.stream().map(Json::write).toList()) + "]";
            }
            if (value instanceof String string) {
                var quoted = new StringBuilder("\"");
                for (char c : string.toCharArray()) {
                    if (c == '"' || c == '\\') {
                        quoted.append('\\').append(c);
                    } else if (c < ' ') {
                        quoted.append(String.format("\\u%04x", (int) c));
                    } else {
                        quoted.append(c);
                    }
                }
                return quoted.append('"').toString();
            }
            return String.valueOf(value);
        }

        private char peek() {
            while (Character.isWhitespace(text.charAt(at))) {
                at++;
            }
            return text.charAt(at);
        }

        private boolean took(char c) {
            boolean there = peek() == c;
            at += there ? 1 : 0;
            return there;
        }

        private Object value() {
            if (took('{')) {
                var object = new LinkedHashMap<String, Object>();
                while (!took('}')) {
                    String name = (String) value();
                    took(':');
                    object.put(name, value());
                    took(',');
                }
                return object;
            }
            if (took('[')) {
                var list = new ArrayList<Object>();
                while (!took(']')) {
                    list.add(value());
                    took(',');
                }
                return list;
            }
            if (took('"')) {
                return string();
            }
            int from = at;
            while (at < text.length() && ",]} \n\r\t".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(from, at);
            return switch (word) {
                case "null" -> null;
                case "true", "false" -> Boolean.valueOf(word);
                // Amounts are whole fen; a fraction may stand in your own metadata.
                default -> word.matches("-?[0-9]{1,18}") ? (Object) Long.valueOf(word) : new BigDecimal(word);
            };
        }

        private String string() {
            var string = new StringBuilder();
            for (char c = text.charAt(at++); c != '"'; c = text.charAt(at++)) {
                if (c != '\\') {
                    string.append(c);
                    continue;
                }
                char escape = text.charAt(at++);
                int known = "bfnrt".indexOf(escape);
                if (escape == 'u') {
                    string.append((char) Integer.parseInt(text.substring(at, at += 4), 16));
                } else {
                    string.append(known < 0 ? escape : "\b\f\n\r\t".charAt(known));
                }
            }
            return string.toString();
        }
    }

    /** UTF-8 wherever it runs. */
    static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    static void show(Map<String, Object> answer) {
        for (String name : List.of("id", "status", "subject", "amount", "amount_paid", "refund_status", "cashier_url")) {
            if (answer.get(name) != null) {
                OUT.println(name + " " + answer.get(name));
            }
        }
    }

    public static void main(String[] given) throws Exception {
        try {
            switch (given.length == 0 ? "" : given[0] + " " + (given.length - 1)) {
                case "create 1" -> show(create(given[1]));
                case "read 1" -> show(read(given[1]));
                case "query 1" -> show(query(given[1]));
                case "cancel 1" -> show(cancel(given[1]));
                case "refund 4" -> show(refund(given[1], given[2], Long.parseLong(given[3]), given[4]));
                case "receive 0" -> receive();
                case "self-check 0" -> selfCheck();
                default -> throw new IllegalArgumentException("expected create ORDER_NO, read|query|cancel ORDER, "
                    + "refund ORDER REFUND_NO FEN REASON, receive or self-check");
            }
        } catch (Refused | IOException | IllegalArgumentException failed) {
            System.err.println(failed.getMessage() == null ? failed : failed.getMessage());
            System.exit(1);
        }
    }
}
