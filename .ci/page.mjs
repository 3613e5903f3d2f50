// What people do with the page of `vq-host report`, in headless Chromium: node page.mjs PAGE.html
// `.ci/page` installs what this needs and runs it.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import puppeteer from "puppeteer-core";

const file = path.resolve(process.argv[2]);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
});
const complaints = [];

/** Opens the page; whatever it complains of or asks for is kept. */
async function open(what, { hash = "", width = 1280, theme = "light" } = {}) {
  const page = await browser.newPage();
  page.on("console", (message) => { if (message.type() === "error" || message.type() === "warn") complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => { if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith("file://" + what)) complaints.push("requested " + request.url()); });
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  await page.goto("file://" + what + hash);
  await page.waitForFunction(() => document.documentElement.dataset.ready === "1", { timeout: 20000 });
  return page;
}
const text = (page, selector) => page.$eval(selector, (e) => e.textContent);
const shown = (page) => page.evaluate(() => Number(document.documentElement.dataset.shown));
const column = (page, name) => page.evaluate((wanted) => {
  const heads = [...document.querySelectorAll("#cells thead th")].map((th) => th.textContent.replace(/ [▲▼]$/, ""));
  const at = heads.indexOf(wanted);
  return [...document.querySelectorAll("#cells tbody tr")].map((row) => row.children[at].textContent);
}, name);
async function until(what, test) {
  for (let i = 0; i < 200; i += 1) {
    if (await test()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail("waited in vain for " + what);
}

const page = await open(file);
const all = await shown(page);
assert.ok(all > 3, "a chart of configurations");
assert.match(await text(page, "#chart-heading"), /^recall@10 against bits_per_dim on /);
assert.match(await text(page, "#answer"), /stores [\d.]+ bits per dimension/);

// Keys walk along the points; the pointer finds the same one.
await page.focus("#chart");
await page.keyboard.press("ArrowRight");
assert.match(await text(page, "#live"), /bits_per_dim [\d.]+, recall@10 [\d.]+/);
const spot = await page.evaluate(() => {
  const box = document.querySelector("#chart svg").getBoundingClientRect();
  const ring = document.getElementById("hover");
  return { x: box.left + Number(ring.getAttribute("cx")), y: box.top + Number(ring.getAttribute("cy")), name: document.querySelector("#tip strong").textContent.trim() };
});
await page.mouse.move(spot.x, spot.y);
await page.mouse.move(5, 5);
assert.equal(await page.$eval("#tip", (e) => e.hidden), true, "no tip away from points");
await page.mouse.move(spot.x, spot.y);
const tip = await text(page, "#tip");
assert.ok(tip.includes(spot.name) && /key: [0-9a-f]{12}/.test(tip) && /seeds?: /.test(tip), tip);
await page.mouse.click(spot.x, spot.y);
assert.ok((await text(page, "#pin-table")).includes(spot.name), "a click pins");
assert.match(page.url(), /pin=[0-9a-f]{12}/);

// The legend takes a method away and brings it back.
await page.click("#legend [data-method]");
assert.ok((await shown(page)) < all);
assert.equal(await page.$eval("#legend [data-method]", (e) => e.getAttribute("aria-pressed")), "false");
assert.match(page.url(), /off=/);
await page.click("#legend [data-method]");
assert.equal(await shown(page), all);
if (await page.$('#legend [data-every="off"]')) {
  await page.click('#legend [data-every="off"]');
  assert.equal(await shown(page), 0);
  await page.click('#legend [data-every="on"]');
  assert.equal(await shown(page), all);
}
const pressed = () => page.$$eval('#legend [data-method][aria-pressed="true"]', (buttons) => buttons.length);
const methods = await pressed();
await page.click("#legend [data-method]", { count: 2 });
assert.equal(await pressed(), 1, "a double click shows one method alone");
await page.click("#legend [data-method]", { count: 2 });
assert.equal(await pressed(), methods);

// A part that is drawn out is shown larger, and is in the address.
const chartBox = await page.$eval("#chart svg", (e) => { const { left, top, width, height } = e.getBoundingClientRect(); return { left, top, width, height }; });
const pinsBefore = await page.$eval("#pins", (e) => e.hidden);
await page.mouse.move(spot.x - 30, spot.y - 30);
await page.mouse.down();
await page.mouse.move(spot.x, spot.y, { steps: 3 });
await page.mouse.move(spot.x + 30, spot.y + 30, { steps: 3 });
await page.mouse.up();
const part = await shown(page);
assert.ok(part >= 1 && part <= all, `${part} of ${all} in a part`);
assert.match(page.url(), /zoom=/);
assert.match(await text(page, "#chart-notes"), /a part: \d+ outside it/);
assert.equal(await page.$eval("#pins", (e) => e.hidden), pinsBefore, "drawing out pins nothing");
const same = await open(file, { hash: new URL(page.url()).hash });
assert.equal(await shown(same), part);
await same.close();
await page.click("#whole");
assert.equal(await shown(page), all);
await page.keyboard.press("+");
assert.match(page.url(), /zoom=/);
await page.keyboard.press("0");
assert.doesNotMatch(page.url(), /zoom=/);
await page.mouse.click(chartBox.left + 3, chartBox.top + 3);

// The filter takes words and comparisons; the table sorts.
await page.type("#filter", "recall@10>0.5");
if (await page.$eval("#more", (e) => !e.hidden)) await page.click("#more");
const found = (await column(page, "recall@10")).map(Number);
assert.ok(found.length > 0 && found.every((recall) => recall > 0.5), String(found));
await page.click('#cells [data-sort="recall@10"]');
const sorted = (await column(page, "recall@10")).map(Number);
assert.deepEqual(sorted, [...sorted].sort((a, b) => b - a));
assert.equal(await page.$eval('#cells th:has([data-sort="recall@10"])', (e) => e.getAttribute("aria-sort")), "descending");
await page.click('#cells [data-sort="recall@10"]');
assert.deepEqual((await column(page, "recall@10")).map(Number), [...sorted].reverse());

// Other axes, scales and data; the address brings another reader to the same view.
assert.equal(await page.$eval("#log-y", (e) => e.checked), false, "a recall is on a linear scale");
assert.ok(await page.$("#chart .target"), "the recall that is asked for has a line");
assert.ok(await page.$('#cells td[style*="--share"]'), "recalls have bars");
await page.select("#y", "relative_error");
assert.equal(await page.$eval("#log-y", (e) => e.checked), true, "an error is on a log scale");
await page.click("#log-x");
await page.select("#space", "1");
const view = (of) => of.evaluate(() => [document.querySelector("#chart-heading").textContent, document.documentElement.dataset.shown, document.querySelector("#pin-table").textContent, document.querySelector("#cells").textContent, document.querySelector("#chart").innerHTML]);
const shared = await open(file, { hash: new URL(page.url()).hash });
// How long the table is belongs to the reader, not to the address.
for (const of of [page, shared]) if (await of.$eval("#more", (e) => !e.hidden)) await of.click("#more");
assert.deepEqual(await view(shared), await view(page));
assert.match(await text(shared, "#chart-heading"), /^relative_error against/);
await shared.close();
await page.click("#reset");
assert.equal(new URL(page.url()).hash, "");
assert.equal(await shown(page), all);

// The view as files.
const downloads = fs.mkdtempSync(path.join(os.tmpdir(), "page-"));
const client = await page.createCDPSession();
await client.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: downloads, eventsEnabled: true });
const saved = (ending) => fs.readdirSync(downloads).find((name) => name.endsWith(ending));
await page.click("#svg");
await until("an SVG file", () => saved(".svg"));
await page.click("#png");
await until("a PNG file", () => saved(".png"));
const svg = fs.readFileSync(path.join(downloads, saved(".svg")), "utf8");
assert.ok(svg.startsWith("<svg") && /stroke="rgb/.test(svg) && !svg.includes("class=") && svg.includes("vq-host"), svg.slice(0, 300));
const png = fs.readFileSync(path.join(downloads, saved(".png")));
assert.ok(png.length > 10000 && png.subarray(1, 4).toString() === "PNG");
fs.rmSync(downloads, { recursive: true });

// Nothing can be fetched, by anyone.
const blocked = await page.evaluate(() => new Promise((resolve) => {
  document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective), { once: true });
  fetch("http://127.0.0.1:9/").catch(() => {});
}));
assert.equal(blocked, "connect-src");
complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("127.0.0.1:9")));

