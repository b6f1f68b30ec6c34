<?php
/*
 * enrollpay for an enrolment system in PHP 8: the merchant API and its webhooks, with the curl extension.
 *
 *     php enrollpay.php create ORDER_NO | read ORDER | query ORDER | cancel ORDER
 *     php enrollpay.php refund ORDER REFUND_NO FEN REASON
 *     php -S 127.0.0.1:9000 enrollpay.php      take webhooks
 *     php enrollpay.php self-check             compare with the published example; needs no gateway
 *
 * Configuration comes from the environment; see setting().
 */
declare(strict_types=1);

/** Each is an environment variable; secrets have no default. */
function setting(string $name): string
{
    $defaults = ['ENROLLPAY_URL' => 'http://127.0.0.1:8080', 'ENROLLPAY_STATE' => 'enrollpay-received'];
    $value = getenv($name) ?: ($defaults[$name] ?? '');
    if ($value === '') {
        throw new RuntimeException("set $name: `enrollpay merchant create` printed it");
    }
    return $value;
}

// region sign
/** Five lines, each ended by a line feed. $target: the path with its query; $body: the bytes as sent. */
function string_to_sign(string $method, string $target, int $timestamp, string $nonce, string $body): string
{
    return "$method\n$target\n$timestamp\n$nonce\n$body\n";
}

function authorization(
    string $keyId, string $secret, string $method, string $target, int $timestamp, string $nonce, string $body
): string {
    $text = string_to_sign($method, $target, $timestamp, $nonce, $body);
    // The key is the secret as printed, "sk_" included.
    $signature = base64_encode(hash_hmac('sha256', $text, $secret, true));
    return "ENROLLPAY-HMAC-SHA256 key_id=\"$keyId\",timestamp=\"$timestamp\","
        . "nonce=\"$nonce\",signature=\"$signature\"";
}
// endregion

// region call
/** The gateway's no. Decide by $problem['code'], never by its detail; quote request_id when you ask for help. */
final class Refused extends RuntimeException
{
    public function __construct(public readonly int $status, public readonly array $problem)
    {
        $text = "HTTP $status " . ($problem['code'] ?? 'unreadable') . ': '
            . ($problem['detail'] ?? 'no problem document: is this the gateway?')
            . ' (' . ($problem['request_id'] ?? '') . ')';
        foreach ($problem['errors'] ?? [] as $one) {
            $text .= "\n  {$one['pointer']}: {$one['detail']}";
        }
        parent::__construct($text);
    }
}

/**
 * One request, repeated until there is an answer. A repeat keeps the Idempotency-Key, so that it is done
 * once however often it is sent; it is signed afresh, because a nonce is taken once.
 *
 * @return array{int, array} status and body
 */
