// Everything by links and forms, for browsers whose scripts do not run.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  AGENTS, content, heading, inWallet, innocent, launch, order, person, picture, says, serve, truth, visit,
} from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

const plain = { javaScriptEnabled: false };

test("the cashier by forms: generate, query, regenerate, cancel", async () => {
  const desk = await person(browser, plain);
  const { cashier } = await order(gateway);
  const page = await visit(desk, cashier);
  await heading(page, "请生成付款二维码");
  await picture(page, "noscript-ready");
  assert.equal((await truth(cashier)).attempt, null, "looking starts nothing");
  await page.getByRole("button", { name: "生成二维码" }).click();
  await heading(page, "请扫码支付");
  await says(page, "#until", /请于 \d\d:\d\d:\d\d 前付款/);
  assert.equal(await page.locator(".timer").isVisible(), false, "no countdown that stands still");
  await says(page, "noscript p", "不运行脚本");
  assert.equal(await page.locator(".needs-script").filter({ visible: true }).count(), 0);
  await picture(page, "noscript-awaiting");
  const first = await content(page);
  await page.getByRole("button", { name: "查询缴费结果" }).click();
  await says(page, "#answer", "暂未查到付款记录");
  // A claim, and the page tells it after a reload.
  const phone = await person(browser, { ...plain, phone: true });
  const claimed = await inWallet(phone, gateway.simulator, "zhangsan", first);
  await heading(claimed, "正在打开支付");
  assert.equal((await truth(cashier)).state, "awaiting", "opening the address claims nothing");
  await picture(claimed, "noscript-phone-opening");
  await claimed.getByRole("button", { name: "继续" }).click();
  await heading(claimed, "请确认缴费信息");
  await page.reload();
  await heading(page, "已扫码，请在手机上确认付款");
  await page.getByRole("button", { name: "不是我扫的？重新生成" }).click();
  await heading(page, "请扫码支付");
  assert.notEqual(await content(page), first);
  assert.equal((await truth(cashier)).attempt, 2);
  // The first phone's code is off.
  await claimed.getByRole("button", { name: "确认付款" }).click();
  await heading(claimed, "二维码已停用");
  await page.locator("#cancel summary").click();
  await page.locator("#cancel button").click();
  await heading(page, "订单已取消");
  innocent(desk, phone);
});

test("the claimant gives up by a form", async () => {
  const desk = await person(browser, plain);
  const phone = await person(browser, { ...plain, phone: true });
  const { cashier } = await order(gateway);
  const page = await visit(desk, cashier);
  await page.getByRole("button", { name: "生成二维码" }).click();
  const claimed = await inWallet(phone, gateway.simulator, "wangwu", await content(page));
  await claimed.getByRole("button", { name: "继续" }).click();
  await claimed.getByRole("button", { name: "放弃并释放二维码" }).click();
  await heading(claimed, "已放弃付款");
  await page.reload();
  await heading(page, "手机端已放弃付款");
});

test("a whole payment on a phone by links and forms", async () => {
  const phone = await person(browser, { ...plain, phone: true, userAgent: AGENTS.phone });
  const { cashier } = await order(gateway);
  const page = await visit(phone, cashier);
  await heading(page, "请选择付款方式");
  await page.getByRole("button", { name: "打开微信付款" }).click();
  await page.getByRole("button", { name: "确认付款" }).click();
  await page.getByRole("link", { name: "继续支付" }).click();
  await page.locator("button[name=user][value=zhangsan]").click();
  await page.locator("button[name=action][value=pay]").click();
  await says(page, "h2", "支付成功");
  await page.goto(cashier);
  const paid = page.locator("#heading").filter({ hasText: "缴费成功" });
  for (let presses = 0; !(await paid.isVisible()) && presses < 5; presses += 1) {
    await page.getByRole("button", { name: "查询缴费结果" }).click();
  }
  await heading(page, "缴费成功");
  await page.getByRole("link", { name: "查看缴费凭证" }).click();
  await heading(page, "缴费凭证");
  await says(page, ".capitals", "壹佰肆拾元整");
  await picture(page, "noscript-phone-paid");
});
