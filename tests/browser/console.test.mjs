// The operators' console in a browser: what a help desk sees when somebody
// calls, and how two people settle money that does not fit.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  call, confirm, control, faults, innocent, inWallet, launch, order, pay, person, picture, serve, sticksOut, says, until,
} from "./harness.mjs";

let browser;
let gateway;
let passwords;
before(async () => {
  [browser, gateway] = await Promise.all([launch(), serve()]);
  passwords = JSON.parse(await readFile(join(gateway.cwd, "data/demo-operators.json"), "utf8"));
});
after(() => Promise.all([browser?.close(), gateway?.stop()]));

/** Somebody of the help desk. */
async function operator(name, password = passwords[name]) {
  const context = await person(browser);
  const page = await context.newPage();
  await page.goto(`${gateway.console}/`);
  await page.getByLabel("用户名").fill(name);
  await page.getByLabel("密码").fill(password);
  await page.getByRole("button", { name: "登录" }).click();
  return { context, page };
}

/** Pictures and axe, on a desk and on a phone, in both schemes. */
async function looked(page, name) {
  const found = [];
  assert.equal(await page.evaluate(() => document.scripts.length), 0, "no page has a script");
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [1280, 375]) {
      await page.setViewportSize({ width, height: 900 });
      if (await sticksOut(page)) found.push(`${scheme} ${width}: scrolls sideways`);
      await picture(page, `console-${name}-${scheme}-${width}`);
    }
    for (const fault of await faults(page)) found.push(`${scheme}: ${fault}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
  assert.deepEqual(found, [], name);
}

/** A registration whose code a phone has claimed; with what the school calls it. */
async function claimed(who) {
  const phone = await person(browser, { phone: true });
  const { cashier } = await order(gateway);
  const page = await inWallet(phone, gateway.simulator, who, cashier);
  await page.locator("#ways button").filter({ visible: true }).first().click();
  await says(page, "#heading", "请确认缴费信息");
  const [newest] = (await call(gateway, "GET", "/v1/orders?limit=1")).data;
  return { phone, page, newest };
}

test("the help desk finds an order and says why it is unpaid, then that it is paid", async () => {
  const stranger = await operator("li.wei", "not the password");
  await says(stranger.page, "[role=alert]", "用户名或密码不正确");
  await looked(stranger.page, "login");

  const { phone, page: payer, newest } = await claimed("wangwu");
  const { context, page } = await operator("li.wei");
  await says(page, "h1", "待办");
  await says(page, ".calm", "没有需要人处理的事");
  const search = async (text) => {
    await page.getByLabel("订单号、交易号").fill(text);
    await page.getByRole("button", { name: "查找" }).click();
  };
  await search("没有这个号");
  await says(page, "section", "没有找到");
  await looked(page, "search");
  await search(newest.merchant_order_no);
  await says(page, ".sentence", "已于");
  await says(page, ".sentence", "扫码，还没有付款");
  await says(page, ".badge", "缴费中");
  await looked(page, "order-unpaid");

  await confirm(payer);
  await pay(payer);
  const paid = await until("the payment", async () => {
    const now = await call(gateway, "GET", `/v1/orders/${newest.id}`);
    return now.status === "paid" && now;
  });
  await page.goto(`${gateway.console}/search`);
  await search(paid.payment.transaction_id);
  await says(page, ".sentence", "已缴费");
  await until("the webhook", async () => {
    await page.reload();
    return page.getByText("已送达").isVisible();
  });
  const { name } = newest.payer;
  if (name) await says(page, ".facts", name);
  await looked(page, "order-paid");
  await page.getByRole("button", { name: "重新推送" }).click();
  await says(page, "[role=status]", "已安排重新推送");
  await page.goto(`${gateway.console}/audit`);
  await says(page, "tbody", "event resend");
  await looked(page, "audit");
  innocent(context, phone, stranger.context);
});

test("two people settle money that does not fit", async () => {
  const { phone, page: payer, newest } = await claimed("zhaoliu").catch(() => claimed("wangwu"));
  await confirm(payer);
  const simulators = control(gateway.simulator);
  const trade = await until("a trade", async () => {
    const trades = await simulators.trades();
    return trades.map((one) => one.out_trade_no).find((number) => newest.id.endsWith(number.slice(0, 26)));
  });
  await simulators.forge(trade, "wrong_amount");
  const li = await operator("li.wei");
  await until("the odd money", async () => {
    await li.page.goto(`${gateway.console}/`);
    return li.page.getByText("金额不符").isVisible();
  });
  await looked(li.page, "home");
  await li.page.getByRole("link", { name: "金额不符" }).click();
  await says(li.page, "h1", "处理异常款项");
  await looked(li.page, "settle-propose");
  await li.page.getByLabel("账外处理").check();
  await li.page.getByRole("button", { name: "提出处理意见" }).click();
  await says(li.page, "[role=status]", "还需要另一位同事确认");
  await li.page.getByRole("link", { name: "去处理" }).click();
  await says(li.page, "section", "你已于");
  assert.equal(await li.page.getByRole("button", { name: "同意" }).count(), 0);
  const address = li.page.url();

  const wang = await operator("wang.fang");
  await wang.page.goto(address);
  await looked(wang.page, "settle-agree");
  await wang.page.getByRole("button", { name: "我已核对，同意账外处理" }).click();
  await says(wang.page, "[role=status]", "两人意见一致");
  await says(wang.page, "td", "已账外处理");
  await looked(wang.page, "order-odd");
  await wang.page.getByRole("button", { name: "退出" }).click();
  await says(wang.page, "h1", "登录");
  await wang.page.goBack();
  await wang.page.reload();
  await says(wang.page, "h1", "登录");
  innocent(li.context, wang.context, phone);
});

test("a day's reconciliation", async () => {
  const { context, page } = await operator("wang.fang");
  await page.getByRole("link", { name: "对账" }).click();
  await page.getByRole("button", { name: "开始" }).click();
  await says(page, "h1, [role=status]", /对账|操作没有执行/);
  await page.goto(`${gateway.console}/reconciliations`);
  await until("a run", async () => {
    await page.reload();
    return page.locator("tbody a").first().isVisible();
  });
  await looked(page, "reconciliations");
  await page.locator("tbody a").first().click();
  await says(page, "h1", /\d{4}-\d{2}-\d{2}/);
  await looked(page, "reconciliation");
  innocent(context);
});
