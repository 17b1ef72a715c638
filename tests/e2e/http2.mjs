// What node:http2 makes of a server's streams, as one JSON object. Called by test_e2e_node_http2.py:
//
//   node http2.mjs URL ADMIN_URL
import http2 from 'node:http2';
import { inFlight, reaches } from './server.mjs';

const [url, adminUrl] = process.argv.slice(2);
const session = http2.connect(url);
await new Promise((resolve) => session.once('remoteSettings', resolve));

function post(tokens, more = {}) {
  const stream = session.request({
    ':method': 'POST',
    ':path': '/v1/completions',
    'content-type': 'application/json',
  });
  stream.setEncoding('utf8');
  const body = { model: 'tiny', prompt: 'hello', max_tokens: tokens, ignore_eos: true, temperature: 0, stream: true };
  stream.end(JSON.stringify({ ...body, ...more }));
  return stream;
}

async function read(stream) {
  let text = '';
  for await (const piece of stream) text += piece;
  return text;
}

// The words of a stream that ended as it should.
function words(text) {
  const data = text.split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6));
  if (data.pop() !== '[DONE]') throw new Error(`the end is missing: ${text.slice(-200)}`);
  return data.map((chunk) => JSON.parse(chunk).choices[0].text).join('');
}

async function many(count, tokens) {
  const texts = await Promise.all(Array.from({ length: count }, async () => words(await read(post(tokens)))));
  return { texts: texts.length, different: new Set(texts).size };
}

// Half of the streams are reset in the middle; the other half is whole.
async function resets() {
  const [left, stays] = [Array.from({ length: 20 }, () => post(30000)), Array.from({ length: 20 }, () => post(100))];
  const whole = Promise.all(stays.map(async (stream) => words(await read(stream))));
  const closed = left.map(async (stream) => {
    await new Promise((resolve) => stream.once('data', resolve));
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await new Promise((resolve) => stream.once('close', resolve));
    return stream.rstCode;
  });
  const codes = new Set(await Promise.all(closed));
  return { codes: [...codes], different: new Set(await whole).size, freed: await reaches(adminUrl, 0) };
}

// A reader that stops for longer than the answer takes, and then goes on, has every token once; others notice nothing.
async function pauses() {
  const [tokens, more] = [800, { logprobs: 5 }]; // some times more bytes than all windows and buffers on the way
  const began = Date.now();
  const whole = words(await read(post(tokens, more)));
  const took = Date.now() - began;
  const stream = post(tokens, more);
  await new Promise((resolve) => stream.once('readable', resolve));
  const other = words(await read(post(20)));
  await new Promise((resolve) => setTimeout(resolve, 2 * took));
  const held = (await inFlight(adminUrl)) === 1;
  return { held, same: words(await read(stream)) === whole, other: whole.startsWith(other) };
}

const told = { many: await many(100, 20), beyond: await many(700, 2), resets: await resets(), pauses: await pauses() };
const closed = new Promise((resolve) => session.once('close', resolve));
session.close();
await closed;
console.log(JSON.stringify(told));
