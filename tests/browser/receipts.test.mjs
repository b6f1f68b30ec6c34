// The receipt of a payment: shown, printed on one page, and checked by anybody who holds it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  call, confirm, faults, heading, innocent, inWallet, launch, order, pay, person, picture, says, serve, sticksOut,
  until, visit,
} from "./harness.mjs";

let browser;
let gateway;
before(async () => ([browser, gateway] = await Promise.all([launch(), serve()])));
after(() => Promise.all([browser?.close(), gateway?.stop()]));

/** A paid order of the demo school: a registration's, or the one at this cashier. */
async function paid(waiting) {
  const phone = await person(browser, { phone: true });
  const cashier = waiting ?? (await order(gateway)).cashier;
  const page = await inWallet(phone, gateway.simulator, "wangwu", cashier);
  await page.locator("#ways button").filter({ visible: true }).first().click();
  await heading(page, "请确认缴费信息");
  await confirm(page);
  await pay(page);
  await heading(page, "已缴费，无需重复付款");
  const found = await until("the order is paid", async () =>
    (await call(gateway, "GET", "/v1/orders?status=paid")).data.find((one) => one.cashier_url === cashier));
  await phone.close();
  return found;
}

/** What a picture of the code says, read from its pixels by a reader that is not ours. */
async function decode(page) {
  const { default: jsQR } = await import("jsqr");
  const shown = await page.evaluate(async () => {
    const svg = document.getElementById("qr").cloneNode(true);
    const side = Number(svg.getAttribute("viewBox").split(" ")[2]);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side * 6;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.scale(6, 6);
    context.fillStyle = "#000";
    context.fill(new Path2D(svg.querySelector("#qr-path").getAttribute("d")));
    const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
    return { data: [...data], width, height };
  });
  return jsQR(Uint8ClampedArray.from(shown.data), shown.width, shown.height)?.data;
}

/** Both languages, both schemes, three widths: nothing sticks out, and axe finds nothing. */
async function everywhere(page, name) {
  const found = [];
  const plain = page.url();
  for (const language of ["zh-CN", "en"]) {
    const address = new URL(plain);
    address.searchParams.set("lang", language);
    await page.goto(address.href);
    assert.equal(await page.locator("html").getAttribute("lang"), language);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const width of [1280, 375, 320]) {
        await page.setViewportSize({ width, height: 900 });
        if (await sticksOut(page)) found.push(`${language} ${width}: scrolls sideways`);
        if (width !== 320) await picture(page, `${name}-${language}-${scheme}-${width}`);
      }
      for (const fault of await faults(page)) found.push(`${language} ${scheme}: ${fault}`);
    }
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.goto(plain);
  assert.deepEqual(found, [], name);
}

/** Pages of a printed document. */
const pagesOf = (pdf) => pdf.toString("latin1").match(/\/Type\s*\/Page(?![s\w])/g)?.length ?? 0;

test("from the paid page to the receipt, and from its code to the check", async () => {
  const desk = await person(browser);
  const { cashier_url: cashier, receipt_url: address } = await paid();
  const page = await visit(desk, cashier);
  await heading(page, "缴费成功");
  await page.getByRole("link", { name: "查看缴费凭证" }).click();
  await heading(page, "缴费凭证");
  assert.equal(page.url(), address);
  await says(page, ".capitals", "壹佰肆拾元整");
  await page.getByRole("button", { name: "打印凭证" }).waitFor();
  await everywhere(page, "receipt");

  const verify = await page.locator("#verify").getAttribute("href");
  assert.equal(await decode(page), verify);
  const stranger = await person(browser, { phone: true });
  const check = await visit(stranger, verify);
  await heading(check, "与凭证一致");
  await says(check, ".facts", "¥140.00");
  await everywhere(check, "verified");

  const altered = verify.slice(0, -1) + (verify.endsWith("7") ? "8" : "7");
  await check.goto(altered);
  await heading(check, "查无此凭证");
  await everywhere(check, "no-receipt");

  // By hand, as it stands on paper.
  await check.goto(`${gateway.origin}/verify`);
  await heading(check, "凭证核验");
  await everywhere(check, "verify");
  await check.getByLabel("凭证编号").fill((await page.locator(".number b").innerText()).toLowerCase());
  await check.getByLabel("核验码").fill(await page.locator("#code").innerText());
  await check.getByRole("button", { name: "核验" }).click();
  await heading(check, "与凭证一致");
  assert.equal(check.url(), verify);
  innocent(desk, stranger);
});

test("one page of paper, with what came after the payment", async () => {
  const desk = await person(browser);
  const { id, receipt_url: address, cashier_url: cashier } = await paid();
  await call(gateway, "POST", `/v1/orders/${id}/refunds`, { merchant_refund_no: "TK-1", amount: 3500 });
  await call(gateway, "POST", `/v1/orders/${id}/fiscal_receipt`, {
    number: "6501012600000123", url: "https://czpj.example.gov.cn/check?n=6501012600000123",
  });
  await until("the refund", async () =>
    (await call(gateway, "GET", `/v1/orders/${id}`)).refund_status === "partial", 45_000);
  const page = await visit(desk, cashier);
  await says(page, "#payment", "6501012600000123");
  await picture(page, "cashier-with-receipt");
  await page.goto(address);
  await says(page, ".back", "退款后实缴");
  await says(page, ".fiscal", "6501012600000123");
  await everywhere(page, "receipt-refunded");
  for (const language of ["zh-CN", "en"]) {
    await page.goto(`${address}?lang=${language}`);
    // Printed as the browser prints, whatever it shows.
    await page.emulateMedia({ media: "print", colorScheme: "dark" });
    assert.equal(await page.locator("#print").isVisible(), false);
    await page.setViewportSize({ width: 688, height: 1032 });
    await picture(page, `receipt-print-${language}`);
    await page.emulateMedia({ media: null, colorScheme: null });
    const pdf = await page.pdf({ preferCSSPageSize: true });
    assert.equal(pagesOf(pdf), 1, language);
    // A4, in points.
    assert.match(pdf.toString("latin1"), /MediaBox\s*\[0 0 59[45](\.\d+)? 84[12](\.\d+)?\]/);
  }
  innocent(desk);
});

test("a long receipt is printed smaller, and still on one page", async () => {
  const desk = await person(browser);
  const items = Array.from({ length: 24 }, (_, index) => ({
    code: String(24 + index).padStart(5, "0"), name: `第${index + 1}门课程报考费`, note: "2021年04月01日 上午", amount: 3500,
  }));
  const { cashier_url: cashier } = await call(gateway, "POST", "/v1/orders", {
    merchant_order_no: "LONG-1", subject: "2021年4月自学考试报考费", items, amount: 24 * 3500, currency: "CNY",
    payer: { ref: "L-1", name: "测试考生", id_number: "650102200001010011" },
  });
  const { receipt_url: address } = await paid(cashier);
  const page = await visit(desk, address);
  await says(page, ".capitals", "捌佰肆拾元整");
  await page.emulateMedia({ media: "print" });
  await page.setViewportSize({ width: 688, height: 1032 });
  await picture(page, "receipt-print-long");
  assert.equal(pagesOf(await page.pdf({ preferCSSPageSize: true })), 1);
  innocent(desk);
});
