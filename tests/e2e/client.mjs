// What the openai package makes of a server's answers, as one JSON object. Called by test_e2e_clients.py with the URL.
import OpenAI from 'openai';

const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'none', maxRetries: 0 });
const ask = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }], temperature: 0, max_tokens: 6 };

async function chat() {
  const whole = await client.chat.completions.create(ask);
  let streamed = '';
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
    streamed += chunk.choices[0]?.delta?.content ?? '';
  }
  const gathered = await client.chat.completions.stream(ask).finalContent();
  return { whole: whole.choices[0].message.content, streamed, gathered, usage: whole.usage };
}

async function completions() {
  const body = { model: 'tiny', prompt: ['ab', 'cd'], max_tokens: 4, temperature: 0 };
  const whole = await client.completions.create(body);
  const streamed = ['', ''];
  for await (const chunk of await client.completions.create({ ...body, stream: true })) {
    streamed[chunk.choices[0].index] += chunk.choices[0].text;
  }
  return { indices: whole.choices.map((one) => one.index), whole: whole.choices.map((one) => one.text), streamed };
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

async function aborted() {
  const stream = await client.chat.completions.create({ ...ask, max_tokens: 30000, ignore_eos: true, stream: true });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    if (chunks === 3) stream.controller.abort();
  }
  return { chunks };
}

const told = { chat: await chat(), completions: await completions(), errors: await errors(), aborted: await aborted() };
console.log(JSON.stringify(told));
