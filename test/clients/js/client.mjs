// Asks an agent's flags by OpenFeature's own providers for JavaScript, and prints what they say as one line of JSON: first the
// server's, then the browser's, then, after a change that the parent makes when it reads a line, the browser's again.
import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature as Web, ProviderEvents } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';

const [baseUrl, origin] = process.argv.slice(2);
const ada = { targetingKey: 'ada', email: 'ada@example.com', cell: 'beta' };
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');

const brief = ({ value, variant, reason, errorCode }) => ({ value, variant, reason, errorCode });

const server = async () => {
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl }));
  const client = OpenFeature.getClient();
  return {
    mail: brief(await client.getBooleanDetails('mail', false, ada)),
    color: brief(await client.getStringDetails('color', '', ada)),
    size: brief(await client.getNumberDetails('size', 0, ada)),
    shape: brief(await client.getObjectDetails('shape', {}, ada)),
    where: brief(await client.getStringDetails('where', '', ada)),
    gone: brief(await client.getBooleanDetails('gone', true, ada)),
    late: brief(await client.getBooleanDetails('late', true, ada)),
    wrong: brief(await client.getBooleanDetails('color', true, ada)),
    none: brief(await client.getStringDetails('none', 'mine', ada)),
  };
};

// What browsers have and Node has not: a name of the page in each request, and EventSource.
const pageFetch = (url, init = {}) => {
  const request = new Request(url, init);
  request.headers.set('Origin', origin);
  return fetch(request);
};

class Events extends EventTarget {
  constructor(url) {
    super();
    this.readyState = 0;
    this.ending = new AbortController();
    this.read(url).catch((error) => {
      this.readyState = 2;
      if (!this.ending.signal.aborted) say({ error: String(error) });
      this.dispatchEvent(new Event('error'));
    });
  }

  async read(url) {
    const response = await fetch(url, { headers: { Accept: 'text/event-stream', Origin: origin }, signal: this.ending.signal });
    if (!response.ok) throw new Error('the stream answers ' + response.status);
    this.readyState = 1;
    this.dispatchEvent(new Event('open'));
    let text = '';
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
      text += part;
      for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
        const data = text.slice(0, end).split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim());
        if (data.length > 0) this.dispatchEvent(new MessageEvent('message', { data: data.join('\n') }));
      }
    }
    throw new Error('the stream ended');
  }

  close() {
    this.readyState = 2;
    this.ending.abort();
  }
}
globalThis.EventSource = Events;

const page = async () => {
  const provider = new OFREPWebProvider({ baseUrl, pollInterval: -1, fetchImplementation: pageFetch, cacheMode: 'disabled' });
  const changed = new Promise((resolve) => Web.addHandler(ProviderEvents.ConfigurationChanged, resolve));
  await Web.setContext(ada);
  await Web.setProviderAndWait(provider);
  const client = Web.getClient();
  const all = () => ({ mail: brief(client.getBooleanDetails('mail', false)), color: brief(client.getStringDetails('color', 'mine')) });
  say({ page: all() });
  await changed;
  say({ page: all() });
};

say({ server: await server() });
await page();
process.exit(0);
