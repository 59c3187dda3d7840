package ofrep

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
)

// dialRaw opens a connection and sends text.
func dialRaw(t *testing.T, url, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// Requests that no client library sends are answered, or end the connection.
func TestRawRequests(t *testing.T) {
	server := Server(t.Context(), New(newTestSource(foldBundle(t, 100), 100), zerolog.Nop(), Options{}))
	server.ReadTimeout = 200 * time.Millisecond // how long the server waits for a missing body
	url := start(t, server)
	const post = "POST " + flagPath + "static HTTP/1.1\r\nHost: localhost\r\n"
	for name, test := range map[string]struct {
		text   string
		status int
	}{
		"HTTP/1.0":                {"POST " + flagPath + "static HTTP/1.0\r\nHost: localhost\r\n\r\n", 200},
		"HTTP/1.0 without a host": {"POST " + flagPath + "static HTTP/1.0\r\n\r\n", 403},
		"of another kind":         {post + "Content-Type: image/png\r\nContent-Length: 2\r\n\r\n{}", 200},
		"large headers":           {post + "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
		"many headers":            {post + strings.Repeat("X: y\r\n", 16<<10) + "\r\n", 431},
		"two lengths":             {post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
		"a negative length":       {post + "Content-Length: -1\r\n\r\n", 400},
		"a huge length":           {post + "Content-Length: 9223372036854775807\r\n\r\n", 413},
		"a huge chunk":            {post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 400},
		"a chunk of nonsense":     {post + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
		"chunks without end": {
			post + "Transfer-Encoding: chunked\r\n\r\n" +
				strings.Repeat("100\r\n"+strings.Repeat(" ", 256)+"\r\n", 300),
			413,
		},
		"chunks": {post + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200},
		"a key of 8 KiB": {
			"POST " + flagPath + strings.Repeat("k", 8<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 404,
		},
		"a key of no text": {"POST " + flagPath + "%ff%00%0a HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
	} {
		t.Run(name, func(t *testing.T) {
			_, answers := dialRaw(t, url, test.text)
			got, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Body.Close()
			body, err := io.ReadAll(got.Body)
			if err != nil || got.StatusCode != test.status {
				t.Errorf("%s, want %d: %s", got.Status, test.status, body)
			}
			if test.status == 404 && !json.Valid(body) {
				t.Errorf("no JSON: %s", body)
			}
		})
	}
}

func TestPipelining(t *testing.T) {
	const n = 100
	url := serve(t, newTestSource(foldBundle(t, 100), 100), Options{})
	text := ""
	for i := range n {
		text += fmt.Sprintf("POST %snone-%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", flagPath, i)
	}
	_, answers := dialRaw(t, url, text)
	for i := range n {
		got, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		var failure struct{ Key string }
		if err := json.NewDecoder(got.Body).Decode(&failure); err != nil || failure.Key != fmt.Sprintf("none-%d", i) {
			t.Fatalf("answer %d is for %q: %v", i, failure.Key, err)
		}
		_ = got.Body.Close()
	}
}

// Callers that send a body slowly, or don't read the answer, are disconnected, and leave no goroutine.
func TestSlowCallers(t *testing.T) {
	b := &flags.Bundle{Version: flags.BundleVersion, Channel: "c", Flags: map[string]json.RawMessage{}}
	for i := range 1000 { // so that an answer is larger than socket buffers
		b.Flags[fmt.Sprintf("f%04d", i)] = json.RawMessage(`{"state":"ENABLED","variants":{"a":"` +
			strings.Repeat("x", 10_000) + `"},"defaultVariant":"a"}`)
	}
	c := newTestSource(compile(t, b).Fold(flags.Orders{}, acmeFacts(), 100), 100)
	before := runtime.NumGoroutine()
	ctx, stop := context.WithCancel(context.Background())
	server := Server(ctx, New(c, zerolog.Nop(), Options{}))
	server.ReadHeaderTimeout, server.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond
	server.WriteTimeout = 200 * time.Millisecond
	url := start(t, server)
	for name, text := range map[string]string{
		"headers": "POST " + bulkPath + " HTTP/1.1\r\nHost: loc",
		"body":    "POST " + bulkPath + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
		"answer":  "POST " + bulkPath + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"rules":   "GET " + flagsPath + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		conn, answers := dialRaw(t, url, text)
		time.Sleep(500 * time.Millisecond) // far beyond the limits, and without reading
		n, err := io.Copy(io.Discard, answers)
		if err == nil && n > 9_000_000 || errorIsTimeout(err) {
			t.Errorf("%s: the connection was kept, %d bytes, %v", name, n, err)
		}
		_ = conn.Close()
	}
	stop()
	_ = server.Close()
	waitForGoroutines(t, before)
}

func errorIsTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// waitForGoroutines waits until there are no more goroutines than before.
func waitForGoroutines(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); runtime.NumGoroutine() > before; time.Sleep(
		10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before,
				stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestAThousandConnections requests one flag, all flags and streams at once, while flags change.
func TestAThousandConnections(t *testing.T) {
	before := runtime.NumGoroutine()
	c := newTestSource(foldBundle(t, 99), 99)
	ctx, stop := context.WithCancel(context.Background())
	server := Server(ctx, New(c, zerolog.Nop(), Options{}))
	url := start(t, server)
	var callers, streams sync.WaitGroup
	refused := make(chan bool, 1000)
	for i := range 1000 {
		conn, answers := dialRaw(t, url, "")
		if i%2 == 0 {
			streams.Go(func() {
				_, _ = io.WriteString(conn, "GET "+eventsPath+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
				got, err := http.ReadResponse(answers, nil)
				if err != nil || got.StatusCode != 200 && got.StatusCode != 429 {
					t.Errorf("stream %d: %v", i, err)
					return
				}
				refused <- got.StatusCode == 429
				_, _ = io.Copy(io.Discard, got.Body) // until the server ends it
				_ = conn.Close()
			})
			continue
		}
		callers.Go(func() {
			for _, path := range []string{flagPath + "gated", bulkPath, flagPath + "gated"} {
				_, _ = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
				got, err := http.ReadResponse(answers, nil)
				if err != nil || got.StatusCode != 200 {
					t.Errorf("caller %d: %v", i, err)
					return
				}
				_, _ = io.Copy(io.Discard, got.Body)
				_ = got.Body.Close()
			}
			_ = conn.Close()
		})
	}
	for at := int64(100); at < 110; at++ {
		c.setFlags(foldBundle(t, at), at)
	}
	callers.Wait()
	stop()
	streams.Wait()
	close(refused)
	n := 0
	for r := range refused {
		if r {
			n++
		}
	}
	if n != 500-maxStreams {
		t.Errorf("%d streams were refused, want %d", n, 500-maxStreams)
	}
	_ = server.Close()
	waitForGoroutines(t, before)
}
