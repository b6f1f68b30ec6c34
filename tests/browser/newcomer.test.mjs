// A newcomer's way: the demo school, the cashier, a phone with either wallet, and back.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  confirm, heading, innocent, launch, pay, person, picture, says, scan, serve, truth, visit,
} from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

for (const [wallet, who, label] of [["wechat", "zhangsan", "微信支付"], ["alipay", "wangwu", "支付宝"]]) {
  test(`from 点击缴费 to 已缴费 with ${wallet}`, async (t) => {
    const began = performance.now();
    const desk = await person(browser);
    const phone = await person(browser, { phone: true });
    const school = await visit(desk, `${gateway.school}/selfstudy`);
    if (wallet === "alipay") await school.getByRole("button", { name: "新的报考" }).click();
    await says(school, ".state", "未缴费");
    const registration = school.url();
    await picture(school, `school-unpaid-${wallet}`);
    await school.getByRole("button", { name: "点击缴费" }).click();

    // The cashier: a code, a countdown that runs, what is paid for and how much.
    const cashier = school;
    await heading(cashier, "请扫码支付");
    const address = cashier.url();
    assert.ok(address.startsWith(`${gateway.origin}/pay/`));
    await cashier.locator("#qr-path:not([d=''])").waitFor();
    const seconds = () => cashier.locator("#seconds").innerText().then(Number);
    const first = await seconds();
    assert.ok(first > 150 && first <= 180, `${first} s`);
    await cashier.waitForFunction((before) => Number(document.getElementById("seconds").textContent) < before, first);
    await says(cashier, ".sum b", "140.00");
    for (const course of ["普通逻辑", "计算机应用基础", "心理学", "企业管理概论"]) {
      await says(cashier, ".items tbody", course);
    }
    await picture(cashier, `cashier-awaiting-${wallet}`);
    let loads = 0;
    cashier.on("domcontentloaded", () => (loads += 1));

    // The phone.
    const page = await scan(phone, cashier, who);
    await heading(page, "请确认缴费信息");
    await says(page, ".lines", "普通逻辑");
    await says(page, ".sum b", "140.00");
    await says(page, ".facts", "测*");
    await picture(page, `phone-confirm-${wallet}`);
    await heading(cashier, "已扫码，请在手机上确认付款");
    assert.equal(await cashier.locator("#qr-path").getAttribute("d"), "");
    await picture(cashier, `cashier-scanned-${wallet}`);
    await confirm(page);
    await picture(page, `phone-sheet-${wallet}`);
    await pay(page);
    await heading(page, "已缴费，无需重复付款");
    await picture(page, `phone-paid-${wallet}`);

    // The page on the desk turned by itself.
    await heading(cashier, "缴费成功");
    assert.equal(loads, 0, "without a reload");
    await says(cashier, "#text", label);
    const receipt = cashier.getByRole("link", { name: "查看缴费凭证" });
    assert.match(await receipt.getAttribute("href"), /^.*\/receipts\/[\w-]{22}$/);
    await picture(cashier, `cashier-paid-${wallet}`);
    assert.equal((await truth(address)).state, "paid");

    // The school was told.
    await cashier.locator("#leave").click();
    await says(cashier, ".state", "已缴费");
    assert.equal(cashier.url().split("?")[0], registration.split("?")[0]);
    await picture(cashier, `school-paid-${wallet}`);
    await cashier.goto(`${gateway.school}/events`);
    await says(cashier, "td", "order.paid");
    innocent(desk, phone);
    t.diagnostic(`${Math.round(performance.now() - began)} ms`);
    await Promise.all([desk.close(), phone.close()]);
  });
}
