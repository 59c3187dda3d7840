package audit_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/access"
	"github.com/sluice-cd/sluice/engine/audit"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func chain(t *testing.T, head audit.Head, n int) ([]audit.Sealed, audit.Head) {
	t.Helper()
	var entries []access.Entry
	for i := range n {
		entries = append(entries, access.Entry{At: noon.Add(time.Duration(i) * time.Minute), Who: "ada",
			What: fmt.Sprintf("did <%d> & more", i), From: "192.0.2.1:5000"})
	}
	rows, head, err := audit.Chain(head, entries)
	if err != nil {
		t.Fatal(err)
	}
	return rows, head
}

func export(t *testing.T, h audit.Header, rows []audit.Sealed) []byte {
	t.Helper()
	var out bytes.Buffer
	e, err := audit.NewExporter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := e.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func verify(t *testing.T, text []byte, earlier ...audit.Head) audit.Report {
	t.Helper()
	var known []audit.Witness
	for _, h := range earlier {
		known = append(known, audit.Witness{Head: h, From: "an earlier export"})
	}
	r, err := audit.Verify(bytes.NewReader(text), known)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWholeChain(t *testing.T) {
	first, head := chain(t, audit.Head{}, 50)
	at50 := head
	more, head := chain(t, head, 50)
	rows := append(first, more...)
	r := verify(t, export(t, audit.Header{Head: head}, rows), at50, head)
	if len(r.Findings) != 0 || r.Rows != 100 || r.First != 1 || r.Last != 100 || r.Compared != 2 {
		t.Errorf("%+v", r)
	}
	// What was cut for its age leaves its hash, which the next row and a earlier head are compared with.
	cut := audit.Head{Number: 50, Hash: rows[49].Hash}
	r = verify(t, export(t, audit.Header{Cut: cut, Head: head}, rows[50:]), at50, head)
	if len(r.Findings) != 0 || r.First != 51 || r.Compared != 2 {
		t.Errorf("after a cut: %+v", r)
	}
	if r := verify(t, export(t, audit.Header{}, nil)); len(r.Findings) != 0 {
		t.Errorf("an empty audit: %+v", r)
	}
}

// Whatever is changed or removed is found, and the row is named.
func TestFalsifiedChain(t *testing.T) {
	rows, head := chain(t, audit.Head{}, 20)
	earlier := audit.Head{Number: 15, Hash: rows[14].Hash}
	replace := func(row int, old, text string, rehash bool) func([]audit.Sealed) []audit.Sealed {
		return func(all []audit.Sealed) []audit.Sealed {
			all[row-1].Body = strings.Replace(all[row-1].Body, old, text, 1)
			if rehash {
				all[row-1].Hash = audit.HashRow([]byte(all[row-1].Body))
			}
			return all
		}
	}
	for name, c := range map[string]struct {
		falsify func([]audit.Sealed) []audit.Sealed
		head    audit.Head
		want    string
	}{
		"changed":               {replace(7, "ada", "eve", false), head, "row 7 was changed"},
		"changed with its hash": {replace(7, "ada", "eve", true), head, "row 8 does not follow row 7"},
		"another time":          {replace(3, "12:02", "13:02", false), head, "row 3 was changed"},
		"removed": {func(all []audit.Sealed) []audit.Sealed {
			return append(all[:9], all[10:]...)
		}, head, "row 10 is missing"},
		"several removed": {func(all []audit.Sealed) []audit.Sealed {
			return append(all[:9], all[12:]...)
		}, head, "rows 10 to 12 are missing"},
		"the first removed": {func(all []audit.Sealed) []audit.Sealed { return all[1:] }, head, "row 1 is missing"},
		"the end removed": {func(all []audit.Sealed) []audit.Sealed { return all[:18] }, head,
			"rows 19 to 20 are missing"},
		"the end removed, and the newest hash replaced": {func(all []audit.Sealed) []audit.Sealed { return all[:10] },
			audit.Head{Number: 10, Hash: rows[9].Hash}, "an earlier export ends with row 15"},
		"swapped": {func(all []audit.Sealed) []audit.Sealed {
			all[4], all[5] = all[5], all[4]
			return all
		}, head, "row 5 is missing"},
		"twice": {func(all []audit.Sealed) []audit.Sealed { return append(all[:6], all[5:]...) }, head,
			"row 6 comes after row 6"},
		"one too many": {func(all []audit.Sealed) []audit.Sealed {
			more, _ := chain(t, head, 1)
			return append(all, more...)
		}, head, "there are rows after row 20"},
	} {
		t.Run(name, func(t *testing.T) {
			all := c.falsify(append([]audit.Sealed(nil), rows...))
			r := verify(t, export(t, audit.Header{Head: c.head}, all), earlier)
			if len(r.Findings) == 0 || !strings.Contains(fmt.Sprint(r.Findings), c.want) {
				t.Errorf("found %v, want %q", r.Findings, c.want)
			}
			if len(r.Findings) > 3 {
				t.Errorf("one change is found %d times", len(r.Findings))
			}
		})
	}
	// Somebody who writes a whole chain anew is found by an earlier export.
	var entries []access.Entry
	for range 20 {
		entries = append(entries, access.Entry{At: noon, Who: "nobody", What: "did nothing"})
	}
	other, otherHead, err := audit.Chain(audit.Head{}, entries)
	if err != nil {
		t.Fatal(err)
	}
	r := verify(t, export(t, audit.Header{Head: otherHead}, other), earlier)
	if !strings.Contains(fmt.Sprint(r.Findings), "row 15 is not the one that an earlier export ends with") {
		t.Errorf("%+v", r)
	}
}

func TestNoExport(t *testing.T) {
	for _, text := range []string{"", "{}", "[]\n", "{\"format\":\"other\"}\n", strings.Repeat("x", 1<<20)} {
		if _, err := audit.Verify(strings.NewReader(text), nil); err == nil {
			t.Errorf("%.20q is taken", text)
		}
	}
	good := "{\"format\":\"sluice audit/1\",\"cut\":{\"number\":0},\"head\":{\"number\":1}}\n"
	for _, text := range []string{"x\n", strings.Repeat("y", 1<<20)} {
		if _, err := audit.Verify(strings.NewReader(good+text), nil); err == nil {
			t.Errorf("%.20q is taken", text)
		}
	}
	if r := verify(t, []byte(good+"{\"hash\":\"\",\"row\":[1]}\n")); len(r.Findings) == 0 {
		t.Error("a row that is none is taken")
	}
}

func TestLongEntriesAreCut(t *testing.T) {
	rows, _, err := audit.Chain(audit.Head{}, []access.Entry{{Who: strings.Repeat("w", 1<<20),
		What: strings.Repeat("\x01", 1<<20), From: strings.Repeat("f", 1<<20)}})
	if err != nil || len(rows[0].Body) > 32<<10 {
		t.Errorf("%d bytes (%v)", len(rows[0].Body), err)
	}
	verify(t, export(t, audit.Header{Head: audit.Head{Number: 1, Hash: rows[0].Hash}}, rows))
}
