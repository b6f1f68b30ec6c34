#!/bin/sh
# enrollpay from a shell: the merchant API and its webhooks with curl, openssl and jq.
#
#     enrollpay.sh create ORDER_NO | read ORDER | query ORDER | cancel ORDER
#     enrollpay.sh refund ORDER REFUND_NO FEN REASON
#     enrollpay.sh receive        take webhooks (with socat, a process each)
#     enrollpay.sh self-check     compare with the published example; needs no gateway
#
# For exploring and for scripts of operators: openssl takes the secret on its command line, where other users
# of this machine may read it. Configuration comes from the environment:
: "${ENROLLPAY_URL:=http://127.0.0.1:8080}" "${ENROLLPAY_LISTEN:=127.0.0.1:9000}"
: "${ENROLLPAY_STATE:=enrollpay-received}"
# and ENROLLPAY_KEY_ID, ENROLLPAY_SECRET, ENROLLPAY_WEBHOOK_SECRET, which `enrollpay merchant create` printed.
set -eu

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# region sign
# METHOD PATH?QUERY TIMESTAMP NONCE BODY: five lines, each ended by a line feed.
string_to_sign() {
  printf '%s\n%s\n%s\n%s\n%s\n' "$@"
}

# KEY_ID SECRET, and what is signed. The key is the secret as printed, "sk_" included.
authorization() {
  key_id=$1 secret=$2
  shift 2
  signature=$(string_to_sign "$@" | openssl dgst -sha256 -hmac "$secret" -binary | openssl base64 -A)
  printf 'ENROLLPAY-HMAC-SHA256 key_id="%s",timestamp="%s",nonce="%s",signature="%s"' \
    "$key_id" "$3" "$4" "$signature"
}
# endregion

# region call
# METHOD PATH?QUERY BODY IDEMPOTENCY_KEY: prints the answer, and leaves its status in $status. Repeated until
# there is an answer. A repeat keeps the Idempotency-Key, so that it is done once however often it is sent; it is
# signed afresh, because a nonce is taken once.
call() {
  : "${ENROLLPAY_KEY_ID:?what merchant create printed}" "${ENROLLPAY_SECRET:?what merchant create printed}"
  method=$1 target=$2 body=$3 key=$4
  for wait in 1 2 4 8 last; do
    signed=$(authorization "$ENROLLPAY_KEY_ID" "$ENROLLPAY_SECRET" \
      "$method" "$target" "$(date +%s)" "$(openssl rand -hex 16)" "$body")
    set -- --silent --show-error --max-time 15 --request "$method" --header "Authorization: $signed"
    [ -z "$key" ] || set -- "$@" --header "Idempotency-Key: $key"
    [ "$method" = GET ] || set -- "$@" --header 'Content-Type: application/json' --data-raw "$body"
    status=0 answer=
    if answer=$(curl "$@" --write-out '\n%{http_code} %header{retry-after}' "$ENROLLPAY_URL$target"); then
      last=${answer##*
}
      answer=${answer%
*} status=${last%% *} after=${last#* }
      [ -z "$after" ] || [ "$wait" = last ] || wait=$after
    fi
    case $status in
      2*) return ;;
      0 | 429 | 500 | 502 | 503) ;; # no answer, or a gateway that is busy
      *) [ "$(member .code)" = request_in_progress ] || wait=last ;;
    esac
    # Decide by code, never by detail; quote request_id when you ask for help.
    [ "$wait" != last ] || fail "HTTP $status $(member .code): $(member .detail) ($(member .request_id)) $(member .errors)"
    sleep "$wait"
  done
}

# One member of $answer; nothing where there is none.
member() {
  printf '%s' "$answer" | jq -r "$1 // empty" 2>/dev/null || :
}
# endregion

# region create
create() {
  # The number is yours; the same number is the same order, for ever. Money is in fen: 14000 is ¥140.00.
  body=$(jq -cn --arg number "$1" '{
    merchant_order_no: $number,
    subject: "2021年4月自学考试报考费",
    items: [
      { code: "00024", name: "普通逻辑", amount: 3500 },
      { code: "04729", name: "大学语文", amount: 10500 }
    ],
    amount: 14000, currency: "CNY",
    payer: { ref: "650102000011", name: "测试考生" }
  }')
  call POST /v1/orders "$body" "create-$1" # send the student to its cashier_url
}
# endregion