// Escape takes pins off; everything that can be used has a name.
await page.focus("#chart");
for (const key of ["ArrowRight", "Enter"]) await page.keyboard.press(key);
assert.equal(await page.$eval("#pins", (e) => e.hidden), false);
await page.keyboard.press("Escape");
assert.equal(await page.$eval("#pins", (e) => e.hidden), true);
const nameless = [];
(function walk(node) {
  if (["button", "combobox", "textbox", "searchbox", "checkbox", "spinbutton"].includes(node.role) && !node.name) nameless.push(node);
  for (const child of node.children ?? []) walk(child);
})(await page.accessibility.snapshot());
assert.deepEqual(nameless, []);
await page.close();

// Contrast (WCAG 2.2 AA): text 4.5:1, marks 3:1, in both themes; nothing is wider than a phone.
for (const theme of ["light", "dark"]) {
  const narrow = await open(file, { width: 360, theme });
  assert.equal(await narrow.evaluate(() => document.documentElement.scrollWidth), 360);
  const weak = await narrow.evaluate(() => {
    const rgb = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    const light = (colour) => {
      const [r, g, b] = rgb(colour).map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (a, b) => {
      const [p, q] = [light(a), light(b)].sort((x, y) => y - x);
      return (p + 0.05) / (q + 0.05);
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (rgb(colour)[3] !== 0) return colour;
      }
      return "rgb(255, 255, 255)";
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
      const style = getComputedStyle(element);
      const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
      const inSvg = element instanceof SVGElement;
      if (says && !["SCRIPT", "NOSCRIPT", "STYLE"].includes(element.tagName) && contrast(inSvg ? style.fill : style.color, behind(element)) < 4.5) found.push(element.outerHTML.slice(0, 80));
      if (element.matches(".point, .line, #legend path") && contrast(style.stroke, behind(element)) < 3) found.push(element.outerHTML.slice(0, 80));
    }
    return found;
  });
  assert.deepEqual(weak, [], theme);
  await narrow.close();
}

