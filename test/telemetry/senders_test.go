package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/sluice-cd/sluice/test/debian"
)

// sendEvery is how often programs send what they measured, beside once as soon as they have measured it.
const sendEvery = 20 * time.Second

// canary returns the n-th secret of an SDK's program.
func canary(sdk string, n int) string { return fmt.Sprintf("canary%s%dx", sdk, n) }

// tap passes on what programs send to the agent's socket, and notes which secrets are in it: of those that never left a
// program, the test would prove nothing.
type tap struct {
	mu   sync.Mutex
	seen map[string]bool
}

func startTap(t *testing.T, at, agent string) *tap {
	t.Helper()
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	passed := &tap{seen: map[string]bool{}}
	proxy := &httputil.ReverseProxy{Transport: overSocket(agent), ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "localhost"}) }}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest) // the program gave up, and sends it again
			return
		}
		if err := passed.note(body, r.Header.Get("Content-Encoding") == "gzip"); err != nil {
			t.Errorf("a program sent something that can't be read: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return passed
}

var canaries = regexp.MustCompile(`canary(go|js)\d+x`)

func (p *tap) note(body []byte, packed bool) error {
	if packed {
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		if body, err = io.ReadAll(r); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, secret := range canaries.FindAll(body, -1) {
		p.seen[string(secret)] = true
	}
	return nil
}

// count returns how many secrets have passed.
func (p *tap) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

func overSocket(path string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

// startGo measures with the SDK for Go until it is stopped, and sends to a socket.
func startGo(t *testing.T, socket string) (stop func()) {
	t.Helper()
	ctx := t.Context()
	client := &http.Client{Transport: overSocket(socket)}
	metrics, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL("http://localhost/v1/metrics"),
		otlpmetrichttp.WithHTTPClient(client), otlpmetrichttp.WithTimeout(patience),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	if err != nil {
		t.Fatal(err)
	}
	logs, err := otlploghttp.New(ctx, otlploghttp.WithEndpointURL("http://localhost/v1/logs"),
		otlploghttp.WithHTTPClient(client), otlploghttp.WithTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	var attributes []attribute.KeyValue
	for n := 0; n < secrets; n += 8 {
		attributes = append(attributes, attribute.String(canary("go", n), canary("go", n)))
	}
	r := resource.NewSchemaless(attributes...)
	// A label that a view drops is in exemplars still.
	view := sdkmetric.NewView(sdkmetric.Instrument{Name: "seconds"}, sdkmetric.Stream{
		AttributeFilter: attribute.NewAllowKeysFilter("sdk"),
		ExemplarReservoirProviderSelector: func(sdkmetric.Aggregation) exemplar.ReservoirProvider {
			return exemplar.FixedSizeReservoirProvider(secrets)
		}})
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithResource(r), sdkmetric.WithView(view),
		sdkmetric.WithExemplarFilter(exemplar.AlwaysOnFilter),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics, sdkmetric.WithInterval(sendEvery),
			sdkmetric.WithTimeout(patience))))
	loggers := sdklog.NewLoggerProvider(sdklog.WithResource(r),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(logs, sdklog.WithMaxQueueSize(secrets))))
	err = measureGo(ctx, meters.Meter(canary("go", 1)), loggers.Logger(canary("go", 1)))
	if err = errors.Join(err, meters.ForceFlush(ctx), loggers.ForceFlush(ctx)); err != nil {
		t.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := errors.Join(meters.Shutdown(ctx), loggers.Shutdown(ctx)); err != nil {
			t.Errorf("the program in Go: %v", err)
		}
	}
}

// measureGo measures what was agreed to, and has secrets wherever an SDK takes text. js/sender.mjs does the same.
func measureGo(ctx context.Context, meter metric.Meter, logger otellog.Logger) error {
	counter, err := meter.Int64Counter("starts", metric.WithDescription(canary("go", 2)),
		metric.WithUnit(canary("go", 3)))
	if err != nil {
		return err
	}
	gauge, err := meter.Int64Gauge("workspaces")
	if err != nil {
		return err
	}
	seconds, err := meter.Float64Histogram("seconds")
	if err != nil {
		return err
	}
	sdk := attribute.String("sdk", "go")
	for range starts {
		counter.Add(ctx, 1, metric.WithAttributes(sdk, attribute.String("class", "small")))
	}
	gauge.Record(ctx, workspaces, metric.WithAttributes(sdk))
	for n := range secrets {
		secret := canary("go", n)
		switch n % 8 {
		case 0: // the resource has it
		case 1:
			unlisted, err := meter.Int64Gauge(secret, metric.WithDescription(secret), metric.WithUnit(secret))
			if err != nil {
				return err
			}
			unlisted.Record(ctx, 1)
		case 2:
			gauge.Record(ctx, workspaces, metric.WithAttributes(sdk, attribute.String(secret, "x")))
		case 3:
			gauge.Record(ctx, workspaces, metric.WithAttributes(sdk, attribute.String("user", secret)))
		case 4:
			gauge.Record(ctx, workspaces, metric.WithAttributes(attribute.String("sdk", secret)))
		case 5:
			seconds.Record(ctx, 0.2, metric.WithAttributes(sdk, attribute.String("user", secret)))
		default:
			var record otellog.Record
			record.SetEventName("workspace.start.failed")
			if n%16 != 6 {
				record.SetEventName(secret)
			}
			record.SetBody(attribute.StringValue(secret))
			record.SetSeverityText(secret)
			record.AddAttributes(sdk, attribute.Int("attempts", attempts), attribute.String("release", secret),
				attribute.String(secret, secret))
			logger.Emit(ctx, record)
		}
	}
	return nil
}

// startJavaScript measures with the SDK for JavaScript until it is stopped, and sends to a socket.
func (p *place) startJavaScript(socket string) (stop func()) {
	p.t.Helper()
	args := []string{"sender.mjs", socket}
	for _, n := range []int{secrets, starts, workspaces, attempts, int(sendEvery.Milliseconds())} {
		args = append(args, strconv.Itoa(n))
	}
	node := exec.CommandContext(p.t.Context(), "node", args...)
	node.Dir = p.path("js")
	var said bytes.Buffer
	node.Stdout, node.Stderr = &said, &said
	in, err := node.StdinPipe() // it ends when this is closed
	if err == nil {
		err = node.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return func() {
		_ = in.Close()
		if err := node.Wait(); err != nil {
			p.t.Errorf("the program in JavaScript: %v: %s", err, said.String())
		}
	}
}

// installJavaScript installs the SDK for JavaScript.
func (p *place) installJavaScript() {
	p.t.Helper()
	if err := debian.Program(p.t.Context(), "npm", "nodejs", "npm"); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json", "sender.mjs"} {
		text, err := os.ReadFile(filepath.Join("js", name))
		if err != nil {
			p.t.Fatal(err)
		}
		p.write("js/"+name, string(text))
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	packages := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	packages.Dir = p.path("js")
	if out, err := packages.CombinedOutput(); err != nil {
		p.t.Fatalf("npm ci: %v\n%s", err, out)
	}
}
