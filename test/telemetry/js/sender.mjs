// A program that measures with OpenTelemetry's SDK for JavaScript, and has secrets wherever the SDK takes text, as
// measureGo does. It sends to a unix socket, and ends when its input does. Arguments: the socket; how many secrets,
// starts, workspaces and attempts there are; how often it sends, in milliseconds.
import { SeverityNumber } from '@opentelemetry/api-logs';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';

const socketPath = process.argv[2];
const [secrets, starts, workspaces, attempts, sendEvery] = process.argv.slice(3).map(Number);
const canary = (n) => `canaryjs${n}x`;
const to = (path) => ({ url: `http://localhost${path}`, httpAgentOptions: { keepAlive: true, socketPath } });

const attributes = {};
for (let n = 0; n < secrets; n += 8) attributes[canary(n)] = canary(n);
const resource = resourceFromAttributes(attributes);
const meters = new MeterProvider({
  resource,
  readers: [new PeriodicExportingMetricReader({
    exporter: new OTLPMetricExporter(to('/v1/metrics')), exportIntervalMillis: sendEvery,
    exportTimeoutMillis: sendEvery,
  })],
});
const loggers = new LoggerProvider({
  resource,
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(to('/v1/logs')), maxQueueSize: secrets })],
});
const meter = meters.getMeter(canary(1));
const logger = loggers.getLogger(canary(1));

const counter = meter.createCounter('starts', { description: canary(2), unit: canary(3) });
const gauge = meter.createGauge('workspaces');
const seconds = meter.createHistogram('seconds');
for (let i = 0; i < starts; i++) counter.add(1, { sdk: 'js', class: 'small' });
gauge.record(workspaces, { sdk: 'js' });
for (let n = 0; n < secrets; n++) {
  const secret = canary(n);
  switch (n % 8) {
    case 0:
      break; // the resource has it
    case 1:
      meter.createGauge(secret, { description: secret, unit: secret }).record(1);
      break;
    case 2:
      gauge.record(workspaces, { sdk: 'js', [secret]: 'x' });
      break;
    case 3:
      gauge.record(workspaces, { sdk: 'js', user: secret });
      break;
    case 4:
      gauge.record(workspaces, { sdk: secret });
      break;
    case 5:
      seconds.record(0.2, { sdk: 'js', user: secret });
      break;
    default:
      logger.emit({
        eventName: n % 16 === 6 ? 'workspace.start.failed' : secret, body: secret, severityText: secret,
        severityNumber: SeverityNumber.WARN,
        attributes: { sdk: 'js', attempts, release: secret, [secret]: secret },
      });
  }
}
await Promise.all([meters.forceFlush(), loggers.forceFlush()]);
process.stdin.resume();
process.stdin.on('end', async () => {
  await Promise.all([meters.shutdown(), loggers.shutdown()]);
  process.exit(0);
});
