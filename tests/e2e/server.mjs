// What the tests' programs for Node ask the server under test besides: its admin listener, in clear text.

const ENOUGH_MS = 10_000;

// Sequences that are computed, or wait to be.
export async function inFlight(adminUrl) {
  const lines = (await (await fetch(`${adminUrl}/metrics`)).text()).split('\n');
  const values = lines.filter((line) => line.startsWith('aruntime_sequences_in_flight')).map((line) => line.split(' ')[1]);
  return values.reduce((sum, value) => sum + Number(value), 0);
}

// Whether so many sequences are in flight, or will be soon: while this program is there and its connection is open.
export async function reaches(adminUrl, wanted) {
  for (const began = Date.now(); Date.now() - began < ENOUGH_MS; ) {
    if ((await inFlight(adminUrl)) === wanted) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}
