package postgres_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	server "github.com/sluice-cd/sluice/test/postgres"
)

// A cell's report must not fail the reports of others, by text that PostgreSQL rejects or by an error of its row.
func TestBadDataFailsOnlyItsReport(t *testing.T) {
	t.Parallel()
	address := server.NewDatabase(t)
	s, conn := open(t, address), connect(t, address)
	failOn(t, conn, "cells", "NEW.name = 'poison'", "22023")
	long := strings.Repeat("é", 5000)
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			name := fmt.Sprintf("cell-%02d", n)
			r := report(name, 1, "nul \x00, bad \xff, "+long)
			r[0].State.Channel, r[0].State.Release, r[0].Boot = "a\x00b"+long, "\xff", "boot\x00"+long
			r[0].Events = []cells.Event{{Number: 1, Kind: "healed", Detail: "\x00" + long}}
			if err := s.RecordReports(t.Context(), r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if n%8 == 0 {
				if err := s.RecordReports(t.Context(), report("poison", 1, "")); err == nil {
					t.Error("the poisonous report was kept")
				}
			}
			if err := s.RecordReports(t.Context(), report(name, 2, "well")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if err := s.RecordReports(t.Context(), report("a\x00b", 1, "")); err == nil {
		t.Error("a cell without a name was kept")
	}
	o, err := s.Observed(t.Context())
	if err != nil || len(o.Cells) != 40 || o.Cells["cell-00"].Message != "well" {
		t.Errorf("%d cells (%v)", len(o.Cells), err)
	}
	if kept, err := s.Events(t.Context(), "cell-07", 10); err != nil || len(kept) != 1 ||
		kept[0].Detail != "\x00"+long {
		t.Errorf("%d events (%v)", len(kept), err)
	}
}

// Follow compares versions, and so finds reports without a notification, but not this store's own.
func TestFollowComparesVersions(t *testing.T) {
	t.Parallel()
	address := server.NewDatabase(t)
	s := openWith(t, address, postgres.Options{Compare: time.Millisecond})
	conn := connect(t, address)
	must(t, s.RecordReports(t.Context(), slices.Concat(report("acme", 1, ""), report("bolt", 1, ""))))
	told := make(chan engine.StoreUpdate, 100)
	go func() { _ = s.Follow(t.Context(), func(n engine.StoreUpdate) { told <- n }) }()
	all(t, told)
	must(t, s.RecordReports(t.Context(), report("bolt", 2, "")))
	execSQL(t, conn, `UPDATE cells SET version = version + 1 WHERE name = 'acme'`)
	for n := range told {
		if len(n.Cells) > 0 {
			if !slices.Equal(n.Cells, []string{"acme"}) || !n.Known {
				t.Errorf("told of %+v, not of acme alone", n)
			}
			break
		}
	}
}

// Many names are sent in several notifications: PostgreSQL accepts fewer than 8000 bytes.
func TestLongNotificationsAreSplit(t *testing.T) {
	t.Parallel()
	address := server.NewDatabase(t)
	s, other := open(t, address), open(t, address)
	told := make(chan engine.StoreUpdate, 1000)
	go func() { _ = s.Follow(t.Context(), func(n engine.StoreUpdate) { told <- n }) }()
	all(t, told)
	const many = 2000
	var batch []plan.Reported
	for n := range many {
		r := report(fmt.Sprintf("%s-%d", strings.Repeat("x", 50), n), 1, "")
		r[0].Material = n%2 == 0
		batch = append(batch, r...)
	}
	for i := range batch { // separately, so that each is material or not by itself
		must(t, other.RecordReports(t.Context(), batch[i:i+1]))
		if i == 100 {
			must(t, other.RecordReports(t.Context(), batch[i+1:]))
			break
		}
	}
	heard := map[string]bool{}
	for len(heard) < many {
		for _, name := range (<-told).Cells {
			heard[name] = true
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	address := server.NewDatabase(t)
	const history = 50
	number, version := int64(0), int64(0)
	for range 2 {
		s := openWith(t, address, postgres.Options{History: history})
		for range 30 {
			version++
			r := report("acme", version, "")
			for range 10 {
				number++
				r[0].Events = append(r[0].Events, cells.Event{Number: number, Kind: "healed"})
			}
			must(t, s.RecordReports(t.Context(), r))
		}
		kept, err := s.Events(t.Context(), "acme", 1000)
		must(t, err)
		if n := len(kept); n < history || n > history+100 || kept[n-1].Number != number {
			t.Errorf("%d events kept, the last %d of %d; wanted the last %d or a few more", n, kept[n-1].Number, number,
				history)
		}
		s.Close()
	}
}

// Replicas that start together migrate the same new database.
func TestOpenedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	address := server.NewDatabase(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(t.Context(), address, postgres.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	address := server.NewDatabase(t)
	open(t, address).Close()
	execSQL(t, connect(t, address), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`)
	if _, err := postgres.Open(t.Context(), address, postgres.Options{}); err == nil ||
		!strings.Contains(err.Error(), "newer sluice") {
		t.Errorf("opened a newer schema: %v", err)
	}
}

func TestOpenNamesTheFault(t *testing.T) {
	t.Parallel()
	good, err := url.Parse(server.NewDatabase(t))
	must(t, err)
	with := func(change func(u *url.URL)) string {
		u := *good
		change(&u)
		return u.String()
	}
	secret, _ := good.User.Password()
	for name, c := range map[string]struct {
		address, want string
		cause         error
		busy          bool
	}{
		"no URL":        {"postgres://sluice:" + secret + "@[::bad/x", "postgres://USER@HOST", nil, false},
		"not an option": {with(func(u *url.URL) { u.RawQuery = "sslmode=perhaps" }), "postgres://USER@HOST", nil, false},
		"another password": {with(func(u *url.URL) { u.User = url.UserPassword("sluice", secret+"x") }), "",
			postgres.ErrUser, false},
		"another user": {with(func(u *url.URL) { u.User = url.UserPassword("nobody", secret) }), "", postgres.ErrUser,
			false},
		"no such database": {with(func(u *url.URL) { u.Path = "/nowhere" }), "", postgres.ErrNoDatabase, false},
		"nobody listens":   {with(func(u *url.URL) { u.Host = "127.0.0.1:1" }), "127.0.0.1", plan.ErrAway, true},
		"no such host":     {with(func(u *url.URL) { u.Host = "nowhere.invalid:5432" }), "", plan.ErrAway, true},
		"a server that is read only": {with(func(u *url.URL) {
			u.RawQuery = "default_transaction_read_only=on"
		}), "", plan.ErrReadOnly, true},
	} {
		_, err := postgres.Open(t.Context(), c.address, postgres.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, plan.ErrBusy) != c.busy ||
			c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%s: %v; wanted %q, %v, busy %v", name, err, c.want, c.cause, c.busy)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the password", name)
		}
	}
}

// Every call on a closed store returns ErrClosed.
func TestClosedStoreReturnsErrClosed(t *testing.T) {
	t.Parallel()
	s := open(t, server.NewDatabase(t))
	told, followed := make(chan engine.StoreUpdate, 10), make(chan error, 1)
	go func() { followed <- s.Follow(t.Context(), func(n engine.StoreUpdate) { told <- n }) }()
	all(t, told)
	must(t, s.Close())
	_, known := s.Known(t.Context())
	_, now := s.Now(t.Context())
	_, _, leads := s.AcquireLease(t.Context(), time.Second)
	for what, err := range map[string]error{
		"known": known, "now": now, "lead": leads, "follow": <-followed, "ready": s.Ready(t.Context()),
		"report": s.RecordReports(t.Context(), report("acme", 1, "")), "seen": s.RecordSeen(t.Context(), "", nil),
	} {
		if !errors.Is(err, postgres.ErrClosed) {
			t.Errorf("%s: %v, not ErrClosed", what, err)
		}
	}
}
