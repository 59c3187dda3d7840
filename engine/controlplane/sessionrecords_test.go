package controlplane_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/engine/debugging"
)

// sealed is a record, packed, and its seal in a header.
type sealed struct{ packed, seal string }

// sealRecord seals a record of the site's request, as a cell.
func (s *sessionSite) sealRecord(t *testing.T, cell, text string, withheld bool) sealed {
	t.Helper()
	hash, length, err := debug.HashRecord(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := debug.NewSignedSeal(debug.Seal{Cell: cell, Request: s.id, Why: "the person left", Hash: hash,
		Length: length, Withheld: withheld}, s.signers[cell].(ed25519.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	header, err := upgrade.Encode(signed)
	if err != nil {
		t.Fatal(err)
	}
	return sealed{packRecord(t, text), header}
}

func packRecord(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	if err == nil {
		_, err = io.WriteString(z, text)
		err = errors.Join(err, z.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return packed.String()
}

// upload sends a record as the cell acme, and returns the answer's status.
func (s *sessionSite) upload(t *testing.T, seal string, body io.Reader) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://sluice"+debug.RecordPath(s.id), body)
	if err != nil {
		t.Error(err)
		return 0
	}
	r.Header.Set("Content-Encoding", "zstd")
	r.Header.Set(debug.SealHeader, seal)
	w, err := s.client(t, "cells", s.signers["acme"]).Do(r)
	if err != nil {
		t.Error(err)
		return 0
	}
	_ = w.Body.Close()
	return w.StatusCode
}

func (s *sessionSite) record(t *testing.T) (status int, text string) {
	t.Helper()
	w, said := s.request(t, s.client(t, "people", nil), "people", "GET", debug.PersonPath("acme", s.id)+"/record", "",
		"Authorization", "Bearer "+s.tokens["operator"])
	return w.StatusCode, said
}

// D6: a cell can't replace the seal or the record of a session by newer ones. A seal may come alone, with its record
// later, and a record that is kept is not read again.
func TestD6DebugRecordsAreNotReplaced(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	first, second := s.sealRecord(t, "acme", "what was shown", false), s.sealRecord(t, "acme", "nothing", false)
	withheld := s.sealRecord(t, "acme", "what was shown", true)
	for i, c := range []struct {
		seal, body string
		want       int
		kept       string
	}{
		{first.seal, "", http.StatusNoContent, ""},
		{second.seal, second.packed, http.StatusConflict, ""},
		{withheld.seal, "", http.StatusConflict, ""},
		{first.seal, second.packed, http.StatusBadRequest, ""},
		{first.seal, first.packed, http.StatusNoContent, "what was shown"},
		{second.seal, second.packed, http.StatusConflict, "what was shown"},
		{first.seal, second.packed, http.StatusNoContent, "what was shown"},
	} {
		if got := s.upload(t, c.seal, strings.NewReader(c.body)); got != c.want {
			t.Errorf("upload %d: %d, want %d", i, got, c.want)
		}
		status, text := s.record(t)
		if c.kept == "" && status != http.StatusNotFound || c.kept != "" && text != c.kept {
			t.Errorf("after upload %d: %d %q is kept", i, status, text)
		}
	}
}

// A cell sends one record at a time, so that a slow one keeps no other waiting.
func TestDebugRecordsOneAtATime(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	r := s.sealRecord(t, "acme", "what was shown", false)
	body, more := io.Pipe()
	slow := make(chan int, 1)
	go func() { slow <- s.upload(t, r.seal, body) }()
	if _, err := io.WriteString(more, r.packed[:8]); err != nil { // it is being read
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; { // the slot is taken once the server read the headers
		got := s.upload(t, r.seal, strings.NewReader(r.packed[:len(r.packed)-1]))
		if got == http.StatusServiceUnavailable {
			break
		}
		if got != http.StatusBadRequest || time.Now().After(deadline) {
			t.Fatalf("a second upload of the cell: %d", got)
		}
	}
	_, err := io.WriteString(more, r.packed[8:])
	if err = errors.Join(err, more.Close()); err != nil {
		t.Fatal(err)
	}
	if got := <-slow; got != http.StatusNoContent {
		t.Errorf("the first upload: %d", got)
	}
	if _, text := s.record(t); text != "what was shown" {
		t.Errorf("%q is kept", text)
	}
}

// Neither records that are refused nor connections that come to nothing can be repeated without end.
func TestDebugSessionsHaveARate(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	good, other := s.sealRecord(t, "acme", "what was shown", false), s.sealRecord(t, "acme", "nothing", false)
	status := http.StatusBadRequest
	for n := 0; status == http.StatusBadRequest && n < 50; n++ {
		status = s.upload(t, good.seal, strings.NewReader(other.packed))
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("after many wrong records: %d", status)
	}
	if got := s.upload(t, good.seal, http.NoBody); got != http.StatusNoContent {
		t.Errorf("the seal alone: %d", got)
	}
	client := s.client(t, "cells", s.signers["acme"])
	status = http.StatusUpgradeRequired
	for n := 0; status == http.StatusUpgradeRequired && n < 500; n++ {
		w, _ := s.request(t, client, "cells", "POST", debug.AgentPath(s.id), "", debug.HostKeyHeader, vouched)
		status = w.StatusCode
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("after many requests for a session: %d", status)
	}
}

// A request whose session is live is not withdrawn, also before the cell reports the session. One that another replica
// withdrew meanwhile ends with the session, and seal and record are kept all the same.
func TestWithdrawalsHideNothing(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	agent, person := s.meet(t)
	mustPass(t, agent, person)
	admin := s.client(t, "socket", nil)
	w, said := s.request(t, admin, "socket", "DELETE", debug.PersonPath("acme", s.id), "")
	if w.StatusCode != http.StatusConflict {
		t.Errorf("withdrawn in the session: %s %s", w.Status, said)
	}
	if err := s.options.Debug.Withdraw(t.Context(), "acme", s.id, time.Now()); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, agent)
	mustEnd(t, person)
	r := s.sealRecord(t, "acme", "what was shown", false)
	if got := s.upload(t, r.seal, strings.NewReader(r.packed)); got != http.StatusNoContent {
		t.Errorf("the record of a withdrawn request: %d", got)
	}
	if _, text := s.record(t); text != "what was shown" {
		t.Errorf("%q is kept", text)
	}
	_, said = s.request(t, admin, "socket", "GET", debug.PersonPath("acme", s.id), "")
	if got := parseJSON[debugging.RequestStatus](t, said); got.State != "ended" || !got.Stored {
		t.Errorf("%+v", got)
	}
}

// What an end says at first has a limit, and an upgrade of another kind is none.
func TestDebugSessionsHaveLimits(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"no host key":      {[]string{"Connection", "Upgrade", "Upgrade", debug.Protocol}, http.StatusBadRequest},
		"a long host key":  {[]string{debug.HostKeyHeader, strings.Repeat("A", 4<<10+1)}, http.StatusBadRequest},
		"no upgrade":       {[]string{debug.HostKeyHeader, vouched}, http.StatusUpgradeRequired},
		"another protocol": {[]string{debug.HostKeyHeader, vouched, "Upgrade", "websocket"}, http.StatusUpgradeRequired},
		"a very long header": {[]string{debug.HostKeyHeader, strings.Repeat("A", 2<<20)},
			http.StatusRequestHeaderFieldsTooLarge},
	} {
		client := s.client(t, "cells", s.signers["acme"])
		client.Transport = upgrades(client)
		w, said := s.request(t, client, "cells", "POST", debug.AgentPath(s.id), "", c.headers...)
		if w.StatusCode != c.want {
			t.Errorf("%s: %s %s", name, w.Status, said)
		}
	}
}