# region ask
read_order() {
  call GET "/v1/orders/$1" '' ''
}

# Has the gateway ask WeChat Pay or Alipay now.
query() {
  call POST "/v1/orders/$1/query" '' ''
  answer=$(member .order)
}

# 200: closed for good. 202: the provider has not said its last word, so ask again. Refused with already_paid: the
# student was faster.
cancel() {
  order=$1
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    call POST "/v1/orders/$order/cancel" '' ''
    [ "$status" = 202 ] || break
    sleep 2
  done
}

refund() {
  order=$1 number=$2
  body=$(jq -cn --arg number "$2" --argjson fen "$3" --arg reason "$4" \
    '{ merchant_refund_no: $number, amount: $fen, reason: $reason }')
  call POST "/v1/orders/$order/refunds" "$body" "refund-$number"
}
# endregion

# region verify
# SECRET ID TIMESTAMP SIGNATURES NOW, and the body as it came on standard input. Prints "genuine" (Standard
# Webhooks), or why the delivery is not believed.
judge() {
  key=$(printf '%s' "${1#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \n')
  tag=$({ printf '%s.%s.' "$2" "$3" && cat; } |
    openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
  # While a secret is being changed there are two, set apart by a blank: one that fits is enough.
  verdict=signature
  set -f
  for one in $4; do
    if same "v1,$tag" "$one"; then verdict=genuine; fi
  done
  set +f
  # Signed by us, and yet it may be an old delivery that somebody has recorded and sends again.
  if [ $verdict = genuine ]; then
    apart=$(($5 - $(printf '%s' "$3" | grep -Ex '[1-9][0-9]{0,11}' || echo 0)))
    if [ "${apart#-}" -gt 300 ]; then verdict=timestamp; fi
  fi
  echo $verdict
}

# Compares two texts by what a key that nobody can guess makes of them: how long that takes tells nothing.
same() {
  random=$(openssl rand -hex 32)
  [ "$(printf '%s' "$1" | openssl dgst -sha256 -hmac "$random")" = \
    "$(printf '%s' "$2" | openssl dgst -sha256 -hmac "$random")" ]
}
# endregion

# region keep
# Everything that a verified event, in the file $1, changes; prints what it was. Files stand for your database
# here: there it is ONE transaction, with the event's id and the order's number unique.
keep() {
  event=$(jq -r .id "$1") order=$(jq -r .data.order.id "$1") version=$(jq .data.order.version "$1")
  case $event$order in *[!0-9A-Za-z_]*) fail "odd ids" ;; esac
  seen=$ENROLLPAY_STATE/events/$event kept=$ENROLLPAY_STATE/orders/$order.json
  if [ -e "$seen" ]; then
    echo repeated # deliveries come at least once
    return
  fi
  newest=0
  [ ! -e "$kept" ] || newest=$(jq .version "$kept")
  if [ "$version" -gt "$newest" ]; then # a late delivery never overwrites a later one
    if jq -e '.data.order | .status == "paid" and .refund_status != "full"' "$1" >/dev/null; then
      fulfil "$1" "$ENROLLPAY_STATE/enrolled/$order"
    fi
    jq -c .data.order "$1" >"$kept.new"
    mv "$kept.new" "$kept"
  fi
  : >"$seen"
  if [ "$version" -gt "$newest" ]; then echo new; else echo older; fi
}

# The student is enrolled, once. Compare number and amount with your own books before you do so; what takes time
# (mail, admission tickets) goes into a queue of yours.
fulfil() {
  [ -e "$2" ] || jq -r '.data.order | "\(.merchant_order_no) \(.subject) \(.amount_paid)"' "$1" >"$2"
}
# endregion

# region receive
receive() {
  : "${ENROLLPAY_WEBHOOK_SECRET:?what merchant create printed}"
  mkdir -p "$ENROLLPAY_STATE/events" "$ENROLLPAY_STATE/orders" "$ENROLLPAY_STATE/enrolled"
  export ENROLLPAY_STATE
  echo "listening on http://$ENROLLPAY_LISTEN/webhooks"
  exec socat -T 10 "TCP-LISTEN:${ENROLLPAY_LISTEN#*:},bind=${ENROLLPAY_LISTEN%:*},reuseaddr,fork,max-children=8" \
    "EXEC:sh '$0' connection"
}

# One delivery: an HTTP request on standard input. On disk first, then 2xx, within 15 seconds: anything else is
# sent again.
connection() {
  return=$(printf '\r') id='' timestamp='' signatures='' size=''
  read -r method path _
  while IFS= read -r line && [ -n "${line%"$return"}" ]; do
    value=$(printf '%s' "${line#*:}" | tr -d '\r' | sed 's/^ *//')
    case $(printf '%s' "${line%%:*}" | tr '[:upper:]' '[:lower:]') in
      webhook-id) id=$value ;;
      webhook-timestamp) timestamp=$value ;;
      webhook-signature) signatures=$value ;;
      content-length) size=$value ;;
    esac
  done
  [ "$method $path" = 'POST /webhooks' ] || respond '404 Not Found' 'nothing here'
  case $size in '' | *[!0-9]* | ????????*) respond '413 Content Too Large' 'too large' ;; esac
  file=$(mktemp)
  trap 'rm -f "$file"' EXIT
  head -c "$size" >"$file"
  verdict=$(judge "$ENROLLPAY_WEBHOOK_SECRET" "$id" "$timestamp" "$signatures" "$(date +%s)" <"$file")
  [ "$verdict" = genuine ] || respond '401 Unauthorized' "refused $verdict"
  exec 9>"$ENROLLPAY_STATE/lock"
  flock 9 # until this process ends
  was=$(keep "$file")
  respond '200 OK' "$was $(jq -r '"\(.id) \(.type) \(.data.order | "\(.id) \(.status)")"' "$file")"
}