function call(string $method, string $target, ?array $body = null, ?string $idempotencyKey = null): array
{
    $data = $body === null ? '' : json_encode($body, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
    foreach ([1, 2, 4, 8, null] as $wait) {
        $headers = ['Authorization: ' . authorization(
            setting('ENROLLPAY_KEY_ID'), setting('ENROLLPAY_SECRET'),
            $method, $target, time(), bin2hex(random_bytes(16)), $data
        )];
        if ($idempotencyKey !== null) {
            $headers[] = "Idempotency-Key: $idempotencyKey";
        }
        $curl = curl_init(setting('ENROLLPAY_URL') . $target);
        curl_setopt_array($curl, [
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_CONNECTTIMEOUT => 5,
            CURLOPT_TIMEOUT => 15,
            CURLOPT_HEADERFUNCTION => function ($_, string $line) use (&$wait): int {
                if ($wait !== null && preg_match('/^Retry-After: ([0-9]{1,3})\s*$/i', $line, $found)) {
                    $wait = (int) $found[1];
                }
                return strlen($line);
            },
        ]);
        if ($method === 'POST') {
            $headers[] = 'Content-Type: application/json';
            curl_setopt($curl, CURLOPT_POSTFIELDS, $data);
        }
        curl_setopt($curl, CURLOPT_HTTPHEADER, $headers);
        $text = curl_exec($curl);
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        $answer = is_string($text) ? json_decode($text, true) : null;
        if (is_array($answer) && $status >= 200 && $status < 300) {
            return [$status, $answer];
        }
        // No connection, no answer in time, or half an answer; or a gateway that is busy.
        $busy = !is_string($text) || in_array($status, [429, 500, 502, 503], true)
            || ($answer['code'] ?? '') === 'request_in_progress';
        if (!$busy || $wait === null) {
            throw is_string($text) ? new Refused($status, $answer ?? []) : new RuntimeException(curl_error($curl));
        }
        sleep($wait);
    }
}
// endregion

// region create
function create(string $orderNo): array
{
    $order = [
        'merchant_order_no' => $orderNo, // yours; the same number is the same order, for ever
        'subject' => '2021年4月自学考试报考费',
        'items' => [
            ['code' => '00024', 'name' => '普通逻辑', 'amount' => 3500],
            ['code' => '04729', 'name' => '大学语文', 'amount' => 10500],
        ],
        'amount' => 14000, // fen: ¥140.00, the sum of the items
        'currency' => 'CNY',
        'payer' => ['ref' => '650102000011', 'name' => '测试考生'],
    ];
    [, $order] = call('POST', '/v1/orders', $order, "create-$orderNo");
    return $order; // send the student to $order['cashier_url']
}
// endregion

// region ask
function read_order(string $order): array
{
    return call('GET', "/v1/orders/$order")[1];
}

/** Has the gateway ask WeChat Pay or Alipay now. */
function query(string $order): array
{
    return call('POST', "/v1/orders/$order/query")[1]['order'];
}

/** 200: closed for good. 202: the provider has not said its last word, so ask again. Refused with already_paid:
 *  the student was faster. */
function cancel(string $id): array
{
    for ($tries = 0; $tries < 15; $tries++) {
        [$status, $order] = call('POST', "/v1/orders/$id/cancel");
        if ($status === 200) {
            break;
        }
        sleep(2);
    }
    return $order;
}

function refund(string $order, string $refundNo, int $fen, string $reason): array
{
    $body = ['merchant_refund_no' => $refundNo, 'amount' => $fen, 'reason' => $reason];
    return call('POST', "/v1/orders/$order/refunds", $body, "refund-$refundNo")[1];
}
// endregion

// region verify
const TOLERANCE_SECONDS = 300;

/** null for a genuine delivery (Standard Webhooks), otherwise why it is not believed. $body: the bytes as they
 *  came; decoded and encoded again they would be others. */
function why_not(string $secret, string $id, string $timestamp, string $signatures, string $body, int $now): ?string
{
    $key = base64_decode(substr($secret, strlen('whsec_')), true);
    if (!str_starts_with($secret, 'whsec_') || !$key) {
        throw new RuntimeException('ENROLLPAY_WEBHOOK_SECRET: expected whsec_ and Base64');
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    // While a secret is being changed there are two, set apart by a blank: one that fits is enough.
    $genuine = false;
    foreach (explode(' ', $signatures) as $one) {
        // hash_equals takes the same time however much of the two is alike.
        $genuine = hash_equals($expected, $one) || $genuine;
    }
    if (!$genuine) {
        return 'signature';
    }
    // Signed by us, and yet it may be an old delivery that somebody has recorded and sends again.
    if (!preg_match('/^[0-9]{1,12}$/D', $timestamp) || abs($now - (int) $timestamp) > TOLERANCE_SECONDS) {
        return 'timestamp';
    }
    return null;
}
// endregion

// region keep
/** Everything that a verified event changes. Files stand for your database here: there it is ONE transaction,
 *  with the event's id and the order's number unique. */
function keep(array $event): string
{
    $order = $event['data']['order'];
    if (!preg_match('/^evt_[0-9A-Z]{26}$/D', $event['id']) || !preg_match('/^ord_[0-9A-Z]{26}$/D', $order['id'])) {
        return 'odd ids';
    }
    $state = setting('ENROLLPAY_STATE');
    foreach (['events', 'orders', 'enrolled'] as $folder) {
        is_dir("$state/$folder") || @mkdir("$state/$folder", 0700, true) || is_dir("$state/$folder")
            || throw new RuntimeException("$state/$folder cannot be made");
    }
    $lock = fopen("$state/lock", 'c');
    flock($lock, LOCK_EX); // until this request ends
    $seen = "$state/events/{$event['id']}";
    if (file_exists($seen)) {
        return 'repeated'; // deliveries come at least once
    }
    $kept = "$state/orders/{$order['id']}.json";
    $newest = file_exists($kept) ? json_decode(file_get_contents($kept), true)['version'] : 0;
    if ($order['version'] > $newest) { // a late delivery never overwrites a later one
        if ($order['status'] === 'paid' && $order['refund_status'] !== 'full') {
            fulfil($state, $order);
        }
        write("$kept.new", json_encode($order, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE));
        rename("$kept.new", $kept) || throw new RuntimeException("$kept cannot be written");
    }
    write($seen, '');
    return $order['version'] > $newest ? 'new' : 'older';
}

/** The student is enrolled, once. Compare number and amount with your own books before you do so; what takes
 *  time (mail, admission tickets) goes into a queue of yours. */
function fulfil(string $state, array $order): void
{
    $enrolled = "$state/enrolled/{$order['id']}";
    if (!file_exists($enrolled)) {
        write($enrolled, "{$order['merchant_order_no']} {$order['subject']} {$order['amount_paid']}\n");
    }
}

function write(string $path, string $text): void
{
    file_put_contents($path, $text) === strlen($text) || throw new RuntimeException("$path cannot be written");
}
// endregion

// region receive
/** One delivery. On disk first, then 2xx, within 15 seconds: anything else is sent again. */
function receive(): void
{
    if ($_SERVER['REQUEST_METHOD'] !== 'POST' || $_SERVER['REQUEST_URI'] !== '/webhooks') {
        answer(404, 'nothing here');
        return;
    }
    $body = file_get_contents('php://input', length: 1_048_577);
    if (strlen($body) > 1_048_576) {
        answer(413, 'too large');
        return;
    }
    $header = fn (string $name): string => $_SERVER["HTTP_WEBHOOK_$name"] ?? '';
    $why = why_not(
        setting('ENROLLPAY_WEBHOOK_SECRET'),
        $header('ID'), $header('TIMESTAMP'), $header('SIGNATURE'), $body, time()
    );
    if ($why !== null) {
        answer(401, "refused $why");
        return;
    }
    $event = json_decode($body, true, flags: JSON_THROW_ON_ERROR);
    $order = $event['data']['order'];
    answer(200, keep($event) . " {$event['id']} {$event['type']} {$order['id']} {$order['status']}");
}

function answer(int $status, string $line): void
{
    http_response_code($status);
    header('Content-Type: text/plain; charset=utf-8');
    echo $line;
    file_put_contents('php://stderr', "$line\n");
}
// endregion

// region self-check
function self_check(): void
{
    [$keyId, $secret] = ['key_01KAH8Z6D0W2F4M6P8R0T2V4X6', 'sk_example_do_not_use_4f6a0c1d2e3b'];
    [$timestamp, $nonce] = [1795168800, '5K8264ILTKCH16CQ2502SI8ZNMTM67VS'];
    $body = '{"merchant_order_no":"ZK202104-000123","subject":"2021年4月自学考试报考费"}';
    echo string_to_sign('POST', '/v1/orders', $timestamp, $nonce, $body);
    $header = authorization($keyId, $secret, 'POST', '/v1/orders', $timestamp, $nonce, $body);
    echo "Authorization: $header\n";

    [$secret, $id] = ['whsec_YW4gZXhhbXBsZSBrZXksIG5vdCBmb3IgdXNlIQ==', 'evt_01KAH8Z6D0W2F4M6P8R0T2V4X6'];
    $body = '{"id":"evt_01KAH8Z6D0W2F4M6P8R0T2V4X6","type":"order.paid","data":{"order":{"subject":"2021年4月自学考试报考费"}}}';
    $genuine = 'v1,Yftz0TfIlwLPjF3fPlh62/DY3uQDr08eyGJNb+Ayt+w=';
    $other = 'v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';
    $results = array_map(fn (array $case) => why_not($secret, $id, (string) $timestamp, ...$case) ?? 'genuine', [
        [$genuine, $body, $timestamp],
        ["$other $genuine", $body, $timestamp + 299], // during a rotation
        [$other, $body, $timestamp],
        [$genuine, "$body ", $timestamp],
        [$genuine, $body, $timestamp + 301],
    ]);
    echo "webhook-signature: $genuine\n", implode(' ', $results), "\n";
    $signed = str_ends_with($header, 'signature="ga0cD62lVHWykta+exR2wiUwgIQGF0bldWR8aZ5U/+I="');
    if (!$signed || $results !== ['genuine', 'genuine', 'signature', 'signature', 'timestamp']) {
        throw new RuntimeException('self-check: FAILED');
    }
    echo "self-check: ok\n";
}
// endregion

function show(array $answer): void
{
    foreach (['id', 'status', 'subject', 'amount', 'amount_paid', 'refund_status', 'cashier_url'] as $name) {
        if (isset($answer[$name])) {
            echo "$name $answer[$name]\n";
        }
    }
}

function main(array $arguments): void
{
    $command = array_shift($arguments);
    match ([$command, count($arguments)]) {
        ['create', 1] => show(create(...$arguments)),
        ['read', 1] => show(read_order(...$arguments)),
        ['query', 1] => show(query(...$arguments)),
        ['cancel', 1] => show(cancel(...$arguments)),
        ['refund', 4] => show(refund($arguments[0], $arguments[1], (int) $arguments[2], $arguments[3])),
        ['self-check', 0] => self_check(),
        default => throw new RuntimeException(
            'expected create ORDER_NO, read|query|cancel ORDER, refund ORDER REFUND_NO FEN REASON or self-check'
        ),
    };
}

if (PHP_SAPI === 'cli-server') {
    try {
        receive();
    } catch (Throwable $failed) {
        answer(500, $failed->getMessage()); // PHP itself might say 200
    }
    return;
}
try {
    main(array_slice($argv, 1));
} catch (RuntimeException $failed) {
    fwrite(STDERR, $failed->getMessage() . "\n");
    exit(1);
}