// 2,000 cells of 40 methods: at most 3 MB, and drawn again within 50 ms.
const html = fs.readFileSync(file, "utf8");
const [before, rest] = html.split('id="data">');
const data = JSON.parse(rest.slice(0, rest.indexOf("</script>")));
const count = data.cells.key.length;
const repeat = (list) => Array.from({ length: 2000 }, (_, i) => list[i % count]);
for (const columns of [data.cells, data.values, data.errors]) for (const name of Object.keys(columns)) columns[name] = repeat(columns[name]);
data.query_errors = {};
data.methods = Array.from({ length: 40 }, (_, m) => ({ ...data.methods[m % data.methods.length], id: `method-${m}`, family: `family-${m % 6}` }));
for (let i = 0; i < 2000; i += 1) {
  data.cells.key[i] = i.toString(16).padStart(8, "0") + data.cells.key[i].slice(8);
  data.cells.method[i] = i % 40;
  data.cells.space[i] = 0;
  data.cells.configuration[i] = i;
  data.values.bits_per_dim[i] = 0.25 * 2 ** ((i * 7919 % 2000) / 285);
  data.values["recall@10"][i] = Number((1 - Math.exp(-data.values.bits_per_dim[i] * (0.3 + (i % 40) / 40))).toFixed(5));
  [data.cells.outcome[i], data.cells.error[i]] = i % 50 === 0 ? ["timeout", "its time of 600 s was up"] : ["ok", null];
}
const large = path.resolve("large.html");
fs.writeFileSync(large, before + 'id="data">' + JSON.stringify(data).replaceAll("<", "\\u003c") + rest.slice(rest.indexOf("</script>")));
const size = fs.statSync(large).size;
assert.ok(size <= 3e6, `${size} bytes`);
const many = await open(large);
assert.equal(await shown(many), 1960);
// In time of the page's own thread, layout and painting included: other processes do not lengthen it.
const meter = await many.createCDPSession();
await meter.send("Performance.enable", { timeDomain: "threadTicks" });
const spent = async () => {
  const { metrics } = await meter.send("Performance.getMetrics");
  return 1000 * metrics.find((metric) => metric.name === "TaskDuration").value;
};
const times = [];
for (let i = 0; i < 12; i += 1) {
  const start = await spent();
  await many.evaluate(() => new Promise((resolve) => {
    document.querySelector("#legend [data-method]").click();
    requestAnimationFrame(() => setTimeout(resolve));
  }));
  times.push(await spent() - start);
}
times.sort((a, b) => a - b);
assert.ok(times[3] < 50, `redraws took ${times.map((t) => t.toFixed(0)).join(" ")} ms`);
await many.close();

assert.deepEqual(complaints, []);
await browser.close();
console.log(`the page: ${all} configurations; with 2,000 cells ${(size / 1e6).toFixed(2)} MB, drawn again in ${times[6].toFixed(0)} ms of the processor (median of 12)`);
