package controlplane_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/controlplane/transport"
)

// newBareServer serves 304 from net/http over the same TLS, and returns the address.
func newBareServer(b *testing.B) (addr string) {
	keys, err := transport.OpenKeys(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"a3caeaaba4bda8a8a41e7cac"`)
			w.WriteHeader(http.StatusNotModified)
		}),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13,
			Certificates: []tls.Certificate{keys.Certificate()}, ClientAuth: tls.RequireAnyClientCert},
		ReadHeaderTimeout: 10 * time.Second,
	}
	go server.ServeTLS(l, "", "")
	b.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// pollCost is what polls cost: the processor's time and the allocations of both ends.
type pollCost struct {
	perSecond, cpu, allocations, bytes float64 // all but the first for each poll; cpu in microseconds
}

// measurePolls polls over all connections for a while, at most 64 at once.
func measurePolls(b *testing.B, links []*cellConn, etag []string, lasts time.Duration) pollCost {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := processorTime(b)
	var answered atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(lasts)
	const atOnce = 64
	for first := range atOnce {
		wg.Go(func() {
			for i := first; time.Now().Before(end); i = (i + atOnce) % (len(links) - len(links)%atOnce) {
				request := "GET /v1/desired HTTP/1.1\r\nHost: sluice.example:7601\r\nUser-Agent: " +
					"Go-http-client/1.1\r\nAccept: application/json\r\nIf-None-Match: " + etag[i] +
					"\r\nAccept-Encoding: gzip\r\n\r\n"
				if err := expectNotModified(links[i], request); err != nil {
					b.Error(err)
					return
				}
				answered.Add(1)
			}
		})
	}
	began := time.Now()
	wg.Wait()
	took, n := time.Since(began), float64(answered.Load())
	cpu = processorTime(b) - cpu
	runtime.ReadMemStats(&after)
	return pollCost{n / took.Seconds(), float64(cpu.Microseconds()) / n, float64(after.Mallocs-before.Mallocs) / n,
		float64(after.TotalAlloc-before.TotalAlloc) / n}
}

// processorTime returns what this process has used, in user and in kernel mode.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// expectNotModified sends a request and reads a 304.
func expectNotModified(l *cellConn, request string) error {
	if _, err := io.WriteString(l, request); err != nil {
		return err
	}
	for first := true; ; first = false {
		line, err := l.reader.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && string(line[9:12]) != "304":
			return fmt.Errorf("%s", line)
		case len(line) == 2:
			return nil
		}
	}
}

// envInt returns a number from the environment.
func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// BenchmarkIdlePollTLS compares idle polls with a bare handler over mutual TLS, in turn. The client runs in the same
// process, which flatters the ratio: make bench-fleet has separate processes.
func BenchmarkIdlePollTLS(b *testing.B) {
	n := envInt("CONNECTIONS", 64)
	f := newFleet(b, n, withoutLimits)
	base := newBareServer(b)
	dial := func(addr string) (links []*cellConn, tags []string) {
		at := *f
		at.addr = addr
		for i := range n {
			links = append(links, at.dial(b, i))
			w := links[i].get(b, "/v1/desired", "")
			tags = append(tags, w.Header.Get("ETag"))
			if _, err := io.Copy(io.Discard, w.Body); err != nil {
				b.Fatal(err)
			}
		}
		return links, tags
	}
	ours, tags := dial(f.addr)
	theirs, bareTags := dial(base)
	all := map[string][]float64{}
	for b.Loop() {
		x := measurePolls(b, theirs, bareTags, 300*time.Millisecond)
		y := measurePolls(b, ours, tags, 300*time.Millisecond)
		for unit, v := range map[string]float64{"of-bare": y.perSecond / x.perSecond, "polls/s": y.perSecond,
			"cpu-µs/poll": y.cpu, "bare-cpu-µs/poll": x.cpu, "allocs/poll": y.allocations, "B/poll": y.bytes,
			"bare-allocs/poll": x.allocations, "bare-B/poll": x.bytes} {
			all[unit] = append(all[unit], v)
		}
	}
	for unit, values := range all {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], unit)
	}
}

// residentMemory returns the process's resident memory in bytes.
func residentMemory(b testing.TB) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) * 1024
}

// BenchmarkFanOut compares the fan-out to streams with a bare broadcast over as many TLS connections, from the new view
// to the last cell. The readers run in the same process.
func BenchmarkFanOut(b *testing.B) {
	n := envInt("STREAMS", 2000)
	f := newFleet(b, n, withoutLimits)
	arrived := make(chan time.Time, n)
	read := func(r *bufio.Reader) {
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(string(line), "data: ") {
				arrived <- time.Now()
			}
		}
	}
	before := residentMemory(b)
	var all []*cellConn
	for i := range n {
		l := f.dial(b, i)
		all = append(all, l)
		if _, err := l.Write(
			[]byte("GET /v1/desired HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")); err != nil {
			b.Fatal(err)
		}
		go read(l.reader)
	}
	for range n {
		<-arrived
	}
	fmt.Fprintf(os.Stderr, "%d streams: %.1f KiB each, both ends\n", n, (residentMemory(b)-before)/float64(n)/1024)
	conns := broadcaster(b, n, arrived)
	_, body := f.site.desiredOf(b, cellName(0))
	payload := []byte("event: desired\nid: \"a3caeaaba4bda8a8a41e7cac\"\ndata: " + body + "\n\n")
	p99 := func(began time.Time) float64 {
		var took []time.Duration
		for range n {
			took = append(took, (<-arrived).Sub(began))
		}
		slices.Sort(took)
		return float64(took[len(took)*99/100].Microseconds()) / 1000
	}
	views := []string{"1.0.2", "1.0.1"}
	var ratios, times []float64
	for i := 0; b.Loop(); i++ {
		v := fleetView(n, views[i%2])
		runtime.GC()
		began := time.Now()
		var wg sync.WaitGroup
		for k := range 2 {
			wg.Go(func() {
				for _, c := range conns[len(conns)*k/2 : len(conns)*(k+1)/2] {
					_, _ = c.Write(payload)
				}
			})
		}
		x := p99(began)
		wg.Wait()
		began = time.Now()
		f.setView(v)
		y := p99(began)
		ratios, times = append(ratios, y/x), append(times, y)
	}
	slices.Sort(ratios)
	slices.Sort(times)
	b.ReportMetric(ratios[len(ratios)/2], "of-bare")
	b.ReportMetric(times[len(times)/2], "p99-ms")
	runtime.KeepAlive(all)
}

// broadcaster returns the writing ends of n TLS connections that are being read.
func broadcaster(b *testing.B, n int, arrived chan<- time.Time) []net.Conn {
	keys, err := transport.OpenKeys(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0",
		&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{keys.Certificate()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	conns := make([]net.Conn, 0, n)
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.(*tls.Conn).Handshake()
				accepted <- c
			}()
		}
	}()
	for range n {
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { raw.Close() })
		c := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			b.Fatal(err)
		}
		conns = append(conns, <-accepted)
		go func() {
			r := bufio.NewReader(c)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if strings.HasPrefix(string(line), "data: ") {
					arrived <- time.Now()
				}
			}
		}()
	}
	return conns
}
