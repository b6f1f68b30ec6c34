// What every browser test stands on: a gateway with its simulators and its demo school, Chromium, and
// the people who use them. Nothing here waits for a length of time: everything waits for a condition.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const binary = resolve(process.env.ENROLLPAY_BIN ?? join(here, "../../target/debug/enrollpay"));
const pictures = process.env.SCREENSHOTS ?? join(tmpdir(), "enrollpay-screenshots");

/** How long any one condition may take; far more than it needs, on a busy machine too. */
export const PATIENCE = 15_000;

// --- Processes -------------------------------------------------------------------------------------

/** A port that was free a moment ago, for a gateway that must come back on the same one. */
export async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** A folder that is gone after the tests. */
export const folder = () => mkdtemp(join(tmpdir(), "enrollpay-browser-"));
export const remove = (path) => rm(path, { recursive: true, force: true });

/** Starts the program and reads the addresses that it announces. */
async function start(args, cwd, env, addresses) {
  const child = spawn(binary, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  // Whatever becomes of the tests, nothing stays behind.
  const end = () => child.kill("SIGKILL");
  process.once("exit", end);
  child.once("exit", () => process.off("exit", end));
  let said = "";
  child.stderr.on("data", (text) => (said = (said + text).slice(-20_000)));
  const ended = new Promise((done) => child.once("exit", (code, signal) => done({ code, signal })));
  const found = {};
  const lines = createInterface({ input: child.stdout });
  const ready = (async () => {
    for await (const line of lines) {
      for (const [name, pattern] of Object.entries(addresses)) {
        found[name] ??= line.match(pattern)?.[1];
      }
      if (Object.keys(addresses).every((name) => found[name])) return "ready";
    }
    return "ended";
  })();
  const outcome = await Promise.race([ready, ended.then(() => "ended")]);
  if (outcome === "ended") throw new Error(`${binary} ${args.join(" ")} ended:\n${said}`);
  child.stdout.resume();
  return {
    ...found,
    /** Ends it gracefully, or with another signal. */
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      // A graceful end waits for open pages; the tests need not.
      const hard = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await ended;
      clearTimeout(hard);
    },
    log: () => said,
  };
}

/** `enrollpay serve` in demo mode on ports of its own. */
export async function serve({ env = {}, args = [], cwd } = {}) {
  const own = cwd ?? (await folder());
  const running = await start([...args, "serve"], own, {
    ENROLLPAY__SERVER__LISTEN: "127.0.0.1:0",
    ENROLLPAY__ADMIN__LISTEN: "127.0.0.1:0",
    ENROLLPAY__CONSOLE__LISTEN: "127.0.0.1:0",
    ENROLLPAY__SIMULATOR__LISTEN: "127.0.0.1:0",
    ENROLLPAY__DEMO__LISTEN: "127.0.0.1:0",
    ...env,
  }, {
    school: /demo school\s+(http:\S+?)\/?$/,
    origin: /documentation\s+(http:\S+)\/docs/,
    console: /operators' console\s+(http:\S+?)\/?$/,
    ...(args.length ? {} : { simulator: /simulated wallets\s+(http:\S+)\/wallet/ }),
  });
  return {
    ...running,
    cwd: own,
    async stop(signal) {
      await running.stop(signal);
      if (!cwd) await remove(own);
    },
  };
}

/** `enrollpay simulate`: the providers alone, so that they outlive a gateway. */
export function simulate(cwd) {
  return start(
    ["simulate", "--listen", "127.0.0.1:0", "--folder", cwd],
    cwd,
    {},
    { simulator: /wallets:\s+(http:\S+)\/wallet/, accounts: /accounts for a gateway:\s+(\S+)/ },
  );
}

// --- Levers ----------------------------------------------------------------------------------------

async function json(method, address, body) {
  const answer = await fetch(address, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${address}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** The simulators' controls. */
export const control = (simulator) => ({
  fault: (rule) => json("POST", `${simulator}/control/faults`, rule),
  heal: () => json("DELETE", `${simulator}/control/faults`),
  rules: () => json("GET", `${simulator}/control/faults`),
  trades: async () => (await json("GET", `${simulator}/control/books`)).trades,
  payLate: (number) => json("POST", `${simulator}/control/pay_late`, { out_trade_no: number }),
  pay: (number) => json("POST", `${simulator}/control/pay`, { out_trade_no: number }),
  forge: (number, fault) => json("POST", `${simulator}/control/forge`, { out_trade_no: number, fault }),
});

/** A request of the demo school's, signed, from the command line. */
export async function call(gateway, method, path, body) {
  const data = body ? ["-d", JSON.stringify(body)] : [];
  const { stdout } = await promisify(execFile)(
    binary, ["call", method, path, ...data, "--url", gateway.origin], { cwd: gateway.cwd });
  return JSON.parse(stdout);
}

/** A new registration at the demo school and the address of its cashier, without a browser. */
export async function order(gateway) {
  const post = (path) => fetch(gateway.school + path, { method: "POST", redirect: "manual" });
  const made = await post("/registrations");
  const registration = made.headers.get("location");
  assert.ok(registration, `a registration: ${made.status}`);
  const paying = await post(`${registration}/pay`);
  const cashier = paying.headers.get("location");
  assert.ok(cashier?.startsWith(`${gateway.origin}/pay/`), `a cashier: ${paying.status} ${cashier}`);
  return { cashier, registration: gateway.school + registration };
}

/** What the server says of a cashier now. */
export async function truth(cashier) {
  const answer = await fetch(cashier, { headers: { Accept: "application/json" } });
  assert.equal(answer.status, 200);
  return answer.json();
}

/** Waits until something is as it should be. */
export async function until(what, check, patience = PATIENCE) {
  const end = performance.now() + patience;
  let last;
  for (;;) {
    try {
      last = await check();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) assert.fail(`${what}: waited in vain; last: ${last}`);
    await new Promise((done) => setTimeout(done, 100));
  }
}

// --- People ----------------------------------------------------------------------------------------

export const AGENTS = {
  wechat:
    "Mozilla/5.0 (Linux; Android 14; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36 MicroMessenger/8.0.56.2800(0x28003833) NetType/WIFI Language/zh_CN",
  alipay:
    "Mozilla/5.0 (Linux; Android 14; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/130.0.0.0 Mobile Safari/537.36 AliApp(AP/10.6.58) AlipayClient/10.6.58 Language/zh-Hans",
  phone:
    "Mozilla/5.0 (Linux; Android 14; Pixel) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
};

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });

