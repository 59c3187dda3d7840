package controlplane_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// engineSite is a control plane with a real engine, on a real repository and a real store.
type engineSite struct {
	securedSite // only with the cells' listener
	store       *store.Store
}

func newEngineSite(t *testing.T) *engineSite {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"sluice.yaml":                   "apiVersion: sluice/v1\nkind: Pipeline\n",
		"channels/staging/channel.yaml": "apiVersion: sluice/v1\nkind: Channel\n",
		"cells/acme/cell.yaml":          "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n",
		"cells/bolt/cell.yaml":          "apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n",
	} {
		file := filepath.Join(dir, "work", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git",
			append([]string{"-C", filepath.Join(dir, "work"), "-c", "user.name=Kim", "-c",
				"user.email=kim@example.com", "-c", "init.defaultBranch=main"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
	git("init", "-q")
	git("add", "-A")
	git("commit", "-qm", "two cells")
	git("clone", "-q", "--bare", ".", filepath.Join(dir, "releases.git"))

	p := &engineSite{securedSite: securedSite{addresses: map[string]string{}, dir: dir}}
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel)
	repo, err := gitrepo.Open(t.Context(), filepath.Join(dir, "releases.git"),
		gitrepo.Options{Mirror: filepath.Join(dir, "mirror"),
			Author: releases.Person{Name: "Sluice", Email: "sluice@localhost"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repo.Close() })
	if p.store, err = store.Open(t.Context(), filepath.Join(dir, "sluice.db"), log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.store.Close() })
	e, err := engine.New(t.Context(), repo, p.store, engine.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if p.keys, err = transport.OpenKeys(filepath.Join(dir, "tls")); err != nil {
		t.Fatal(err)
	}
	server, err := controlplane.New(controlplane.Options{
		Views: e, Inbox: e, Repository: repo, Journal: p.store, Log: log, Members: e, Tokens: p.store, Keys: p.keys,
		Address: "sluice.example:7601",
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := transport.ListenCells("127.0.0.1:0", p.keys)
	if err != nil {
		t.Fatal(err)
	}
	p.addresses["cells"] = l.Addr().String()
	p.runUntilEnd(t, func(ctx context.Context) error { return e.Run(ctx, nil) },
		func(ctx context.Context) error { return server.Serve(ctx, l) })
	for e.View() == nil {
		changed := e.Changed()
		if e.View() == nil {
			<-changed
		}
	}
	return p
}

// runUntilEnd runs functions that return when their context ends, until the test ends.
func (p *engineSite) runUntilEnd(t *testing.T, all ...func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, one := range all {
		running.Go(func() {
			if err := one(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
}

// addJoinToken stores a token for a cell.
func (p *engineSite) addJoinToken(t *testing.T, cell string, change func(*access.Join)) identity.Token {
	t.Helper()
	token, join, err := peopleapi.NewJoinToken(cell, 0, "ada", "sluice.example:7601", p.keys.Pins, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&join)
	}
	if err := p.store.AddJoin(t.Context(), join); err != nil {
		t.Fatal(err)
	}
	return token
}

func (p *engineSite) register(t *testing.T, key ed25519.PrivateKey, cell, secret string) (*http.Response, string) {
	t.Helper()
	return p.request(t, p.client(t, "cells", key), "cells", "POST", "/v1/register",
		mustJSON(t, identity.Join{Cell: cell, Secret: secret}))
}

// Of 50 keys with one token, exactly one is registered, and may repeat its request. All others have the same response,
// as has every invalid token (fault 39, R28).
func TestRegister(t *testing.T) {
	t.Parallel()
	p := newEngineSite(t)
	good := p.addJoinToken(t, "acme", nil)
	type outcome struct {
		key    ed25519.PrivateKey
		status int
		said   string
	}
	outcomes := make(chan outcome)
	const racers = 50
	for range racers {
		_, key := newKey(t)
		go func() {
			w, said := p.register(t, key, "acme", good.Secret)
			outcomes <- outcome{key, w.StatusCode, said}
		}()
	}
	var winner, loser outcome
	won, denied := 0, map[string]int{}
	for range racers {
		switch o := <-outcomes; o.status {
		case http.StatusOK:
			winner = o
			won++
		default:
			loser = o
			denied[fmt.Sprint(o.status, o.said)]++
		}
	}
	if won != 1 || len(denied) != 1 || loser.status != http.StatusUnauthorized {
		t.Fatalf("%d were registered; denied: %v", won, denied)
	}
	joined := parseJSON[identity.Joined](t, winner.said)
	if joined.Cell != "acme" || joined.Epoch != 1 || strings.Join(joined.Pins, " ") != strings.Join(p.keys.Pins, " ") {
		t.Errorf("%+v", joined)
	}
	for range 2 { // the response may have been lost
		if w, said := p.register(t, winner.key, "acme", good.Secret); w.StatusCode != 200 || said != winner.said {
			t.Errorf("again: %s %s", w.Status, said)
		}
	}
	if w, said := p.request(t, p.client(t, "cells", winner.key), "cells", "GET", "/v1/desired",
		""); w.StatusCode != 200 || !strings.Contains(said, `"acme"`) {
		t.Errorf("as the cell: %s %s", w.Status, said)
	}

	bolt := p.addJoinToken(t, "bolt", nil)
	expired := p.addJoinToken(t, "bolt", func(j *access.Join) { j.Expires = time.Now().Add(-time.Second) })
	older := p.addJoinToken(t, "bolt", func(j *access.Join) { j.Serial = 7 })
	var asking sync.WaitGroup
	for name, c := range map[string]struct {
		key          ed25519.PrivateKey
		cell, secret string
	}{
		"replayed":                {loser.key, "acme", good.Secret},
		"expired":                 {loser.key, "bolt", expired.Secret},
		"of another serial":       {loser.key, "bolt", older.Secret},
		"another cell's":          {loser.key, "acme", bolt.Secret},
		"of a cell that is not":   {loser.key, "nobody", bolt.Secret},
		"no name of a cell":       {loser.key, "../x", bolt.Secret},
		"never made":              {loser.key, "bolt", "x"},
		"none":                    {loser.key, "", ""},
		"with another cell's key": {winner.key, "bolt", bolt.Secret},
	} {
		asking.Go(func() {
			w, said := p.register(t, c.key, c.cell, c.secret)
			if denied[fmt.Sprint(w.StatusCode, said)] == 0 ||
				w.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %s %s", name, w.Status, said)
			}
		})
	}
	asking.Wait()
	if w, said := p.register(t, loser.key, "bolt", bolt.Secret); w.StatusCode != 200 && w.StatusCode != 429 {
		t.Errorf("a token that was good all the time: %s %s", w.Status, said)
	}
}

// Registrations are limited by key, and their bodies by size. Responses do not quote the body.
func TestRegisterBounds(t *testing.T) {
	t.Parallel()
	h := newSecuredSite(t, true)
	client := h.client(t, "cells", h.signers["nobody"])
	post := func(body string) (*http.Response, string) {
		return h.request(t, client, "cells", "POST", "/v1/register", body)
	}
	w, said := post(`{"cell":"acme","secret":"hush","more":1}`)
	wantProblem(t, w, said, 400, "openapi.json")
	if strings.Contains(said, "hush") {
		t.Error(said)
	}
	w, said = post(`{"cell":"` + strings.Repeat("x", 5000) + `"}`)
	wantProblem(t, w, said, 413, "4096 bytes")
	for range 20 {
		w, said = post(`[]`)
	}
	wantProblem(t, w, said, 429, "Retry-After")
	if w.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if w, _ := h.request(t, h.client(t, "cells", h.signers["revoked"]), "cells", "POST", "/v1/register",
		"[]"); w.StatusCode != 400 {
		t.Errorf("another key: %s", w.Status)
	}
}