respond() {
  printf '%s\n' "$2" >&2
  printf 'HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%s' "$1" "${#2}" "$2"
  exit
}
# endregion

# region self-check
self_check() {
  secret=sk_example_do_not_use_4f6a0c1d2e3b timestamp=1795168800
  set -- POST /v1/orders $timestamp 5K8264ILTKCH16CQ2502SI8ZNMTM67VS \
    '{"merchant_order_no":"ZK202104-000123","subject":"2021年4月自学考试报考费"}'
  string_to_sign "$@"
  header=$(authorization key_01KAH8Z6D0W2F4M6P8R0T2V4X6 $secret "$@")
  printf 'Authorization: %s\n' "$header"

  event='{"id":"evt_01KAH8Z6D0W2F4M6P8R0T2V4X6","type":"order.paid","data":{"order":{"subject":"2021年4月自学考试报考费"}}}'
  genuine=v1,Yftz0TfIlwLPjF3fPlh62/DY3uQDr08eyGJNb+Ayt+w=
  other=v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
  case_of() {
    printf '%s' "$2" | judge whsec_YW4gZXhhbXBsZSBrZXksIG5vdCBmb3IgdXNlIQ== \
      evt_01KAH8Z6D0W2F4M6P8R0T2V4X6 $timestamp "$1" "$3"
  }
  results=$({
    case_of $genuine "$event" $timestamp
    case_of "$other $genuine" "$event" $((timestamp + 299)) # during a rotation
    case_of $other "$event" $timestamp
    case_of $genuine "$event " $timestamp
    case_of $genuine "$event" $((timestamp + 301))
  } | paste -sd ' ' -)
  printf 'webhook-signature: %s\n%s\n' $genuine "$results"
  [ "${header#*signature=}" = '"ga0cD62lVHWykta+exR2wiUwgIQGF0bldWR8aZ5U/+I="' ] &&
    [ "$results" = 'genuine genuine signature signature timestamp' ] || fail 'self-check: FAILED'
  echo 'self-check: ok'
}
# endregion

show() {
  for name in id status subject amount amount_paid refund_status cashier_url; do
    value=$(member ".$name")
    [ -z "$value" ] || printf '%s %s\n' "$name" "$value"
  done
}

case "${1:-} $#" in
  'create 2') create "$2"; show ;;
  'read 2') read_order "$2"; show ;;
  'query 2') query "$2"; show ;;
  'cancel 2') cancel "$2"; show ;;
  'refund 5') refund "$2" "$3" "$4" "$5"; show ;;
  'receive 1') receive ;;
  'connection 1') connection ;;
  'self-check 1') self_check ;;
  *) fail 'expected create ORDER_NO, read|query|cancel ORDER, refund ORDER REFUND_NO FEN REASON, receive or self-check' ;;
esac
