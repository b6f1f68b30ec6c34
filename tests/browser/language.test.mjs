// A language examination, in the steps of its manual: registered and paid on one phone, the code saved to the
// album and scanned from there, by the candidate alone, before the deadline, without a screenshot as proof.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  AGENTS, call, confirm, content, faults, heading, innocent, inWallet, launch, pay, person, picture, readCode, says,
  serve, sticksOut, truth, until, visit,
} from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

const onPhone = () => person(browser, { phone: true, userAgent: AGENTS.phone });

/** Nothing sticks out, and axe finds nothing. */
async function looked(page, name) {
  await picture(page, name);
  assert.deepEqual([await sticksOut(page), await faults(page)], [false, []], name);
}

/** 开始报名. */
async function register(phone) {
  const page = await visit(phone, `${gateway.school}/language`);
  await page.getByRole("button", { name: "开始报名" }).click();
  await says(page, "h1", "报考信息");
  return page;
}

/** 考务后台: how long new registrations stay open. */
async function stayOpen(minutes) {
  const desk = await person(browser);
  const page = await visit(desk, `${gateway.school}/language/office`);
  await page.getByLabel("新报名的缴费时限").fill(String(minutes));
  await page.getByRole("button", { name: "保存" }).click();
  assert.equal(await page.getByLabel("新报名的缴费时限").inputValue(), String(minutes));
  return { desk, page };
}

test("from 开始报名 to the admission ticket on one phone", async () => {
  const phone = await onPhone();
  const wallet = await person(browser, { phone: true });
  // S2-1: not inside WeChat.
  const refused = await inWallet(wallet, gateway.simulator, "zhangsan", `${gateway.school}/language`);
  await says(refused, "[role=alert]", "报名系统暂不支持在微信中打开");
  assert.equal(await refused.getByRole("button", { name: "开始报名" }).count(), 0);
  await looked(refused, "language-inside-wechat");

  // 报考信息.
  const page = await register(phone);
  const registration = page.url();
  await page.getByLabel("考试科目").selectOption("日语");
  await page.getByLabel("已毕业").check();
  await page.getByRole("button", { name: "保存报考信息" }).click();
  await says(page, ".notice", "已保存");
  await says(page, ".state", "未缴费");

  // S2-5, S2-6: nobody else may pay.
  await page.getByLabel("缴费人姓名").fill("王小二");
  await page.getByRole("button", { name: "去缴费" }).click();
  await says(page, ".notice", "缴费人与报名人信息不一致");
  await says(page, ".state", "未缴费");
  await looked(page, "language-another-payer");
  await page.getByLabel("缴费人姓名").fill("李晓红");
  await page.getByRole("button", { name: "去缴费" }).click();

  // S2-3, S2-4: the cashier on the phone, with the item's official name.
  await heading(page, "请选择付款方式");
  const cashier = page.url();
  await page.locator(".items summary").click();
  await says(page, ".items", "成人高等教育学士学位外语水平考试费");
  await says(page, ".sum b", "120.00");
  await picture(page, "language-cashier");

  // S2-2: the code goes into the album, and says what the page shows.
  await page.locator("#fold summary").filter({ hasText: "保存二维码" }).click();
  await page.getByRole("button", { name: "生成二维码" }).click();
  await page.locator("#qr-path:not([d=''])").waitFor();
  await looked(page, "language-code");
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#save").click()]);
  const parts = [];
  for await (const part of await download.createReadStream()) parts.push(part);
  const address = await readCode(phone, Buffer.concat(parts));
  assert.equal(address, await content(page));
  assert.ok(address.startsWith(`${gateway.origin}/s/`), address);

  // 扫一扫 from the album opens that address inside WeChat.
  const claimed = await inWallet(wallet, gateway.simulator, "zhangsan", address);
  await heading(claimed, "请确认缴费信息");
  await says(claimed, ".lines", "成人高等教育学士学位外语水平考试费");
  await says(claimed, ".facts", /李\*/);
  await picture(claimed, "language-confirm");
  await confirm(claimed);
  await pay(claimed);
  await heading(claimed, "已缴费，无需重复付款");

  // S2-8: paid by a signed notice; nothing is uploaded.
  await heading(page, "缴费成功");
  await page.locator("#leave").click();
  await says(page, ".state", "已缴费");
  assert.equal(page.url().split("?")[0], registration.split("?")[0]);
  await says(page, ".notice", "无需上传订单截图");
  assert.equal(await page.locator("input[type=file]").count(), 0);
  assert.equal(await page.getByRole("button", { name: "去缴费" }).count(), 0);
  await looked(page, "language-paid");

  // S2-9: edited afterwards it stays paid, and nobody pays again.
  await page.getByLabel("考试科目").selectOption("俄语");
  await page.getByRole("button", { name: "保存报考信息" }).click();
  await says(page, ".notice", "切勿重新支付");
  await says(page, ".state", "已缴费");
  await picture(page, "language-edited");
  const again = await visit(phone, cashier);
  await heading(again, "缴费成功");
  await says(again, "#text", "请勿重复支付");
  assert.equal(await again.locator("#ways").isVisible(), false);

  // 准考证.
  await page.getByRole("link", { name: "准考证下载" }).click();
  await says(page, "h1", "准考证");
  await says(page, "dd", "俄语");
  await looked(page, "language-ticket");
  await page.getByRole("link", { name: "返回" }).click();

  // The proof that replaces the screenshot: anybody can check it.
  await page.getByRole("link", { name: "查看缴费凭证" }).click();
  await heading(page, "缴费凭证");
  await says(page, "td, th, dd", "成人高等教育学士学位外语水平考试费");
  await picture(page, "language-receipt");
  const verify = await page.locator("#verify").getAttribute("href");
  const stranger = await person(browser);
  const check = await visit(stranger, verify);
  await heading(check, "与凭证一致");
  await says(check, ".facts", "¥120.00");

  // 考务后台 saw the notice.
  const office = await visit(stranger, `${gateway.school}/language/office`);
  await office.locator("li", { hasText: registration.split("/").at(-1) }).filter({ hasText: "已缴费" }).waitFor();
  await says(office, "td", "order.paid");
  await looked(office, "language-office");
  innocent(phone, wallet, stranger);
});

