#!/usr/bin/env python3
"""enrollpay for an enrolment system in Python: the merchant API and its webhooks, standard library only.

    python3 enrollpay.py create ORDER_NO | read ORDER | query ORDER | cancel ORDER
    python3 enrollpay.py refund ORDER REFUND_NO FEN REASON
    python3 enrollpay.py receive          take webhooks
    python3 enrollpay.py self-check       compare with the published example; needs no gateway

Configuration comes from the environment; see setting().
"""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def setting(name):
    """Each is an environment variable; secrets have no default."""
    defaults = {
        "ENROLLPAY_URL": "http://127.0.0.1:8080",
        "ENROLLPAY_LISTEN": "127.0.0.1:9000",
        "ENROLLPAY_STATE": "enrollpay-received",
    }
    value = os.environ.get(name) or defaults.get(name)
    if not value:
        sys.exit(f"set {name}: `enrollpay merchant create` printed it")
    return value


# region sign
def string_to_sign(method, target, timestamp, nonce, body):
    """Five lines, each ended by a line feed. target: the path with its query; body: the bytes as sent."""
    return f"{method}\n{target}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"


def authorization(key_id, secret, method, target, timestamp, nonce, body):
    text = string_to_sign(method, target, timestamp, nonce, body)
    # The key is the secret as printed, "sk_" included.
    tag = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    signature = base64.b64encode(tag).decode()
    return (
        f'ENROLLPAY-HMAC-SHA256 key_id="{key_id}",timestamp="{timestamp}",'
        f'nonce="{nonce}",signature="{signature}"'
    )
# endregion


# region call
class Refused(Exception):
    """The gateway's no. Decide by code, never by detail; quote request_id when you ask for help."""

    def __init__(self, status, problem):
        self.status, self.code = status, problem.get("code", "unreadable")
        found = "".join(f"\n  {one['pointer']}: {one['detail']}" for one in problem.get("errors", []))
        super().__init__(f"HTTP {status} {self.code}: {problem.get('detail')} ({problem.get('request_id')}){found}")


def call(method, target, body=None, idempotency_key=None):
    """One request, repeated until there is an answer. A repeat keeps the Idempotency-Key, so that it is
    done once however often it is sent; it is signed afresh, because a nonce is taken once."""
    data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    for wait in (1, 2, 4, 8, None):
        signed = authorization(
            setting("ENROLLPAY_KEY_ID"), setting("ENROLLPAY_SECRET"),
            method, target, int(time.time()), secrets.token_hex(16), data,
        )
        request = urllib.request.Request(setting("ENROLLPAY_URL") + target, method=method)
        request.add_header("Authorization", signed)
        if data:
            request.data = data
            request.add_header("Content-Type", "application/json")
        if idempotency_key:
            request.add_header("Idempotency-Key", idempotency_key)
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as answer:
            problem = read_problem(answer)
            busy = answer.code in (429, 500, 502, 503) or problem.get("code") == "request_in_progress"
            if not busy or wait is None:
                raise Refused(answer.code, problem) from None
            if re.fullmatch("[0-9]{1,3}", answer.headers.get("Retry-After", "")):
                wait = int(answer.headers["Retry-After"])
        except (OSError, HTTPException):  # no connection, no answer in time, or half an answer
            if wait is None:
                raise
        time.sleep(wait)
# endregion


def read_problem(answer):
    try:
        return json.load(answer)
    except ValueError:
        return {"detail": "no problem document: is this the gateway?"}


# region create
def create(order_no):
    order = {
        "merchant_order_no": order_no,  # yours; the same number is the same order, for ever
        "subject": "2021年4月自学考试报考费",
        "items": [
            {"code": "00024", "name": "普通逻辑", "amount": 3500},
            {"code": "04729", "name": "大学语文", "amount": 10500},
        ],
        "amount": 14000,  # fen: ¥140.00, the sum of the items
        "currency": "CNY",
        "payer": {"ref": "650102000011", "name": "测试考生"},
    }
    _, order = call("POST", "/v1/orders", order, f"create-{order_no}")
    return order  # send the student to order["cashier_url"]
# endregion


# region ask
def read(order_id):
    return call("GET", f"/v1/orders/{order_id}")[1]


def query(order_id):
    """Has the gateway ask WeChat Pay or Alipay now."""
    return call("POST", f"/v1/orders/{order_id}/query")[1]["order"]


def cancel(order_id):
    """200: closed for good. 202: the provider has not said its last word, so ask again. Refused with
    already_paid: the student was faster."""
    for _ in range(15):
        status, order = call("POST", f"/v1/orders/{order_id}/cancel")
        if status == 200:
            break
        time.sleep(2)
    return order


def refund(order_id, refund_no, fen, reason):
    body = {"merchant_refund_no": refund_no, "amount": fen, "reason": reason}
    return call("POST", f"/v1/orders/{order_id}/refunds", body, f"refund-{refund_no}")[1]
# endregion


# region verify
TOLERANCE_SECONDS = 300


