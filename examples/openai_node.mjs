// The openai package of npm against this server: many streams on one connection of HTTP/2, one of them left early.
//
//   npm install openai undici
//   node openai_node.mjs [http://127.0.0.1:8000] [demo]
import OpenAI from 'openai';
import { Agent, fetch, H2CClient } from 'undici';

const [url = 'http://127.0.0.1:8000', model = 'demo'] = process.argv.slice(2);

// Clear text has no way to negotiate HTTP/2, so undici is told to speak it; over TLS it is negotiated. Without `fetch`
// and `fetchOptions` the package speaks HTTP/1.1, a connection for each stream.
const dispatcher = url.startsWith('https:') ? new Agent({ allowH2: true }) : new H2CClient(url);
const client = new OpenAI({
  baseURL: `${url}/v1`,
  apiKey: process.env.OPENAI_API_KEY ?? 'none',
  fetch,
  fetchOptions: { dispatcher },
});

function ask(question) {
  return client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: question }],
    max_completion_tokens: 60,
    temperature: 0,
    stream: true,
  });
}

async function whole(question) {
  let text = '';
  for await (const chunk of await ask(question)) text += chunk.choices[0]?.delta?.content ?? '';
  console.log(`${question}\n    ${text}`);
}

// Leave after a few pieces: the stream is reset, and the server cancels the sequence at once.
async function beginning(question) {
  const stream = await ask(question);
  let text = '';
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    if (text.length > 20) break;
  }
  console.log(`${question}\n    ${text}... (left)`);
}

await Promise.all([whole('What is a canary rollout?'), whole('What is a deadline?')]);
await beginning('What does a scheduler do?');
await client.models.retrieve('nobody').catch((error) => console.log(`${error.status} ${error.code}: ${error.message}`));
await dispatcher.close();