test("inside two minutes of the deadline no code starts, and past it nothing is paid", async () => {
  const phone = await onPhone();
  // S2-7: one minute left.
  const { desk } = await stayOpen(1);
  const page = await register(phone);
  await page.getByRole("button", { name: "去缴费" }).click();
  await heading(page, "距缴费截止不足两分钟");
  await says(page, "#text", "已不能生成新的二维码");
  assert.equal(await page.getByRole("button", { name: "生成二维码" }).filter({ visible: true }).count(), 0);
  assert.equal(await page.locator("#ways").isVisible(), false);
  assert.equal((await truth(page.url())).attempt, null);
  await looked(page, "language-too-close");

  // No time left: the registration's own page offers nothing (S2-10), in a form that was open before either.
  await stayOpen(0);
  const closed = await register(phone);
  await says(closed, ".notice", "已过报名截止时间");
  assert.equal(await closed.getByRole("button", { name: /去缴费|保存报考信息/ }).count(), 0);
  await looked(closed, "language-closed");
  const path = new URL(closed.url()).pathname;
  for (const [act, form] of [
    ["pay", { payer_name: "李晓红", payer_phone: "13700000000" }],
    ["save", { subject: "俄语" }],
  ]) {
    const answer = await fetch(`${gateway.school}${path}/${act}`, {
      method: "POST", redirect: "manual", body: new URLSearchParams(form),
    });
    assert.equal(answer.status, 422, act);
    assert.match(await answer.text(), /报名已截止/);
  }

  // An order whose deadline passes while its cashier is open closes under the payer's eyes.
  const { cashier_url: cashier, id } = await call(gateway, "POST", "/v1/orders", {
    merchant_order_no: "DEADLINE-1", subject: "报名费", items: [{ name: "报名费", amount: 12_000 }], amount: 12_000,
    currency: "CNY", payer: { ref: "D-1", name: "李晓红" },
    pay_before: new Date(Date.now() + 3_000).toISOString(),
  });
  const open = await visit(phone, cashier);
  await heading(open, "已过缴费截止时间");
  await looked(open, "language-deadline");
  await until("the order is closed", async () => (await call(gateway, "GET", `/v1/orders/${id}`)).status === "closed");
  await open.reload();
  assert.equal((await truth(cashier)).state, "deadline");
  assert.equal(await open.locator("#ways").isVisible(), false);
  innocent(phone, desk);
});
