// What the simulated wallet adds to every page: its top bar, its JS bridge and its payment sheet.
(function () {
  "use strict";
  var facts = __FACTS__;

  function make(name, className, text) {
    var element = document.createElement(name);
    if (className) element.className = className;
    if (text) element.textContent = text;
    return element;
  }

  function post(path, body) {
    return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })
      .then(function (answer) { return answer.json(); });
  }

  // Shows the sheet and calls back once: "ok", "cancel" or "fail".
  function sheet(parameters, done) {
    post("/__wallet/sheet", parameters).then(function (trade) {
      var shade = make("div", "ep-wallet-shade");
      var box = make("div", "ep-wallet-sheet " + facts.wallet);
      box.setAttribute("role", "dialog");
      box.setAttribute("aria-label", facts.label + "支付");
      shade.appendChild(box);
      function end(result, why) { shade.remove(); done(result, why); }
      function button(text, id, className, act) {
        var element = make("button", className, text);
        element.id = "ep-wallet-" + id;
        element.addEventListener("click", act);
        box.appendChild(element);
        return element;
      }
      box.appendChild(make("h2", "", facts.label + "支付"));
      if (trade.refused) {
        box.appendChild(make("p", "ep-bad", trade.refused));
        button("关闭", "close", "", function () { end("fail", trade.refused); });
        document.body.appendChild(shade);
        return;
      }
      box.appendChild(make("p", "", trade.description));
      box.appendChild(make("strong", "", "¥" + trade.amount));
      box.appendChild(make("p", "", facts.person + " · " + trade.method));
      var complaint = make("p", "ep-bad");
      box.appendChild(complaint);
      function finish(action) { return post("/__wallet/finish", { out_trade_no: trade.out_trade_no, action: action }); }
      var pay = button("确认付款", "pay", "ep-go", function () {
        pay.disabled = true;
        finish("pay").then(function (answer) {
          if (answer.refused) { complaint.textContent = answer.refused; pay.disabled = false; return; }
          while (box.firstChild) box.removeChild(box.firstChild);
          box.appendChild(make("h2", "", "支付成功"));
          box.appendChild(make("strong", "", "¥" + trade.amount));
          button("完成", "done", "ep-go", function () { end("ok"); }).focus();
        });
      });
      button("试试余额不足", "poor", "", function () {
        finish("poor").then(function (answer) { complaint.textContent = answer.refused; });
      });
      button("取消", "cancel", "", function () { finish("give_up").then(function () { end("cancel"); }); });
      document.body.appendChild(shade);
      pay.focus();
    }, function () { done("fail", "network"); });
  }

  function wechat() {
    window.WeixinJSBridge = {
      invoke: function (name, parameters, callback) {
        if (name !== "getBrandWCPayRequest") { callback({ err_msg: name + ":fail_not_support" }); return; }
        sheet(parameters, function (result, why) {
          var answer = { err_msg: "get_brand_wcpay_request:" + result };
          if (why) answer.err_desc = why;
          callback(answer);
        });
      },
      call: function () {},
      on: function () {}
    };
    document.dispatchEvent(new Event("WeixinJSBridgeReady"));
  }

  function alipay() {
    window.AlipayJSBridge = {
      call: function (name, parameters, callback) {
        if (typeof parameters === "function") { callback = parameters; parameters = {}; }
        callback = callback || function () {};
        if (name !== "tradePay") { callback({ error: 1 }); return; }
        sheet(parameters, function (result) {
          callback({ resultCode: result === "ok" ? "9000" : result === "cancel" ? "6001" : "4000" });
        });
      }
    };
    document.dispatchEvent(new Event("AlipayJSBridgeReady"));
  }

  document.addEventListener("DOMContentLoaded", function () {
    var bar = make("div", "ep-wallet-bar " + facts.wallet);
    var who = make("span");
    who.appendChild(make("i", "", facts.label));
    who.appendChild(document.createTextNode(facts.person));
    bar.appendChild(who);
    var leave = make("a", "", "✕ 关闭");
    leave.href = "/__wallet/close";
    bar.appendChild(leave);
    document.body.insertBefore(bar, document.body.firstChild);
    // The bridge comes a moment after the page, as on a phone: pages must wait for the event.
    setTimeout(facts.wallet === "wechat" ? wechat : alipay, 30);
  });
})();
