// What a page in a browser gets from a server's streams over TLS, as one JSON object. Called by test_e2e_browser.py:
//
//   node browser.mjs BROWSER URL ADMIN_URL
//
// The page is of the server's own origin: whatever it answers is a document good enough for that.
import { chromium } from 'playwright-core';
import { inFlight, reaches } from './server.mjs';

const [executablePath, url, adminUrl] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });

async function page(origin) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true }); // the tests' certificate is nobody's
  await context.addInitScript(`window.ask = ${ask}`);
  const made = await context.newPage();
  await made.goto(`${origin}/health/live`);
  return made;
}

// These run in the page.

async function ask(tokens, signal) {
  return fetch('/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny',
      messages: [{ role: 'user', content: 'hi' }],
      max_tokens: tokens,
      ignore_eos: true,
      temperature: 0,
      stream: true,
    }),
    signal,
  });
}

async function stream(tokens) {
  const reply = await window.ask(tokens);
  const [reader, decoder] = [reply.body.getReader(), new TextDecoder()];
  let [text, pieces] = ['', 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces += 1;
    text += decoder.decode(value, { stream: true });
  }
  const { nextHopProtocol } = performance.getEntriesByType('resource').findLast((entry) => entry.name === reply.url);
  return { protocol: nextHopProtocol, pieces, text };
}

async function begin() {
  window.controller = new AbortController();
  const reply = await window.ask(30000, window.controller.signal);
  window.reader = reply.body.getReader();
  return (await window.reader.read()).value.length;
}

async function abort() {
  window.controller.abort();
  try {
    while (!(await window.reader.read()).done);
    return 'it ended';
  } catch (error) {
    return error.name;
  }
}

async function fromElsewhere(target) {
  return fetch(`${target}/v1/models`).then(
    (reply) => `read: ${reply.status}`,
    (error) => error.name,
  );
}

const own = await page(url);
const told = { version: browser.version(), stream: await own.evaluate(stream, 1500) };
told.begun = await own.evaluate(begin);
told.running = (await inFlight(adminUrl)) === 1;
told.abort = await own.evaluate(abort);
told.freed = await reaches(adminUrl, 0); // while the page, and its connection, stay
told.afterwards = (await own.evaluate(stream, 3)).text.endsWith('data: [DONE]\n\n');
const other = await page(adminUrl); // another origin
told.fromElsewhere = await other.evaluate(fromElsewhere, url);
await browser.close();
console.log(JSON.stringify(told));