def why_not(secret, event_id, timestamp, signatures, body, now):
    """None for a genuine delivery (Standard Webhooks), otherwise why it is not believed. body: the bytes
    as they came; parsed and written again they would be others."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{timestamp}.".encode() + body
    tag = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    # While a secret is being changed there are two, set apart by a blank: one that fits is enough.
    # compare_digest takes the same time however much of the two is alike.
    given = signatures.encode().split(b" ")
    if not any([hmac.compare_digest(b"v1," + tag, one) for one in given]):
        return "signature"
    # Signed by us, and yet it may be an old delivery that somebody has recorded and sends again.
    if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return "timestamp"
    return None
# endregion


# region keep
LOCK = threading.Lock()


def keep(event):
    """Everything that a verified event changes. Files stand for your database here: there it is ONE
    transaction, with the event's id and the order's number unique."""
    order, state = event["data"]["order"], Path(setting("ENROLLPAY_STATE"))
    if not re.fullmatch("evt_[0-9A-Z]{26}", event["id"]) or not re.fullmatch("ord_[0-9A-Z]{26}", order["id"]):
        return "odd ids"
    for folder in ("events", "orders", "enrolled"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    with LOCK:
        seen = state / "events" / event["id"]
        if seen.exists():
            return "repeated"  # deliveries come at least once
        kept = state / "orders" / f"{order['id']}.json"
        newest = json.loads(kept.read_text("utf-8"))["version"] if kept.exists() else 0
        if order["version"] > newest:  # a late delivery never overwrites a later one
            if order["status"] == "paid" and order["refund_status"] != "full":
                fulfil(state, order)
            new = kept.with_suffix(".new")
            new.write_text(json.dumps(order, ensure_ascii=False), "utf-8")
            new.replace(kept)
        seen.touch()
        return "new" if order["version"] > newest else "older"


def fulfil(state, order):
    """The student is enrolled, once. Compare number and amount with your own books before you do so;
    what takes time (mail, admission tickets) goes into a queue of yours."""
    try:
        with open(state / "enrolled" / order["id"], "x", encoding="utf-8") as file:
            file.write(f"{order['merchant_order_no']} {order['subject']} {order['amount_paid']}\n")
    except FileExistsError:
        pass
# endregion


# region receive
class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # nobody keeps a thread by sending nothing

    def do_POST(self):
        size = self.headers.get("Content-Length", "")
        if self.path != "/webhooks":
            return self.answer(404, "nothing here")
        if not re.fullmatch("[0-9]{1,7}", size) or int(size) > 1_048_576:
            return self.answer(413, "too large")
        body = self.rfile.read(int(size))
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        headers = [self.headers.get(name, "") for name in names]
        why = why_not(setting("ENROLLPAY_WEBHOOK_SECRET"), *headers, body, int(time.time()))
        if why:
            return self.answer(401, f"refused {why}")
        event = json.loads(body)
        order = event["data"]["order"]
        # On disk first, then 2xx, within 15 seconds: anything else is sent again.
        self.answer(200, f"{keep(event)} {event['id']} {event['type']} {order['id']} {order['status']}")

    def answer(self, status, line):
        print(line, flush=True)
        body = line.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
# endregion


def receive():
    host, port = setting("ENROLLPAY_LISTEN").rsplit(":", 1)
    setting("ENROLLPAY_WEBHOOK_SECRET")
    server = ThreadingHTTPServer((host, int(port)), Receiver)
    print(f"listening on http://{host}:{port}/webhooks", flush=True)
    server.serve_forever()


# region self-check
def self_check():
    key_id, secret = "key_01KAH8Z6D0W2F4M6P8R0T2V4X6", "sk_example_do_not_use_4f6a0c1d2e3b"
    timestamp, nonce = 1795168800, "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"
    body = '{"merchant_order_no":"ZK202104-000123","subject":"2021年4月自学考试报考费"}'.encode()
    print(string_to_sign("POST", "/v1/orders", timestamp, nonce, body).decode(), end="")
    header = authorization(key_id, secret, "POST", "/v1/orders", timestamp, nonce, body)
    print(f"Authorization: {header}")

    secret, event_id = "whsec_YW4gZXhhbXBsZSBrZXksIG5vdCBmb3IgdXNlIQ==", "evt_01KAH8Z6D0W2F4M6P8R0T2V4X6"
    body = '{"id":"evt_01KAH8Z6D0W2F4M6P8R0T2V4X6","type":"order.paid","data":{"order":{"subject":"2021年4月自学考试报考费"}}}'.encode()
    genuine, other = "v1,Yftz0TfIlwLPjF3fPlh62/DY3uQDr08eyGJNb+Ayt+w=", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    results = [
        why_not(secret, event_id, str(timestamp), signatures, text, now) or "genuine"
        for signatures, text, now in (
            (genuine, body, timestamp),
            (f"{other} {genuine}", body, timestamp + 299),  # during a rotation
            (other, body, timestamp),
            (genuine, body + b" ", timestamp),
            (genuine, body, timestamp + 301),
        )
    ]
    print(f"webhook-signature: {genuine}")
    print(" ".join(results))
    if not header.endswith('signature="ga0cD62lVHWykta+exR2wiUwgIQGF0bldWR8aZ5U/+I="') or results != [
        "genuine", "genuine", "signature", "signature", "timestamp",
    ]:
        sys.exit("self-check: FAILED")
    print("self-check: ok")
# endregion


def show(answer):
    for name in ("id", "status", "subject", "amount", "amount_paid", "refund_status", "cashier_url"):
        if answer.get(name) is not None:
            print(name, answer[name])


def main():
    commands = {
        ("create", 1): lambda number: show(create(number)),
        ("read", 1): lambda order: show(read(order)),
        ("query", 1): lambda order: show(query(order)),
        ("cancel", 1): lambda order: show(cancel(order)),
        ("refund", 4): lambda order, number, fen, reason: show(refund(order, number, int(fen), reason)),
        ("receive", 0): receive,
        ("self-check", 0): self_check,
    }
    command, arguments = sys.argv[1:2], sys.argv[2:]
    chosen = commands.get((*command, len(arguments)))
    if not chosen:
        sys.exit(__doc__)
    try:
        chosen(*arguments)
    except (Refused, OSError, HTTPException) as failed:
        sys.exit(f"{failed}")


if __name__ == "__main__":
    main()
