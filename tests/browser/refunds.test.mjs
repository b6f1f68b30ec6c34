// What a payer sees of money that goes back.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  call, confirm, heading, innocent, inWallet, launch, order, pay, person, picture, says, serve, truth, until, visit,
} from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

test("a part goes back, then the rest, and the page says so in both languages", async () => {
  const phone = await person(browser, { phone: true });
  const { cashier } = await order(gateway);
  const page = await inWallet(phone, gateway.simulator, "wangwu", cashier);
  await page.locator("#ways button").filter({ visible: true }).first().click();
  await heading(page, "请确认缴费信息");
  await confirm(page);
  await pay(page);
  await heading(page, "已缴费，无需重复付款");
  assert.equal((await truth(cashier)).state, "paid");

  const [paid] = (await call(gateway, "GET", "/v1/orders?status=paid")).data;
  const refund = async (number, amount) => {
    await call(gateway, "POST", `/v1/orders/${paid.id}/refunds`, {
      merchant_refund_no: number, amount, reason: "停考",
    });
  };
  // Two refunds of one trade keep the distance that the provider wants.
  const given = (status) => until(`refund_status ${status}`, async () =>
    (await call(gateway, "GET", `/v1/orders/${paid.id}`)).refund_status === status, 45_000);

  await refund("TK-1", 3500);
  await given("partial");
  const chinese = await visit(phone, cashier);
  await heading(chinese, "缴费成功");
  await says(chinese, "body", "部分退款：已退款 ¥35.00");
  await picture(chinese, "phone-refunded-part");

  await refund("TK-2", paid.amount - 3500);
  await given("full");
  const foreigner = await person(browser, { english: true });
  const english = await visit(foreigner, cashier);
  await says(english, "body", "Refunded ¥140.00");
  await picture(english, "desk-refunded-whole");
  innocent(phone, foreigner);
});
