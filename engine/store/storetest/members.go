package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/plan"
)

func registration(cell string, serial int64, key string) plan.Registration {
	return plan.Registration{
		Cell: cell, By: "token of ada", At: noon,
		Identity: cells.Identity{APIVersion: "sluice/v1", Kind: "Identity", Epoch: 2, Serial: serial, PublicKey: key},
	}
}

func join(cell, hash string, serial int64) access.Join {
	return access.Join{Cell: cell, Hash: hash, Serial: serial, By: "ada", Created: noon,
		Expires: noon.Add(access.JoinLifetime)}
}

// registered returns the newest registrations.
func registered(t *testing.T, s Store) map[string]plan.Registration {
	t.Helper()
	o, err := s.Known(t.Context())
	must(t, err)
	return o.Registered
}

func claimRace(t *testing.T, open Open) {
	h := newManualClock()
	ctx, two := t.Context(), []Store{openedAt(t, open, h.timeNow), openedAt(t, open, h.timeNow)}
	must(t, two[0].AddJoin(ctx, join("acme", "h1", 4)))
	var wg sync.WaitGroup
	var mu sync.Mutex
	winners := map[string]bool{}
	for n := range 50 {
		wg.Go(func() {
			key := fmt.Sprintf("ed25519:%02d", n)
			err := two[n%2].ClaimToken(ctx, "h1", registration("acme", 5, key))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners[key] = true
			case !errors.Is(err, plan.ErrDenied):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	won := registered(t, two[0])["acme"].Identity.PublicKey
	if len(winners) != 1 || !winners[won] {
		t.Fatalf("%v won, and %s is registered", winners, won)
	}
	// The answer was lost, and the cell's next registration would have a later serial by now.
	h.advance(2 * access.JoinLifetime)
	for serial := int64(5); serial <= 6; serial++ {
		must(t, two[1].ClaimToken(ctx, "h1", registration("acme", serial, won)))
	}
	if err := two[0].ClaimToken(ctx, "h1", registration("acme", 6, "ed25519:thief")); !errors.Is(err, plan.ErrDenied) {
		t.Errorf("a used token: %v, not ErrDenied", err)
	}
	wantSame(t, "who is registered", map[string]plan.Registration{"acme": registration("acme", 5, won)},
		registered(t, two[1]))
}

func denied(t *testing.T, open Open) {
	h := newManualClock()
	s, ctx := openedAt(t, open, h.timeNow), t.Context()
	must(t, s.AddJoin(ctx, join("acme", "h1", 0)))
	has := func(cell, hash string, want bool) {
		t.Helper()
		if got, err := s.HasToken(ctx, cell, hash); err != nil || got != want {
			t.Errorf("%s has the token %q: %t (%v)", cell, hash, got, err)
		}
	}
	has("acme", "h1", true)
	has("acme", "h2", false)
	has("bolt", "h1", false)
	has("acme", "", false)
	var texts []string
	try := func(what, hash string, r plan.Registration) {
		t.Helper()
		err := s.ClaimToken(ctx, hash, r)
		if !errors.Is(err, plan.ErrDenied) {
			t.Errorf("%s: %v, not ErrDenied", what, err)
			return
		}
		texts = append(texts, err.Error())
	}
	try("an unknown token", "h2", registration("acme", 1, "key"))
	try("no token", "", registration("acme", 1, "key"))
	try("no key", "h1", registration("acme", 1, ""))
	try("a later serial", "h1", registration("acme", 2, "key"))
	try("an earlier serial", "h1", registration("acme", 0, "key"))
	if err := s.ClaimToken(ctx, "h1", registration("bolt", 1, "key")); !errors.Is(err, plan.ErrDenied) {
		t.Errorf("another cell's token: %v, not ErrDenied", err)
	}
	h.advance(access.JoinLifetime)
	try("a token that ran out", "h1", registration("acme", 1, "key"))
	has("acme", "h1", false)
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("%q tells more than %q", text, texts[0])
		}
	}
	if err := s.Ready(ctx); err != nil {
		t.Errorf("not ready because of a bad token: %v", err)
	}
	if all := registered(t, s); len(all) != 0 {
		t.Errorf("registered: %v", all)
	}
	h.advance(-time.Second)
	must(t, s.ClaimToken(ctx, "h1", registration("acme", 1, "key"))) // no claim used it up
}

func voidToken(t *testing.T, open Open) {
	h := newManualClock()
	s, ctx := openedAt(t, open, h.timeNow), t.Context()
	must(t, s.AddJoin(ctx, join("acme", "h1", 4)))
	must(t, s.Register(ctx, registration("acme", 5, "key"))) // revoked, rotated, or anything else in between
	for serial := int64(4); serial <= 6; serial++ {
		if err := s.ClaimToken(ctx, "h1", registration("acme", serial, "other")); !errors.Is(err, plan.ErrDenied) {
			t.Errorf("serial %d: %v, not ErrDenied", serial, err)
		}
	}
	must(t, s.AddJoin(ctx, join("acme", "h2", 5)))
	must(t, s.ClaimToken(ctx, "h2", registration("acme", 6, "other")))
	wantSame(t, "who is registered", registration("acme", 6, "other"), registered(t, s)["acme"])
}

func repeatedTooLate(t *testing.T, open Open) {
	revoked, quarantined := registration("acme", 2, "key"), registration("acme", 2, "key")
	revoked.Identity.Revoked, quarantined.Identity.Quarantined = true, "two boots alternate"
	h := newManualClock()
	s, ctx := openedAt(t, open, h.timeNow), t.Context()
	for n, since := range []plan.Registration{registration("acme", 2, "next key"), revoked, quarantined} {
		cell, hash := fmt.Sprint("cell-", n), fmt.Sprint("h", n)
		since.Cell = cell
		must(t, s.AddJoin(ctx, join(cell, hash, 0)))
		must(t, s.ClaimToken(ctx, hash, registration(cell, 1, "key")))
		must(t, s.ClaimToken(ctx, hash, registration(cell, 1, "key")))
		must(t, s.Register(ctx, since))
		if err := s.ClaimToken(ctx, hash, registration(cell, 3, "key")); !errors.Is(err, plan.ErrDenied) {
			t.Errorf("after %+v: %v, not ErrDenied", since.Identity, err)
		}
		wantSame(t, "who is registered", since, registered(t, s)[cell])
	}
}

func joins(t *testing.T, open Open) {
	h := newManualClock()
	s, ctx := openedAt(t, open, h.timeNow), t.Context()
	first, second := join("acme", "h1", 0), join("acme", "h2", 0)
	second.Created, second.Expires = noon.Add(time.Minute), noon.Add(2*access.JoinLifetime)
	must(t, s.AddJoin(ctx, second))
	must(t, s.AddJoin(ctx, first))
	must(t, s.AddJoin(ctx, join("bolt", "h3", 7)))
	if err := s.AddJoin(ctx, join("bolt", "h1", 7)); !errors.Is(err, access.ErrTaken) {
		t.Errorf("one secret twice: %v, not ErrTaken", err)
	}
	want := func(cell string, want ...access.Join) {
		t.Helper()
		got, err := s.Joins(ctx, cell)
		must(t, err)
		wantSame(t, "the tokens of "+cell, want, got)
	}
	want("acme", first, second)
	want("bolt", join("bolt", "h3", 7))
	want("nobody")
	must(t, s.ClaimToken(ctx, "h3", registration("bolt", 8, "key")))
	want("bolt")
	h.advance(access.JoinLifetime)
	want("acme", second)
	s = reopenAt(t, s, open, h.timeNow)
	want("acme", second)
	// Much later they are deleted, and the secrets' hashes may be used again.
	h.advance(1000 * time.Hour)
	must(t, s.AddJoin(ctx, join("acme", "h4", 0)))
	must(t, s.AddJoin(ctx, join("acme", "h1", 0)))
	if err := s.ClaimToken(ctx, "h3", registration("bolt", 8, "key")); !errors.Is(err, plan.ErrDenied) {
		t.Errorf("long afterwards: %v, not ErrDenied", err)
	}
}

func registrations(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	for _, step := range []struct {
		serial int64
		newest bool
	}{{3, true}, {3, false}, {2, false}, {4, true}, {9, true}, {8, false}} {
		r := registration("acme", step.serial, fmt.Sprint("key ", step.serial))
		err := s.Register(ctx, r)
		if step.newest {
			must(t, err)
			wantSame(t, "the newest", r, registered(t, s)["acme"])
		} else if !errors.Is(err, plan.ErrStale) {
			t.Errorf("serial %d: %v, not ErrStale", step.serial, err)
		}
	}
	must(t, s.Register(ctx, registration("bolt", 1, "bolt's")))
	want := map[string]plan.Registration{"acme": registration("acme", 9, "key 9"),
		"bolt": registration("bolt", 1, "bolt's")}
	wantSame(t, "all", want, registered(t, reopen(t, s, open)))
}
