// The server owns the time: countdowns, expiry, phones whose clock is wrong, and money that comes late.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  confirm, control, heading, innocent, launch, order, person, picture, says, scan, serve, truth, visit,
} from "./harness.mjs";

let browser;
let brief; // codes live for 10 s
let short; // codes live for 20 s: long enough to be scanned, which needs 15
let long; // codes live for three minutes
before(async () => {
  [browser, brief, short, long] = await Promise.all([
    launch(),
    serve({ env: { ENROLLPAY__ORDER__QR_SECONDS: "10" } }),
    serve({ env: { ENROLLPAY__ORDER__QR_SECONDS: "20" } }),
    serve(),
  ]);
});
after(() => Promise.all([browser, brief, short, long].map((one) => (one?.close ?? one?.stop)?.call(one))));

const shown = (page) => page.locator("#seconds").innerText().then(Number);

/** Both numbers read as one: the page's countdown, and the server's. */
async function countdown(page, cashier) {
  const before = await shown(page);
  const { remaining_ms: left } = await truth(cashier);
  const behind = await shown(page);
  return { before, after: behind, server: left / 1000 };
}

function agrees({ before, after, server }) {
  assert.ok(before >= server - 1 && after <= server + 1.2, `shows ${before}…${after}, server says ${server}`);
}

// They wait most of the time: side by side, the longest first.
describe("time", { concurrency: 3 }, () => {
  test("money that arrives after the end of the code counts, and is called late", async () => {
    const levers = control(short.simulator);
    const desk = await person(browser);
    const phone = await person(browser, { phone: true });
    const { cashier } = await order(short);
    const page = await visit(desk, cashier);
    // The provider says "closed" and closes nothing: a payment that was begun can still arrive.
    await levers.fault({ operation: "wechat.close", fault: "close_lies", count: null });
    const claimed = await scan(phone, page, "lisi");
    await heading(claimed, "请确认缴费信息");
    await confirm(claimed);
    await heading(page, "正在确认支付结果，请勿重复支付", 30_000);
    await picture(page, "cashier-confirming");
    assert.equal(await page.locator("#start").isVisible(), false, "no new code before the last word");
    await heading(page, "二维码已停用");
    await picture(page, "cashier-unverified");
    const [trade] = await levers.trades();
    await levers.payLate(trade.out_trade_no);
    await heading(page, "缴费成功（到账稍迟）");
    await says(page, "#text", "请勿重复支付");
    await heading(claimed, "已缴费，无需重复付款");
    await picture(page, "cashier-paid-late");
    assert.equal((await truth(cashier)).state, "paid_late");
    innocent(desk, phone);
  });

  test("at zero the code leaves the page; the server says expired; a new code works", async () => {
    const desk = await person(browser);
    const { cashier } = await order(brief);
    const page = await visit(desk, cashier);
    await page.locator("#qr-path:not([d=''])").waitFor();
    const heard = await page.evaluateHandle(() => {
      const heard = [];
      new MutationObserver(() => {
        const heading = document.getElementById("heading").textContent;
        if (heard.at(-1)?.heading !== heading) {
          heard.push({ heading, path: document.getElementById("qr-path").getAttribute("d") });
        }
      }).observe(document.getElementById("pay"), { subtree: true, childList: true, characterData: true });
      return heard;
    });
    await says(page, "#heading", /还剩 \d+ 秒/);
    await picture(page, "cashier-warning");
    await heading(page, "二维码已过期");
    await says(page, "#text", "尚未付款");
    assert.equal(await page.evaluate(() => document.activeElement.id), "heading", "the end takes the focus");
    assert.equal(await page.locator("#save").isVisible(), false);
    await picture(page, "cashier-expired");
    const states = await heard.jsonValue();
    const end = states.findIndex((state) => state.heading.startsWith("正在确认支付结果"));
    assert.ok(end >= 0, JSON.stringify(states.map((state) => state.heading)));
    assert.ok(states.slice(end).every((state) => !state.path), "no code from zero on");
    await page.getByRole("button", { name: "重新生成二维码" }).click();
    await page.locator("#qr-path:not([d=''])").waitFor();
    assert.equal((await truth(cashier)).attempt, 2);
    agrees(await countdown(page, cashier));
    innocent(desk);
  });

  for (const [name, days] of [["ahead", 1], ["behind", -1]]) {
    test(`a clock one day ${name} changes nothing`, async () => {
      const desk = await person(browser);
      await desk.addInitScript((shift) => {
        const now = Date.now.bind(Date);
        let jump = 0;
        Date.now = () => now() + shift + jump;
        window.jump = (by) => (jump += by);
      }, days * 86_400_000);
      const { cashier } = await order(long);
      const page = await visit(desk, cashier);
      await page.locator("#qr-path:not([d=''])").waitFor();
      const first = await shown(page);
      agrees(await countdown(page, cashier));
      await page.waitForFunction((from) => Number(document.getElementById("seconds").textContent) <= from - 2, first);
      agrees(await countdown(page, cashier));
      // Set by hand while the page is open: the page asks the server, and stays right.
      const [asked] = await Promise.all([
        page.waitForRequest((request) => request.url() === cashier),
        page.evaluate(() => window.jump(300_000)),
      ]);
      await asked.response();
      agrees(await countdown(page, cashier));
      // A reload shows the same end.
      const until = await page.locator("#until").innerText();
      await page.reload();
      assert.equal(await page.locator("#until").innerText(), until);
      agrees(await countdown(page, cashier));
      innocent(desk);
    });
  }

  test("back from another page, the countdown is the server's", async () => {
    const desk = await person(browser);
    const { cashier } = await order(long);
    const page = await visit(desk, cashier);
    await page.locator("#qr-path:not([d=''])").waitFor();
    await page.goto(`${long.origin}/docs`);
    await page.goBack();
    await page.locator("#qr-path:not([d=''])").waitFor();
    agrees(await countdown(page, cashier));
    assert.equal((await truth(cashier)).attempt, 1, "the same code");
  });

  test("offline and back: said, and mended by itself", async () => {
    const desk = await person(browser);
    const { cashier } = await order(long);
    const page = await visit(desk, cashier);
    await page.locator("#qr-path:not([d=''])").waitFor();
    await desk.setOffline(true);
    await heading(page, "网络已断开");
    await picture(page, "cashier-offline");
    await desk.setOffline(false);
    await heading(page, "请扫码支付");
    agrees(await countdown(page, cashier));
  });
});
