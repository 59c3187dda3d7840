package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
)

func operators(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	ada := access.Token{Name: "ada", Roles: access.Roles{access.Admin}, Hash: "h1", Created: noon}
	ci := access.Token{Name: "ci", Roles: access.Roles{access.Operator, access.Approver}, Hash: "h2", Created: noon, Expires: noon.Add(time.Hour)}
	must(t, s.AddToken(ctx, ci))
	must(t, s.AddToken(ctx, ada))
	for _, again := range []access.Token{{Name: "ada", Roles: access.Roles{access.Viewer}, Hash: "h3", Created: noon},
		{Name: "eve", Roles: access.Roles{access.Admin}, Hash: "h1", Created: noon}} {
		if err := s.AddToken(ctx, again); !errors.Is(err, access.ErrTaken) {
			t.Errorf("%+v: %v, not ErrTaken", again, err)
		}
	}
	s = reopen(t, s, open)
	all, err := s.Tokens(ctx)
	must(t, err)
	wantSame(t, "all, by name", []access.Token{ada, ci}, all)
	for hash, want := range map[string]access.Token{"h1": ada, "h2": ci} {
		got, err := s.Token(ctx, hash)
		must(t, err)
		wantSame(t, "the token of "+hash, want, got)
	}
	for _, hash := range []string{"", "h3", "H1"} {
		if got, err := s.Token(ctx, hash); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("the token of %q: %+v (%v), not ErrUnknown", hash, got, err)
		}
	}
	must(t, s.RemoveToken(ctx, "ada"))
	if err := s.RemoveToken(ctx, "ada"); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("removed twice: %v, not ErrUnknown", err)
	}
	if _, err := s.Token(ctx, "h1"); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("a removed token is found: %v", err)
	}
	must(t, s.AddToken(ctx, ada))
}

func auditEntries(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	entry := func(n int) access.Entry {
		return access.Entry{At: noon.Add(time.Duration(n) * time.Second), Who: "ada", What: fmt.Sprint("did ", n),
			From: "192.0.2.1:5000"}
	}
	for n := range 5 {
		must(t, s.RecordAudit(ctx, entry(n)))
	}
	s = reopen(t, s, open)
	for limit, want := range map[int][]access.Entry{2: {entry(4), entry(3)},
		100: {entry(4), entry(3), entry(2), entry(1), entry(0)}} {
		got, err := s.AuditEntries(ctx, limit)
		must(t, err)
		wantSame(t, fmt.Sprintf("the newest %d", limit), want, got)
	}
}

// exportAudit returns what verifying an export finds.
func exportAudit(t *testing.T, s Store, earlier ...audit.Head) audit.Report {
	t.Helper()
	var text bytes.Buffer
	var e *audit.Exporter
	must(t, s.ExportAudit(t.Context(), func(h audit.Header) (err error) {
		text.Reset()
		e, err = audit.NewExporter(&text, h)
		return err
	}, func(r audit.Sealed) error { return e.Write(r) }))
	var known []audit.Witness
	for _, h := range earlier {
		known = append(known, audit.Witness{Head: h, From: "an earlier export"})
	}
	r, err := audit.Verify(&text, known)
	must(t, err)
	return r
}

// Entries of many callers at once are one chain, which survives a restart and a cut.
func auditChain(t *testing.T, open Open) {
	s, ctx := opened(t, open), t.Context()
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			e := access.Entry{At: noon, Who: fmt.Sprint("caller ", n), What: "<did> it"}
			if err := s.RecordAudit(ctx, e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	before := exportAudit(t, s)
	if len(before.Findings) > 0 || before.Rows != 100 || before.Head.Number != 100 {
		t.Fatalf("%+v", before)
	}
	s = reopen(t, s, open)
	must(t, s.RecordAudit(ctx, access.Entry{At: noon, Who: "ada"}))
	must(t, s.CutAudit(ctx, 40))
	must(t, s.CutAudit(ctx, 40))
	must(t, s.RecordAudit(ctx, access.Entry{At: noon, Who: "bo"}))
	after := exportAudit(t, s, before.Head)
	for from, open := range map[int64]time.Time{0: noon, 101: noon, 102: {}, 200: {}} {
		got, err := s.AuditChain(ctx, from)
		must(t, err)
		want := audithead.Chain{Row: 102, Hash: after.Head.Hash, Open: open}
		wantSame(t, fmt.Sprint("how far the audit is after row ", from), want, got)
	}
	if len(after.Findings) > 0 || after.Rows != 41 || after.First != 62 || after.Last != 102 ||
		after.Cut.Number != 61 || after.Compared != 1 {
		t.Errorf("%+v", after)
	}
}
