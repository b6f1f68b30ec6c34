#!/bin/sh
# The steps of docs/integrate.md, in its order. A test takes them one by one, as a reader does: with the gateway
# and the receiver running beside it, and a student who pays in between.

# region school
target/release/enrollpay merchant create --name 我的学校 \
  --webhook-url http://127.0.0.1:9000/webhooks \
  --account wechat=demo-wechat --account alipay=demo-alipay > data/school.json

jq -r '"export ENROLLPAY_URL=http://127.0.0.1:8080 ENROLLPAY_LISTEN=127.0.0.1:9000
export ENROLLPAY_STATE=data/received
export ENROLLPAY_KEY_ID=\(.key_id) ENROLLPAY_SECRET=\(.secret)
export ENROLLPAY_WEBHOOK_SECRET=\(.webhook_secret)"' data/school.json > data/school.env
# endregion

# region receiver
. data/school.env
python3 docs/examples/python/enrollpay.py receive
# endregion

# region create
. data/school.env
python3 docs/examples/python/enrollpay.py create ZK202104-000123
# endregion

# region paid
ORDER=$(python3 docs/examples/python/enrollpay.py create ZK202104-000123 | sed -n 's/^id //p')
python3 docs/examples/python/enrollpay.py read "$ORDER"
cat "data/received/enrolled/$ORDER"
# endregion

# region refund
python3 docs/examples/python/enrollpay.py refund "$ORDER" TK-0001 3500 停考
# endregion

# region refunded
python3 docs/examples/python/enrollpay.py read "$ORDER"
# endregion

# region cancel
OTHER=$(python3 docs/examples/python/enrollpay.py create ZK202104-000124 | sed -n 's/^id //p')
python3 docs/examples/python/enrollpay.py cancel "$OTHER"
# endregion

# region explain
alias enrollpay=target/release/enrollpay
enrollpay call GET "/v1/orders/$ORDER/timeline" --url "$ENROLLPAY_URL"
enrollpay call GET '/v1/events?limit=10' --url "$ENROLLPAY_URL"
# endregion

# region lose
curl -sS -w '\n' -H 'Content-Type: application/json' http://127.0.0.1:8083/control/faults \
  -d '[{"operation":"wechat.notice","fault":"lost","count":null},
       {"operation":"alipay.notice","fault":"lost","count":null}]'
python3 docs/examples/python/enrollpay.py create ZK202104-000125
# endregion

# region found
LOST=$(python3 docs/examples/python/enrollpay.py create ZK202104-000125 | sed -n 's/^id //p')
python3 docs/examples/python/enrollpay.py query "$LOST"
# endregion

# region heal
curl -sS -w '\n' -X DELETE http://127.0.0.1:8083/control/faults
# endregion

# region reconcile
DAY=$(TZ=Asia/Shanghai date -d '2 days ago' +%F)
enrollpay reconcile --account demo-wechat --date "$DAY"
enrollpay call GET "/v1/reconciliations/demo-wechat/$DAY" --url "$ENROLLPAY_URL"
# endregion

# region self-check
sh docs/examples/curl/enrollpay.sh self-check
java -Dfile.encoding=UTF-8 docs/examples/java/Enrollpay.java self-check
php docs/examples/php/enrollpay.php self-check
python3 docs/examples/python/enrollpay.py self-check
# endregion
