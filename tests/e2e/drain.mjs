// How a stream and its connection end when the server is asked to stop, as one JSON object:
//
//   node drain.mjs URL PID
import http2 from 'node:http2';

const [url, pid] = process.argv.slice(2);
const session = http2.connect(url);
const told = { goaways: [], errors: [], text: '' };
session.on('goaway', (code, lastStream) => told.goaways.push({ code, lastStream, whole: told.text.endsWith('[DONE]\n\n') }));
session.on('error', (error) => told.errors.push(String(error)));
const closed = new Promise((resolve) => session.once('close', resolve));

const stream = session.request({ ':method': 'POST', ':path': '/v1/completions', 'content-type': 'application/json' });
stream.setEncoding('utf8');
stream.on('error', (error) => told.errors.push(String(error)));
stream.on('data', (piece) => {
  if (told.text === '') process.kill(Number(pid), 'SIGTERM');
  told.text += piece;
});
stream.end(JSON.stringify({ model: 'tiny', prompt: 'hello', max_tokens: 500, ignore_eos: true, stream: true }));
await closed;
console.log(JSON.stringify({ ...told, text: told.text.slice(-50), rstCode: stream.rstCode }));
