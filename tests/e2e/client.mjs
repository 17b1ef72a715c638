// What the openai package makes of a server's answers, as one JSON object. Called by test_e2e_node.py:
//
//   node client.mjs URL ADMIN_URL HTTP/1.1|HTTP/2
import diagnostics from 'node:diagnostics_channel';
import OpenAI from 'openai';
import { Agent, fetch, H2CClient } from 'undici';
import { reaches } from './server.mjs';

const [url, adminUrl, protocol] = process.argv.slice(2);
const ask = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], temperature: 0, max_tokens: 6 };
const endless = { ...ask, max_tokens: 30000, ignore_eos: true };

const versions = []; // that were spoken with the server, a connection each
diagnostics.subscribe('undici:client:connected', ({ connectParams }) => {
  if (connectParams.port === new URL(url).port) versions.push(connectParams.version);
});

function dispatcher() {
  if (protocol === 'HTTP/1.1') return new Agent();
  return url.startsWith('https:') ? new Agent({ allowH2: true }) : new H2CClient(url);
}

const transport = dispatcher();
const client = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey: 'none',
  maxRetries: 0,
  fetch,
  fetchOptions: { dispatcher: transport },
});

async function streamed(body) {
  let text = '';
  for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? '';
  }
  return text;
}

async function chat() {
  const whole = await client.chat.completions.create(ask);
  const gathered = await client.chat.completions.stream(ask).finalContent();
  return { whole: whole.choices[0].message.content, streamed: await streamed(ask), gathered, usage: whole.usage };
}

async function many() {
  const texts = await Promise.all(Array.from({ length: 60 }, () => streamed({ ...ask, max_tokens: 40 })));
  return { texts: texts.length, different: new Set(texts).size };
}

async function completions() {
  const body = { model: 'tiny', prompt: ['ab', 'cd'], max_tokens: 4, temperature: 0 };
  const whole = await client.completions.create(body);
  const pieces = ['', ''];
  for await (const chunk of await client.completions.create({ ...body, stream: true })) {
    pieces[chunk.choices[0].index] += chunk.choices[0].text;
  }
  return { indices: whole.choices.map((one) => one.index), whole: whole.choices.map((one) => one.text), streamed: pieces };
}

async function tools() {
  const parameters = {
    type: 'object',
    properties: { city: { enum: ['Oslo', 'Rome'] } },
    required: ['city'],
    additionalProperties: false,
  };
  const weather = { type: 'function', function: { name: 'weather', strict: true, parameters } };
  const body = { ...ask, max_tokens: 600, tools: [weather], tool_choice: 'required', parallel_tool_calls: false };
  const [call] = (await client.chat.completions.stream(body).finalMessage()).tool_calls;
  return { name: call.function.name, arguments: JSON.parse(call.function.arguments) };
}

async function errors() {
  const told = [];
  for (const wrong of [{ model: 'nobody' }, { temperature: 3 }]) {
    await client.chat.completions
      .create({ ...ask, ...wrong })
      .catch((error) => told.push([error.constructor.name, error.code, error.param]));
  }
  return told;
}

// One of two streams is aborted: it is to be computed no further though the connection stays, and the other is whole.
async function aborted() {
  const stream = await client.chat.completions.create({ ...endless, stream: true });
  const neighbour = streamed({ ...ask, max_tokens: 1000, ignore_eos: true });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    if (chunks === 3) stream.controller.abort();
  }
  const characters = (await neighbour).length;
  return { chunks, freed: await reaches(adminUrl, 0), neighbour: characters > 0 };
}

async function timedOut() {
  const error = await client.chat.completions.create(endless, { timeout: 300 }).catch((caught) => caught);
  return { error: error.constructor.name, freed: await reaches(adminUrl, 0) };
}

const told = {
  chat: await chat(),
  many: await many(),
  completions: await completions(),
  tools: await tools(),
  errors: await errors(),
  aborted: await aborted(),
  timedOut: await timedOut(),
  afterwards: await streamed(ask),
  versions,
};
await transport.close(); // waits for nothing that is still open
console.log(JSON.stringify(told));
