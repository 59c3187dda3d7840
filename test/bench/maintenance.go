package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/server"
	"github.com/sluice-cd/sluice/test/figures"
)

const (
	leases     = 10_000
	heldLeases = 10_000
	waiters    = 1000
)

// measureMaintenance measures what a product asks of the agent for each operation, and how soon it learns of a change.
func measureMaintenance(ctx context.Context, dir string) ([]figures.Row, error) {
	held := heapOfLeases()
	s := server.New(func() {})
	ours, stop, err := serveOn(ctx, filepath.Join(dir, "maintenance.sock"), s.Handler())
	if err != nil {
		return nil, err
	}
	defer stop()
	const answer = `{"kind":"start","key":"w-000-000","seconds":15}` + "\n"
	var waiting bareWaiting
	routes := http.NewServeMux()
	routes.HandleFunc("POST /v1/operations", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, answer)
	})
	routes.Handle("GET /v1/maintenance", &waiting)
	bare, stopBare, err := serveOn(ctx, filepath.Join(dir, "bare.sock"), routes)
	if err != nil {
		return nil, err
	}
	defer stopBare()
	lease, bareLease, err := timeLeases(ctx, ours, bare)
	if err != nil {
		return nil, err
	}
	told, bareTold, err := timeChange(ctx, s, ours, &waiting, bare)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.TimeRow("a lease for an operation, over a socket", lease, "bare handler", bareLease, 1.2),
		{What: fmt.Sprintf("%d leases held at once", heldLeases), Got: fmt.Sprintf("%.1f MB", held/1e6),
			Base: "limit 20 MB", Ratio: held / 20e6, Limit: 1},
		figures.TimeRow(fmt.Sprintf("a change of state reaches %d waiting clients", waiters), told, "bare handler",
			bareTold, 1.2),
	}, nil
}

// bareWaiting answers each waiting request once begin's channel is closed.
type bareWaiting struct {
	count atomic.Int64
	end   atomic.Pointer[chan struct{}]
}

func (b *bareWaiting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	end := b.end.Load()
	if r.URL.RawQuery != "" && end != nil {
		b.count.Add(1)
		<-*end
		b.count.Add(-1)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", `"1"`)
	_, _ = io.WriteString(w, bareState)
}

const bareState = `{"phase":"draining","refused":["snapshot","start","stop"],"until":"2026-11-29T18:31:37.7Z",` +
	`"seconds":3600,"text":"We're in the middle of an update, which ends by 18:31 UTC at the latest. Please try again ` +
	`then: what is running goes on meanwhile.","language":"en"}` + "\n"

// serveOn serves a handler on a socket, as the agent does, and returns a client that keeps its connections.
func serveOn(ctx context.Context, path string, h http.Handler) (*http.Client, func(), error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, nil, err
	}
	running := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = running.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: waiters,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}
	return client, func() { _ = running.Close() }, nil
}

// timeLeases returns the median time of a lease, and of a bare handler's answer, one after the other in turn: what else
// the machine does meets both alike.
func timeLeases(ctx context.Context, ours, bare *http.Client) (lease, bareLease time.Duration, err error) {
	var all, bareAll []time.Duration
	for i := range leases {
		body := fmt.Sprintf(`{"kind":"start","key":"w-%03d-%03d"}`, i/1000, i%1000)
		for _, one := range []struct {
			client *http.Client
			into   *[]time.Duration
		}{{ours, &all}, {bare, &bareAll}} {
			begin := time.Now()
			err := expect(ctx, one.client, http.MethodPost, "/v1/operations", body, http.StatusCreated)
			if err != nil {
				return 0, 0, err
			}
			*one.into = append(*one.into, time.Since(begin))
		}
	}
	return figures.Median(all), figures.Median(bareAll), nil
}

func expect(ctx context.Context, client *http.Client, method, path, body string, status int) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != status {
		err = fmt.Errorf("%s %s: %s %s", method, path, response.Status, text)
	}
	return err
}

// heapOfLeases returns the heap that as many leases take, in bytes.
func heapOfLeases() float64 {
	now := time.Now()
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what the first one found unused is free now
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	o := maintenance.NewOperations(now)
	for i := range heldLeases {
		o.Begin(maintenance.Operation{Kind: "start", Key: fmt.Sprintf("workspace-%08d-0000-4000-8000", i)}, false, now)
	}
	after := heap()
	runtime.KeepAlive(o)
	return float64(after) - float64(before)
}

// timeChange returns the median of how long a change takes until the last of many waiting clients has it, and the same
// of a bare handler, in turn.
func timeChange(ctx context.Context, s *server.Server, ours *http.Client, b *bareWaiting, bare *http.Client) (
	told, bareTold time.Duration, err error,
) {
	var all, bareAll []time.Duration
	for round := range 5 {
		took, err := timeWaiting(ctx, ours, s.Waiting, func() {
			s.Set(maintenance.State{Phase: maintenance.Draining, Refused: maintenance.DefaultKinds(),
				Until: time.Now().Add(time.Duration(round+1) * time.Hour)})
		})
		if err != nil {
			return 0, 0, err
		}
		end := make(chan struct{})
		b.end.Store(&end)
		bareTook, err := timeWaiting(ctx, bare, func() int { return int(b.count.Load()) }, func() { close(end) })
		if err != nil {
			return 0, 0, err
		}
		all, bareAll = append(all, took), append(bareAll, bareTook)
	}
	return figures.Median(all), figures.Median(bareAll), nil
}

// timeWaiting has clients wait for a change, and returns how long it takes until the last has it.
func timeWaiting(ctx context.Context, client *http.Client, count func() int, change func()) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/maintenance", nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	_ = response.Body.Close()
	tag := response.Header.Get("ETag")
	var waiting errgroup.Group
	for range waiters {
		waiting.Go(func() error {
			request := request.Clone(ctx)
			request.URL.RawQuery = "wait=60"
			request.Header.Set("If-None-Match", tag)
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, response.Body)
			if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != http.StatusOK {
				err = errors.New("a waiting client is told " + response.Status)
			}
			return err
		})
	}
	for deadline := time.Now().Add(time.Minute); count() < waiters; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("only %d of %d clients wait after a minute", count(), waiters)
		}
	}
	begin := time.Now()
	change()
	err = waiting.Wait()
	return time.Since(begin), err
}
