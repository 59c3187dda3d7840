package controlplane_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/store"
)

// Anyone can make a key: a peer with large certificates or an old TLS version is refused.
func TestCertificatesOfCells(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	plain := h.clientTLS(t, h.signers["acme"])
	long := func(names int) tls.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "acme"},
			NotAfter: time.Now().Add(time.Hour)}
		for n := range names {
			template.DNSNames = append(template.DNSNames, fmt.Sprintf("%d.example", n))
		}
		key := h.signers["acme"].(ed25519.PrivateKey)
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	several := plain.Certificates[0]
	several.Certificate = append(several.Certificate[:1:1], several.Certificate[0])
	for name, c := range map[string]struct {
		change func(*tls.Config)
		good   bool
	}{
		"its own":              {func(*tls.Config) {}, true},
		"some names":           {func(c *tls.Config) { c.Certificates = []tls.Certificate{long(10)} }, true},
		"a thousand names":     {func(c *tls.Config) { c.Certificates = []tls.Certificate{long(1000)} }, false},
		"several certificates": {func(c *tls.Config) { c.Certificates = []tls.Certificate{several} }, false},
		"none":                 {func(c *tls.Config) { c.Certificates = nil }, false},
		"TLS 1.2": {func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		}, false},
		"a protocol of its own": {func(c *tls.Config) { c.NextProtos = []string{"h3"} }, false},
	} {
		config := plain.Clone()
		config.NextProtos = []string{"http/1.1"}
		c.change(config)
		if got := isAnswered(h.addresses["cells"], config); got != c.good {
			t.Errorf("%s: answered %v", name, got)
		}
	}
}

// isAnswered reports whether a request over such a connection has a response.
func isAnswered(at string, config *tls.Config) bool {
	c, err := tls.Dial("tcp", at, config)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, "GET /v1/desired HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	n, err := c.Read(make([]byte, 100))
	return n > 0 && err == nil
}

// A connection of an unidentified peer is closed after the response.
func TestUnidentifiedPeersAreDisconnected(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	for who, stays := range map[string]bool{"acme": true, "nobody": false, "revoked": false} {
		config := h.clientTLS(t, h.signers[who])
		config.NextProtos = []string{"http/1.1"}
		c, err := tls.Dial("tcp", h.addresses["cells"], config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c,
			"GET /v1/desired HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/desired HTTP/1.1\r\nHost: x\r\nConnection: "+
				"close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(c)
		if n := bytes.Count(said, []byte("HTTP/1.1 ")); (n == 2) != stays {
			t.Errorf("%s: %d answers (%v)", who, n, err)
		}
	}
}

// Names and paths that other servers parse differently do not bypass the table.
func TestPathsDoNotBypassTheTable(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	for _, listener := range []string{"people", "cells"} {
		key := h.signers["nobody"]
		config := h.clientTLS(t, key)
		if listener == "people" {
			config = &tls.Config{RootCAs: h.ca, ServerName: "sluice"}
		}
		for _, line := range []string{
			"GET //v1/status", "GET /v1//status", "GET /v1/./status", "GET /x/../v1/status", "GET /v1/%73tatus",
			"GET /%2e%2e/v1/status", "GET /v1/status/", "GET /v1/status;x",
			"GET http://127.0.0.1/v1/status", "HEAD /v1/status", "get /v1/status", "CONNECT /v1/status",
			"OPTIONS /v1/status", "POST /v1/status", "GET /livez/../v1/status", "TRACE /v1/status",
		} {
			c, err := tls.Dial("tcp", h.addresses[listener], config)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-HTTP-Method-Override: GET\r\nX-Original-URL: "+
				"/v1/status\r\nConnection: close\r\n\r\n", line)
			said, _ := io.ReadAll(c)
			c.Close()
			if !bytes.HasPrefix(said, []byte("HTTP/1.1 ")) || bytes.HasPrefix(said, []byte("HTTP/1.1 2")) ||
				bytes.Contains(said, []byte("staging")) {
				t.Errorf("%s at %s: %.200s", line, listener, said)
			}
		}
	}
}

// Only a bounded number of bodies whose signature may be wrong is read at once; further requests are told to retry.
func TestHooksAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	var all []net.Conn
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
	})
	for range 80 {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		fmt.Fprint(c, "POST /v1/hooks/push HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "+
			"1000000\r\nX-Hub-Signature-256: sha256="+signBody("", "guess")+"\r\n\r\n{")
	}
	busy, done := make(chan bool, len(all)), sync.WaitGroup{}
	for _, c := range all {
		done.Go(func() {
			answer := make([]byte, 12)
			_, err := io.ReadFull(c, answer)
			busy <- err == nil && string(answer) == "HTTP/1.1 503"
		})
	}
	for range 16 { // 64 bodies are read
		if !<-busy {
			t.Error("another answer than 503")
		}
	}
	for _, c := range all {
		c.Close()
	}
	done.Wait()
}

// Logged paths are short and can't control a terminal.
func TestPathsInTheLog(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		s.URL+"/%C2%9B2J%E2%80%AEx%1b/"+strings.Repeat("a", 5000), nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	w.Body.Close()
	s.Close() // the log line is written after the response
	if log := s.log.String(); strings.ContainsAny(log, "\u009b\u202e\x1b") || len(log) > 2000 ||
		!strings.Contains(log, "2J") {
		t.Errorf("%d bytes: %q", len(log), log)
	}
}
