package controlplane_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/upgrade"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/debugging"
)

// vouched is what a cell says of its host key: the relay passes it on as it is.
const vouched = "eyJrZXkiOiIifQ=="

// sessionSite is a control plane with a request of ada's for acme.
type sessionSite struct {
	*securedSite
	id string
}

func newSessionSite(t *testing.T) *sessionSite {
	t.Helper()
	h := newSecuredSite(t, true)
	signed, people := askedBy(t)
	v := viewOf("1.0.1")
	v.Desired.Pipeline.People = people
	h.setView(v)
	w, said := h.request(t, h.client(t, "socket", nil), "socket", "POST", "/v1/cells/acme/debug", mustJSON(t, signed))
	if w.StatusCode != http.StatusOK {
		t.Fatal(w.Status, said)
	}
	return &sessionSite{h, signed.ID()}
}

// upgrades returns the transport of a client that was not used yet, over HTTP/1.1.
func upgrades(c *http.Client) *http.Transport {
	t := c.Transport.(*http.Transport)
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	return t
}

// come comes for a session as a cell, or as a person if cell is nil.
func (s *sessionSite) come(
	t *testing.T, cell crypto.Signer, role access.Role, cellName string,
) (net.Conn, http.Header, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if cell != nil {
		return upgrade.Dial(ctx, upgrades(s.client(t, "cells", cell)), "https://sluice"+debug.AgentPath(s.id),
			http.Header{debug.HostKeyHeader: {vouched}})
	}
	return upgrade.Dial(ctx, upgrades(s.client(t, "people", nil)), "https://sluice"+debug.PersonPath(cellName, s.id),
		http.Header{"Authorization": {"Bearer " + s.tokens[string(role)]}})
}

type end struct {
	conn   net.Conn
	header http.Header
	err    error
}

// meet has both ends of a session meet.
func (s *sessionSite) meet(t *testing.T) (agent, person net.Conn) {
	t.Helper()
	came := make(chan end, 1)
	go func() {
		for { // as an agent does
			conn, header, err := s.come(t, s.signers["acme"], "", "")
			if !upgrade.IsAlone(err) {
				came <- end{conn, header, err}
				return
			}
		}
	}()
	person, header, err := s.come(t, nil, access.Operator, "acme")
	other := <-came
	if err != nil || other.err != nil {
		t.Fatal(err, other.err)
	}
	t.Cleanup(func() { _ = errors.Join(person.Close(), other.conn.Close()) })
	if header.Get(debug.HostKeyHeader) != vouched {
		t.Errorf("the person hears of the host key %q", header.Get(debug.HostKeyHeader))
	}
	return other.conn, person
}

// status returns the HTTP status of a refusal.
func status(t *testing.T, conn net.Conn, err error) int {
	t.Helper()
	if err == nil {
		_ = conn.Close()
		return http.StatusSwitchingProtocols
	}
	var refused *upgrade.Refusal
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return refused.Status
}

func mustPass(t *testing.T, from io.Writer, to io.Reader) {
	t.Helper()
	got := make([]byte, 5)
	if _, err := io.WriteString(from, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q (%v)", got, err)
	}
}

// D1, D3, D4: the ends of a session are the request's own cell, and a person who may operate it. One session is live
// at a time.
func TestD1DebugSessionsWhoMay(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	as := func(cell, role, name string) int {
		conn, _, err := s.come(t, s.signers[cell], access.Role(role), name)
		return status(t, conn, err)
	}
	for _, c := range []struct {
		cell, role, name string
		want             int
	}{
		{"bolt", "", "", 404}, // another cell's request
		{"", "operator", "bolt", 404},
		{"", "operator", "none", 404},
		{"", "viewer", "acme", 403},
		{"", "expired", "acme", 401},
		{"acme", "", "", 503}, // the person is not here
	} {
		if got := as(c.cell, c.role, c.name); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if _, _, err := s.come(t, s.signers["revoked"], "", ""); err == nil {
		t.Error("a revoked cell came")
	}
	operator := []string{"Authorization", "Bearer " + s.tokens["operator"]}
	people := s.client(t, "people", nil)
	plain, _ := s.request(t, people, "people", "POST", debug.PersonPath("acme", s.id), "", operator...)
	if plain.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade: %s", plain.Status)
	}
	agent, person := s.meet(t)
	mustPass(t, agent, person)
	mustPass(t, person, agent)
	if got := as("", "operator", "acme"); got != http.StatusConflict {
		t.Errorf("a second person: %d", got)
	}
	if got := as("acme", "", ""); got != http.StatusConflict {
		t.Errorf("a second agent: %d", got)
	}
	_ = person.Close()
	mustEnd(t, agent)
}

// mustEnd waits until an end is cut.
func mustEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	began, cut := time.Now(), make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		cut <- err
	}()
	select {
	case <-cut:
		if took := time.Since(began); took > 2*time.Second { // a second, and as much for a busy machine
			t.Errorf("the end was cut after %s", took)
		}
	case <-time.After(time.Minute):
		t.Fatal("the end is served still")
	}
}

// D2: revoking the cell, or removing the person's token, cuts both ends.
func TestD2RevokeCutsDebugSessions(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]func(*sessionSite) error{
		"cell": func(s *sessionSite) error {
			return s.members.ChangeIdentity(t.Context(), "acme", "", func(i *cells.Identity) { i.Revoked = true })
		},
		"token": func(s *sessionSite) error {
			w, said := s.request(t, s.client(t, "socket", nil), "socket", "DELETE", "/v1/tokens/operator", "")
			if w.StatusCode/100 != 2 {
				return errors.New(w.Status + " " + said)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSessionSite(t)
			agent, person := s.meet(t)
			mustPass(t, agent, person)
			if err := revoke(s); err != nil {
				t.Fatal(err)
			}
			mustEnd(t, agent)
			mustEnd(t, person)
		})
	}
}

