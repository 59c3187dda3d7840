package debugging

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/debugrecords"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
)

func people(of ssh.Signer) map[string]*channels.Member {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(of.PublicKey()))) + " ada@example.com"
	return map[string]*channels.Member{"ada": {Keys: []string{line}}, "grace": {}, "nil": nil}
}

// D4: a request that is not of a person in people, by that person's key, for that cell and still valid, is refused.
func TestD4RequestsAreChecked(t *testing.T) {
	t.Parallel()
	ada, stranger, now := debugtest.NewSigner(t), debugtest.NewSigner(t), time.Now()
	good := debugtest.NewRequest(t, ada, nil)
	if r, err := Check(good, "acme", people(ada), now); err != nil || r.Person != "ada" {
		t.Fatal(err)
	}
	forged := debugtest.NewRequest(t, ada, nil)
	forged.Signature = good.Signature
	for name, c := range map[string]struct {
		s    debug.SignedRequest
		cell string
		at   time.Time
		want string
	}{
		"forged":           {forged, "acme", now, "not by the key"},
		"a stranger's key": {debugtest.NewRequest(t, stranger, nil), "acme", now, "not among the keys of ada"},
		"another's name": {debugtest.NewRequest(t, ada, func(r *debug.Request) { r.Person = "grace" }), "acme", now,
			"not among the keys of grace"},
		"not in people": {debugtest.NewRequest(t, ada, func(r *debug.Request) { r.Person = "bob" }), "acme", now,
			"has no bob"},
		"empty in people": {debugtest.NewRequest(t, ada, func(r *debug.Request) { r.Person = "nil" }), "acme", now,
			"has no nil"},
		"another cell's":    {good, "initech", now, "for the cell acme"},
		"expired":           {good, "acme", now.Add(time.Hour), "expired"},
		"clock a day ahead": {good, "acme", now.Add(24 * time.Hour), "expired"},
		"clock a day back":  {good, "acme", now.Add(-24 * time.Hour), "in the future"},
	} {
		_, err := Check(c.s, c.cell, people(ada), c.at)
		refused := new(RefusedError)
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func openStore(t *testing.T) records.Store {
	t.Helper()
	s, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "s.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Records()
}

func add(t *testing.T, k *Keeper, s debug.SignedRequest) error {
	t.Helper()
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	return k.Add(t.Context(), s, r, "ada@example.com", time.Now())
}

// Cells hear of open requests only, at most 8 of a cell; a replay adds nothing.
func TestKeeper(t *testing.T) {
	t.Parallel()
	ada, told := debugtest.NewSigner(t), map[string]string{}
	k := New(openStore(t), func(m map[string]string) { told = maps.Clone(m) }, nil, zerolog.Nop())
	look := func(now time.Time) string {
		t.Helper()
		if err := k.look(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		return told["acme"]
	}
	first := debugtest.NewRequest(t, ada, nil)
	for range 3 {
		if err := add(t, k, first); err != nil {
			t.Fatal(err)
		}
	}
	before := look(time.Now())
	if all, err := k.List(t.Context(), ""); err != nil || len(all) != 1 || before == "" {
		t.Fatal(len(all), err)
	}
	for range MaxOpen - 1 {
		if err := add(t, k, debugtest.NewRequest(t, ada, nil)); err != nil {
			t.Fatal(err)
		}
	}
	refused := new(RefusedError)
	if err := add(t, k, debugtest.NewRequest(t, ada, nil)); !errors.As(err, &refused) {
		t.Error(err)
	}
	if err := add(t, k, debugtest.NewRequest(t, ada, func(r *debug.Request) { r.Cell = "acme2" })); err != nil {
		t.Error("another cell's requests count", err)
	}
	if look(time.Now()) == before {
		t.Error("the hash is the same with more requests")
	}
	if err := k.Withdraw(t.Context(), "acme", first.ID(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Find(t.Context(), "acme", first.ID()); !errors.Is(err, records.ErrNotFound) {
		t.Error(err)
	}
	if err := add(t, k, first); err != nil { // a replay
		t.Fatal(err)
	}
	open, err := k.Open(t.Context(), "acme", time.Now())
	if err != nil || len(open) != MaxOpen-1 {
		t.Error(len(open), err)
	}
	if at := time.Now().Add(3 * time.Hour); look(at) != "" || told["acme2"] != "" {
		t.Error("cells hear of requests that have expired")
	}
	err = debugrecords.New(k.records).Put(t.Context(), "acme", first.ID(), "a", strings.NewReader("a"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	look(time.Now().Add(Retention + time.Hour))
	if _, err := k.sessions.Open(t.Context(), "acme", first.ID()); !errors.Is(err, records.ErrNotFound) {
		t.Error("a record outlasts its request: ", err)
	}
	if all, err := k.List(t.Context(), ""); err != nil || len(all) != 0 {
		t.Error(len(all), err)
	}
}

// A person who asks and withdraws without end is stopped, what is kept is listed in pages, and no signature is verified
// twice.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	ada := debugtest.NewSigner(t)
	k := New(openStore(t), func(map[string]string) {}, nil, zerolog.Nop())
	ask := func(cell string) error {
		s := debugtest.NewRequest(t, ada, func(r *debug.Request) { r.Cell = cell })
		if err := add(t, k, s); err != nil {
			return err
		}
		return k.Withdraw(t.Context(), cell, s.ID(), time.Now())
	}
	for i := range 5 * MaxDaily {
		if err := ask([]string{"a", "b", "c", "d", "e"}[i%5]); err != nil {
			t.Fatal(i, err)
		}
	}
	refused := new(RefusedError)
	if err := ask("a"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "64 times in 24 hours") {
		t.Error(err)
	}
	for cell, want := range map[string][]int{"": {records.MaxPage, 5*MaxDaily - records.MaxPage}, "b": {MaxDaily}} {
		var sizes []int
		seen := map[string]bool{}
		for after, last := "", false; !last; last = after == "" {
			page, next, err := k.ListPage(t.Context(), cell, after)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				seen[e.ID] = true
			}
			sizes, after = append(sizes, len(page)), next
		}
		if total := len(seen); !slices.Equal(sizes, want) || cell == "" && total != 5*MaxDaily {
			t.Errorf("pages of %q: %v, want %v, with %d requests", cell, sizes, want, total)
		}
	}
	if n := len(k.opened); n != 5*MaxDaily {
		t.Errorf("%d requests are known to be signed", n)
	}
	for sum, r := range k.opened { // no other verification would find this
		r.Reason = "known"
		k.opened[sum] = r
	}
	all, err := k.List(t.Context(), "a")
	if err != nil || len(all) != MaxDaily || all[0].Request.Reason != "known" {
		t.Errorf("%d, %+v (%v)", len(all), all, err)
	}
	if err := k.look(t.Context(), time.Now().Add(Retention+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := k.look(t.Context(), time.Now()); err != nil || len(k.opened) > 0 {
		t.Errorf("%d requests are remembered that are gone (%v)", len(k.opened), err)
	}
}

// Two replicas that change a request at once lose nothing, and the seal that came first stays.
func TestSealsAndWithdrawals(t *testing.T) {
	t.Parallel()
	ada, kept := debugtest.NewSigner(t), openStore(t)
	one := New(kept, func(map[string]string) {}, nil, zerolog.Nop())
	two := New(kept, func(map[string]string) {}, nil, zerolog.Nop())
	s := debugtest.NewRequest(t, ada, nil)
	if err := add(t, one, s); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	first := debug.SignedSeal{Document: []byte("{}"), Signature: []byte("1")}
	go func() { done <- one.Sealed(context.Background(), "acme", s.ID(), first, true) }()
	go func() { done <- two.Withdraw(context.Background(), "acme", s.ID(), time.Now()) }()
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	other := debug.SignedSeal{Document: []byte("{}"), Signature: []byte("2")}
	if err := two.Sealed(t.Context(), "acme", s.ID(), other, true); !errors.Is(err, ErrOtherSeal) {
		t.Errorf("another seal: %v", err)
	}
	if err := two.Sealed(t.Context(), "acme", s.ID(), first, false); err != nil {
		t.Errorf("the same seal: %v", err)
	}
	e, err := one.Load(t.Context(), "acme", s.ID())
	if err != nil || e.Withdrawn.IsZero() || e.Seal == nil || string(e.Seal.Signature) != "1" || !e.Stored {
		t.Errorf("%+v %v", e.Kept, err)
	}
	if _, err := one.Load(t.Context(), "acme", "../x"); err == nil {
		t.Error("an ID of somebody else's making was found")
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := debugtest.NewRequest(t, debugtest.NewSigner(t), nil)
	r, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	same := func(t time.Time) time.Time { return t }
	for _, c := range []struct {
		kept     Kept
		reported string
		at       time.Time
		want     string
	}{
		{Kept{}, "", now, Sent},
		{Kept{}, cells.DebugOpen, now, cells.DebugOpen},
		{Kept{}, cells.DebugLive, now.Add(9 * time.Hour), cells.DebugLive},
		{Kept{}, "", now.Add(9 * time.Hour), cells.DebugExpired},
		{Kept{Withdrawn: now}, cells.DebugOpen, now, Withdrawn},
		{Kept{Withdrawn: now}, cells.DebugLive, now, cells.DebugLive},
		{Kept{Seal: &debug.SignedSeal{}}, cells.DebugLive, now, cells.DebugEnded},
	} {
		c.kept.Signed = s
		e := Entry{Kept: c.kept, ID: s.ID(), Request: r}
		var reported []cells.DebugState
		if c.reported != "" {
			reported = []cells.DebugState{{ID: "other", State: cells.DebugDenied}, {ID: s.ID(), State: c.reported}}
		}
		if got := NewStatus(&e, reported, same, c.at); got.State != c.want {
			t.Errorf("reported %q: %s, want %s", c.reported, got.State, c.want)
		}
	}
}