const DESK = { width: 1280, height: 900 };
const PHONE = { width: 375, height: 740 };

/**
 * Somebody with a browser of their own. `complaints` collects what must never happen on a page: script
 * errors, breaches of its policy, requests to other origins than the pages' own.
 */
export async function person(browser, { phone = false, english = false, dark = false, ...more } = {}) {
  const context = await browser.newContext({
    viewport: phone ? PHONE : DESK,
    locale: english ? "en-GB" : "zh-CN",
    timezoneId: "Asia/Shanghai",
    colorScheme: dark ? "dark" : "light",
    ...more,
  });
  context.setDefaultTimeout(PATIENCE);
  context.complaints = [];
  context.requests = [];
  context.on("request", (request) => context.requests.push(request));
  context.on("weberror", (error) => context.complaints.push(`script: ${error.error().message}`));
  context.on("console", (message) => {
    const text = message.text();
    // A refused request is a state the pages handle; the browser reports each as an error.
    if (/^Failed to load resource/.test(text)) return;
    if (message.type() === "error" || /Content.Security.Policy/i.test(text)) {
      context.complaints.push(`console: ${text}`);
    }
  });
  return context;
}

/** Opens an address in a person's browser. */
export async function visit(context, address) {
  const page = await context.newPage();
  await page.goto(address);
  return page;
}

/** A picture for a person to look at; $SCREENSHOTS says where. */
export async function picture(page, name) {
  await mkdir(pictures, { recursive: true });
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

/** Waits until the page says this in an element. */
export async function says(page, selector, text, patience = PATIENCE) {
  const pattern = text instanceof RegExp ? text : new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const found = page.locator(selector).filter({ hasText: pattern, visible: true }).first();
  try {
    await found.waitFor({ timeout: patience });
  } catch {
    const there = await page.locator(selector).allInnerTexts().catch(() => []);
    assert.fail(`${page.url()}: ${selector} should say ${pattern}, says ${JSON.stringify(there)}`);
  }
  return found;
}

export const heading = (page, text, patience) => says(page, "#heading", text, patience);

/** Opens a page in the built-in browser of somebody's wallet. */
export const inWallet = (context, simulator, who, address) =>
  visit(context, `${simulator}/wallet/open?user=${who}&url=${encodeURIComponent(address)}`);

/** What the code on show says: it stands in the link to the simulated wallet. */
export async function content(cashier) {
  const link = cashier.locator("#demo");
  await link.waitFor();
  return new URL(await link.getAttribute("href")).searchParams.get("scan");
}

/** What a code in a picture (PNG) says, read by a reader that is not ours. */
export async function readCode(context, png) {
  const page = await context.newPage();
  await page.addScriptTag({ path: createRequire(import.meta.url).resolve("jsqr") });
  const said = await page.evaluate(async (data) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const paper = canvas.getContext("2d");
    paper.drawImage(image, 0, 0);
    const points = paper.getImageData(0, 0, image.width, image.height);
    return window.jsQR(points.data, points.width, points.height)?.data;
  }, png.toString("base64"));
  await page.close();
  return said;
}

/** Opens the simulated phone by the link under the code and scans as one of its people. */
export async function scan(phone, cashier, who) {
  const link = cashier.locator("#demo");
  await link.waitFor();
  const page = await visit(phone, await link.getAttribute("href"));
  await page.locator(`button[name=user][value=${who}]`).click();
  return page;
}

/** The claimant's press, and the wallet's sheet. */
export async function confirm(page) {
  await page.locator("form[action*='/pay'] button").click();
  await page.locator(".ep-wallet-sheet strong").waitFor();
}

/** Pays on the wallet's sheet and closes it. */
export async function pay(page) {
  await page.locator("#ep-wallet-pay").click();
  await says(page, ".ep-wallet-sheet h2", "支付成功");
  await page.locator("#ep-wallet-done").click();
}

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/** What axe finds on a page as it stands; the simulated wallet's own bar is not ours. */
export async function faults(page) {
  const session = await page.context().newCDPSession(page);
  // By the debugger, which no policy of the page concerns.
  await session.send("Runtime.evaluate", { expression: `${axe};undefined` });
  const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
    expression: `axe.run({ exclude: [[".ep-wallet-bar"], [".ep-wallet-shade"]] }, { runOnly: ${JSON.stringify(TAGS)} })
      .then(({ violations }) => JSON.stringify(violations.map((one) =>
        one.id + ": " + one.nodes.slice(0, 3).map((node) => node.target + " " + (node.any[0]?.message ?? "")).join(" | "))))`,
    awaitPromise: true,
    returnByValue: true,
  });
  await session.detach();
  assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails));
  return JSON.parse(result.value);
}

/** The page never did what a page must not do. */
export function innocent(...contexts) {
  for (const context of contexts) assert.deepEqual(context.complaints, []);
}

/** Does anything stick out sideways? */
export const sticksOut = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
