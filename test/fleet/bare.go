package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
)

// bareServer is the baseline: Go's own speed over the same mutual TLS, without the work of a control plane. It answers
// requests by net/http, and serves streams and handshakes on listeners of their own.
type bareServer struct {
	config *tls.Config
	pin    string

	mu      sync.Mutex // guards streams
	streams []net.Conn
}

type bareAddresses struct {
	Pin        string
	HTTP       string // any GET: 304; POST /v1/reports: decoded, answered, dropped
	Streams    string // any request opens a stream
	Handshakes string // sends one byte after the handshake
}

func newBareServer() (*bareServer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := identity.SelfSignedCertificate(rand.Reader, key, "bare", time.Now())
	if err != nil {
		return nil, err
	}
	return &bareServer{pin: identity.CertificatePin(cert.Leaf), config: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert,
	}}, nil
}

func bareCommands() (commands, error) {
	b, err := newBareServer()
	if err != nil {
		return nil, err
	}
	return commands{
		"listen":    commandOf(func(struct{}) (any, error) { return b.listen() }),
		"broadcast": commandOf(b.broadcast),
		"serveFile": commandOf(b.serveFile),
	}, nil
}

func (b *bareServer) listen() (bareAddresses, error) {
	at := bareAddresses{Pin: b.pin}
	for address, serve := range map[*string]func(net.Listener){&at.HTTP: b.serveHTTP, &at.Streams: b.serveStreams,
		&at.Handshakes: b.serveHandshakes} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return at, err
		}
		*address = l.Addr().String()
		go serve(l)
	}
	return at, nil
}

func (b *bareServer) serveHTTP(l net.Listener) {
	server := &http.Server{
		Handler: http.HandlerFunc(handleBare), ErrorLog: log.New(io.Discard, "", 0),
		ReadHeaderTimeout: time.Minute, TLSConfig: b.config.Clone(),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	_ = server.ServeTLS(l, "", "") // until the process ends
}

func handleBare(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	var report cells.Report
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&report); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(cells.Receipt{Time: time.Now()}) // an error: the client has gone
}

func (b *bareServer) acceptTLS(l net.Listener, then func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() {
			secure := tls.Server(conn, b.config)
			if secure.HandshakeContext(context.Background()) != nil {
				_ = conn.Close()
				return
			}
			then(secure)
		}()
	}
}

func (b *bareServer) serveHandshakes(l net.Listener) {
	b.acceptTLS(l, func(c net.Conn) {
		_, _ = c.Write([]byte{'!'}) // an error: the client has gone
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	})
}

func (b *bareServer) serveStreams(l net.Listener) {
	b.acceptTLS(l, func(c net.Conn) {
		in := bufio.NewReaderSize(c, 512)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				_ = c.Close()
				return
			}
			if strings.TrimSpace(line) == "" {
				break
			}
		}
		if _, err := io.WriteString(c,
			"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: begun\n\n"); err != nil {
			return
		}
		b.mu.Lock()
		b.streams = append(b.streams, c)
		b.mu.Unlock()
	})
}

// broadcast writes an event of size bytes to all streams, from one goroutine a processor, and returns when it began.
func (b *bareServer) broadcast(size int) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	event := []byte(fmt.Sprintf("id: bare\nevent: desired\ndata: %s\n\n", strings.Repeat("x", max(1, size-34))))
	var all sync.WaitGroup
	begun := time.Now()
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		all.Go(func() {
			for i := w; i < len(b.streams); i += workers {
				_ = b.streams[i].SetWriteDeadline(time.Now().Add(10 * time.Second))
				_, _ = b.streams[i].Write(event) // an error: the load will report that nothing came
			}
		})
	}
	all.Wait()
	return begun, nil
}