// Two replicas on one store: the person waits at one, and the agent, whose connections a balancer spreads, finds it.
func TestDebugSessionsAcrossReplicas(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	o := s.options
	o.Debug = debugging.New(o.Records, func(map[string]string) {}, nil, zerolog.Nop())
	server, err := controlplane.New(o)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	other := &sessionSite{&securedSite{site: &site{server: server}, members: s.members, keys: s.keys,
		signers: s.signers, tokens: s.tokens, addresses: map[string]string{}, ca: s.ca, dir: dir}, s.id}
	other.serveListeners(t, true)

	came := make(chan end, 1)
	go func() {
		for replica := 0; ; replica++ {
			conn, header, err := []*sessionSite{s, other}[replica%2].come(t, s.signers["acme"], "", "")
			if !upgrade.IsAlone(err) {
				came <- end{conn, header, err}
				return
			}
		}
	}()
	person, _, err := other.come(t, nil, access.Operator, "acme")
	agent := <-came
	if err != nil || agent.err != nil {
		t.Fatal(err, agent.err)
	}
	t.Cleanup(func() { _ = errors.Join(person.Close(), agent.conn.Close()) })
	mustPass(t, agent.conn, person)
	mustPass(t, person, agent.conn)
}

// Seal and record are kept if the cell's key signed the seal and the record is the one that was sealed, also when the
// request was withdrawn meanwhile: no one loses a record that way. No session begins then.
func TestDebugRecords(t *testing.T) {
	t.Parallel()
	s := newSessionSite(t)
	admin := s.client(t, "socket", nil)
	w, said := s.request(t, admin, "socket", "DELETE", debug.PersonPath("acme", s.id), "")
	if w.StatusCode != http.StatusOK {
		t.Fatal(w.Status, said)
	}
	conn, _, err := s.come(t, s.signers["acme"], "", "")
	if got := status(t, conn, err); got != http.StatusNotFound {
		t.Errorf("a withdrawn request: %d", got)
	}
	record := "{\"version\": 2}\n" + strings.Repeat("[0.1, \"o\", \"hello\"]\n", 10_000)
	hash, length, err := debug.HashRecord(strings.NewReader(record))
	if err != nil {
		t.Fatal(err)
	}
	seal := debug.Seal{Cell: "acme", Request: s.id, Began: noon, Ended: noon, Why: "the person left", Hash: hash,
		Length: length}
	send := func(change func(*debug.Seal), by, body string) int {
		sealed := seal
		if change != nil {
			change(&sealed)
		}
		signed, err := debug.NewSignedSeal(sealed, s.signers[by].(ed25519.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		header, err := upgrade.Encode(signed)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := s.request(t, s.client(t, "cells", s.signers["acme"]), "cells", "POST", debug.RecordPath(s.id), body,
			"Content-Type", debug.RecordType, "Content-Encoding", "zstd", debug.SealHeader, header)
		return w.StatusCode
	}
	packed, bomb := packRecord(t, record), packRecord(t, strings.Repeat("\x00", 1<<20))
	for name, got := range map[string]int{
		"another cell's key": send(nil, "bolt", packed),
		"another cell":       send(func(x *debug.Seal) { x.Cell = "bolt" }, "acme", packed),
		"another request":    send(func(x *debug.Seal) { x.Request = "0011223344556677" }, "acme", packed),
		"a changed record":   send(nil, "acme", packRecord(t, strings.Replace(record, "hello", "hallo", 1))),
		"a part of it":       send(nil, "acme", packRecord(t, record[:len(record)-1])),
		"more than it":       send(nil, "acme", packed+bomb),
		"no zstd":            send(nil, "acme", record),
		"too long":           send(func(x *debug.Seal) { x.Length = debug.MaxRecord + 1 }, "acme", packed),
	} {
		if got != http.StatusBadRequest {
			t.Errorf("%s: %d", name, got)
		}
	}
	operator := []string{"Authorization", "Bearer " + s.tokens["operator"]}
	path := debug.PersonPath("acme", s.id)
	people := s.client(t, "people", nil)
	w, _ = s.request(t, people, "people", "GET", path+"/record", "", operator...)
	if w.StatusCode != http.StatusNotFound {
		t.Errorf("a record is there: %s", w.Status)
	}
	for range 2 { // an agent that did not hear of the first
		if got := send(nil, "acme", packed); got != http.StatusNoContent {
			t.Fatalf("the record was refused: %d", got)
		}
	}
	if w, said := s.request(t, people, "people", "GET", path+"/record", "", operator...); said != record {
		t.Errorf("%s: %d bytes, want %d", w.Status, len(said), len(record))
	}
	viewer := []string{"Authorization", "Bearer " + s.tokens["viewer"]}
	w, _ = s.request(t, people, "people", "GET", path+"/record", "", viewer...)
	if w.StatusCode != http.StatusForbidden {
		t.Errorf("a viewer reads the record: %s", w.Status)
	}
	_, said = s.request(t, people, "people", "GET", path, "", viewer...)
	if got := parseJSON[debugging.RequestStatus](t, said); !got.Stored || got.Hash != hash || got.Length != length {
		t.Errorf("%+v", got)
	}
}
