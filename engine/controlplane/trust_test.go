package controlplane_test

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
)

// Cells ask for the signers' files apart: an hourly signature changes no answer's ETag (R31), and wakes nobody.
func TestTrustFiles(t *testing.T) {
	t.Parallel()
	var published atomic.Pointer[trust.Published]
	s := newSite(t, store.Options{}, func(o *controlplane.Options) { o.Trust = published.Load })
	w, body := s.request(t, "GET", "/v1/trust?cell=acme", "")
	wantProblem(t, w, body, 404, "unsigned")
	v, err := releases.ParseVersion("1.0.1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := trusttest.Ledger(noon, []string{"staging"}, trust.Release{Version: v, Digest: digestOf("1.0.1"), Length: 1,
		Channels: []string{"staging"}})
	if err != nil {
		t.Fatal(err)
	}
	heads, err := trusttest.SignedHeads(l, noon, v, "staging")
	if err != nil {
		t.Fatal(err)
	}
	signed := viewOf("1.0.1")
	signed.Desired.Trust, signed.Desired.SignedHeads = l, heads
	s.setView(signed)
	w, body = s.request(t, "GET", "/v1/trust?cell=acme", "")
	wantProblem(t, w, body, 503, "not signed yet")
	w, _ = s.request(t, "GET", "/v1/desired?cell=acme", "")
	etag := w.Header.Get("ETag")

	publish := func(now time.Time) {
		served, err := l.SignServed(heads, nil, now, trusttest.Signer("engine"))
		if err != nil {
			t.Fatal(err)
		}
		published.Store(&trust.Published{Ledger: l, Heads: heads, Served: served})
	}
	publish(noon)
	if w, _ := s.request(t, "GET", "/v1/desired?cell=acme", "", "If-None-Match", etag); w.StatusCode != 304 {
		t.Errorf("a signature changed the answer: %s", w.Status)
	}
	same := viewOf("1.0.1")
	same.Desired.Trust, same.Desired.SignedHeads = l, heads
	s.setView(same)
	w, body = s.request(t, "GET", "/v1/desired?cell=acme", "")
	var d cells.Desired
	if err := json.Unmarshal([]byte(body), &d); err != nil || w.Header.Get("ETag") != etag {
		t.Fatal(err, w.Header.Get("ETag"), etag)
	}
	note, _ := json.Marshal(d.Head.Metadata)
	if !strings.Contains(string(note), `"type":"tuf"`) ||
		!strings.Contains(string(note), string(releases.DigestBytes(published.Load().Served.Timestamp))) {
		t.Errorf("the head says of signatures: %s", note)
	}

	w, body = s.request(t, "GET", "/v1/trust?cell=acme", "")
	var b trust.Bundle
	if err := json.Unmarshal([]byte(body), &b); err != nil || w.StatusCode != 200 || len(b.Roots) != 1 {
		t.Fatal(w.Status, err, body)
	}
	trusted, _, err := trust.Verify(trust.State{Root: b.Roots[0]}, b, "staging", noon)
	if err != nil || trusted.Head != digestOf("1.0.1") {
		t.Fatal(trusted, err)
	}
	if _, body := s.request(t, "GET", "/v1/trust?cell=acme&have=1", ""); strings.Contains(body, "roots") {
		t.Error("the cell has the root, and got it again")
	}
	if _, body := s.request(t, "GET", "/v1/trust?cell=crow", ""); strings.Contains(body, "channel-staging") {
		t.Error("a cell got the head of another channel")
	}
	for _, wrong := range []string{"x", "-1", "1e9"} {
		w, body := s.request(t, "GET", "/v1/trust?cell=acme&have="+wrong, "")
		wantProblem(t, w, body, 400, "query.have")
	}
	w, body = s.request(t, "GET", "/v1/trust/timestamp.json?cell=acme", "")
	if w.StatusCode != 200 || body != string(published.Load().Served.Timestamp) {
		t.Errorf("timestamp.json: %s", w.Status)
	}
	const newest = "/v1/trust/timestamp.json?cell=acme"
	tag := w.Header.Get("ETag")
	if w, _ := s.request(t, "GET", newest, "", "If-None-Match", tag); w.StatusCode != 304 {
		t.Errorf("the same timestamp: %s", w.Status)
	}
	publish(noon.Add(time.Hour))
	if w, _ := s.request(t, "GET", newest, "", "If-None-Match", tag); w.StatusCode != 200 {
		t.Errorf("a newer timestamp: %s", w.Status)
	}
	w, body = s.request(t, "GET", "/v1/trust/7.root.json?cell=acme", "")
	wantProblem(t, w, body, 404, "no such file")
}
